# SPDX-License-Identifier: Apache-2.0
"""NFC inside a TensorFlow graph, exactly as `tokenizers` normalises.

    "e" U+0323 U+0302  ->  decomposed, marks in order, composed  ->  U+1EC7

Core operations alone: tensorflow_text has one for NFC, but of the Unicode version that
a server happens to be built with. Texts without a character that NFC may change, which
is most of them, cost one search.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.tokenizer.contested import nfc_ranges
from trainer.serving.character_classes import class_of
from trainer.serving.nfc_tables import nfc_tables

_PAGE = 256  # code points
_POINT_BITS = 21
_SECOND = 1 << 8  # flag beside a class: may be the second of a pair


class _Scan(NamedTuple):
    """Where composing is, for each run of characters that may compose.

    Attributes:
        starter: int32, the place of the character that others may join, -1 for none.
        point: int32, what it has become.
        last: int32, the class of the last character kept behind it, -1 for none.
    """

    starter: tf.Tensor
    point: tf.Tensor
    last: tf.Tensor


class NfcGraph:
    """The reference's NFC; half a megabyte of constants."""

    def __init__(self) -> None:
        """Asks the reference for its tables (two seconds, once a process)."""
        tables = nfc_tables()
        points = {p for first, last in nfc_ranges() for p in range(first, last + 1)}
        self._sensitive = f"(?s:.*){class_of(frozenset(points))}(?s:.*)"
        ordered = sorted(tables.decompositions)
        # Row 0 is of the code points that are not decomposed.
        rows = [(), *(tables.decompositions[point] for point in ordered)]
        self._rows = _Pages({point: row for row, point in enumerate(ordered, 1)})
        self._parts = np.array([part for row in rows for part in row], np.int32)
        self._splits = np.cumsum([0, *map(len, rows)], dtype=np.int32)
        seconds = {second for _, second in tables.compositions}
        self._classes = _Pages(
            {
                point: tables.classes.get(point, 0) + _SECOND * (point in seconds)
                for point in seconds | tables.classes.keys()
            }
        )
        pairs = sorted(tables.compositions)
        keys = [first << _POINT_BITS | second for first, second in pairs]
        self._pairs = np.array(keys, np.int64)
        self._composed = np.array([tables.compositions[p] for p in pairs], np.int32)

    def normalise(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns texts in NFC: string [batch], valid UTF-8."""
        affected = tf.where(tf.strings.regex_full_match(texts, self._sensitive))
        if_any = tf.gather_nd(texts, affected)
        return tf.tensor_scatter_nd_update(texts, affected, self._normalised(if_any))

    def _normalised(self, texts: tf.Tensor) -> tf.Tensor:
        decoded = tf.strings.unicode_decode(texts, "UTF-8")
        points, sizes = self._decomposed(decoded.values)
        owners = tf.repeat(decoded.value_rowids(), sizes)
        opens = tf.concat([[True], owners[1:] != owners[:-1]], 0)[: tf.size(owners)]
        points = self._in_order(points, opens)
        points, kept = self._joined(points, opens)
        owners = tf.boolean_mask(owners, kept)
        return _encoded(tf.boolean_mask(points, kept), owners, decoded.nrows())

    def _decomposed(self, points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns all parts of int32 code points, and how many each has."""
        rows, splits = self._rows.of(points), tf.constant(self._splits)
        sizes = tf.maximum(tf.gather(splits, rows + 1) - tf.gather(splits, rows), 1)
        within = tf.ragged.range(sizes).values
        places = tf.repeat(tf.gather(splits, rows), sizes) + within
        itself = tf.repeat(rows == 0, sizes)
        parts = tf.gather(tf.constant(self._parts), tf.where(itself, 0, places))
        return tf.where(itself, tf.repeat(points, sizes), parts), sizes

    def _in_order(self, points: tf.Tensor, opens: tf.Tensor) -> tf.Tensor:
        """Orders marks by their class, those of one class as they stand."""
        classes = self._classes.of(points) % _SECOND
        runs = tf.cumsum(tf.cast(opens | (classes == 0), tf.int64))
        count = tf.size(points, tf.int64)
        keys = runs * _SECOND + tf.cast(classes, tf.int64)
        # With its place in it no key is there twice, however a sort treats equal ones.
        order = tf.argsort(keys * count + tf.range(count))
        return tf.gather(points, order)

    def _joined(
        self, points: tf.Tensor, opens: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Composes int32 code points.

        A run begins where nothing can join what is before. All runs are worked on at
        once, the k-th character of each in the k-th turn; a run that has ended costs
        nothing more.

        Returns:
            the code points, and which of them are kept: others have joined one before.
        """
        marked = self._classes.of(points)
        begins = tf.where(opens | (marked == 0))[:, 0]
        begins = tf.cast(begins, tf.int32)
        sizes = tf.concat([begins[1:], [tf.size(points)]], 0) - begins
        order = tf.argsort(-sizes)
        begins, sizes = tf.gather(begins, order), tf.gather(sizes, order)
        starts = tf.gather(marked, begins) % _SECOND == 0
        scan = _Scan(
            starter=tf.where(starts, begins, -1),
            point=tf.gather(points, begins),
            last=tf.fill(tf.shape(begins), -1),
        )
        turns = tf.reduce_max(tf.concat([sizes, [1]], 0))
        none = tf.constant([[-1, -1, 0]])
        joined = tf.TensorArray(
            tf.int32, turns, infer_shape=False, element_shape=[None, 3]
        )

        def turn(
            k: tf.Tensor, scan: _Scan, joined: tf.TensorArray
        ) -> tuple[tf.Tensor, _Scan, tf.TensorArray]:
            count = tf.math.count_nonzero(sizes > k, dtype=tf.int32)
            places = begins[:count] + k
            before = _Scan(*(part[:count] for part in scan))
            scan, events = self._next(before, places, tf.gather(points, places))
            return k + 1, scan, joined.write(k, events)

        _, _, joined = tf.while_loop(
            lambda k, *_: k < turns,
            turn,
            (tf.constant(1), scan, joined.write(0, none)),
        )
        return _applied(points, joined.concat())

    def _next(
        self, scan: _Scan, places: tf.Tensor, points: tf.Tensor
    ) -> tuple[_Scan, tf.Tensor]:
        """Takes the next character of each run.

        Returns:
            the runs behind it, and for each that has joined one its place, that of the
            other, and what the two became, int32 [joined, 3].
        """
        classes = self._classes.of(points) % _SECOND
        pairs, composed = tf.constant(self._pairs), tf.constant(self._composed)
        key = tf.bitwise.left_shift(tf.cast(scan.point, tf.int64), _POINT_BITS)
        key += tf.cast(points, tf.int64)
        found = tf.minimum(tf.searchsorted(pairs, key), len(self._pairs) - 1)
        joins = (tf.gather(pairs, found) == key) & (scan.starter >= 0)
        joins &= scan.last < classes
        became = tf.gather(composed, found)
        events = tf.stack([places, scan.starter, became], 1)
        starts = ~joins & (classes == 0)
        behind = _Scan(
            starter=tf.where(starts, places, scan.starter),
            point=tf.where(joins, became, tf.where(starts, points, scan.point)),
            last=tf.where(joins, scan.last, tf.where(starts, tf.constant(-1), classes)),
        )
        return behind, tf.boolean_mask(events, joins)


def _encoded(points: tf.Tensor, owners: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns texts of int32 code points: string [count].

    TensorFlow's own op writes U+FFFD for the 66 code points that are no characters.

    Args:
        points: of all texts, one after the other.
        owners: the text that each is of, ascending.
        count: of texts.
    """
    more = [tf.cast(points >= first, tf.int32) for first in (0x80, 0x800, 0x10000)]
    behind = tf.add_n(more)
    heads = tf.gather(tf.constant([0, 0xC0, 0xE0, 0xF0]), behind)
    heads += tf.bitwise.right_shift(points, 6 * behind)
    # The column of each byte, counted from the end.
    columns = tf.range(3, -1, -1)
    rest = 0x80 + tf.bitwise.right_shift(points[:, None], 6 * columns) % 64
    values = tf.where(columns == behind[:, None], heads[:, None], rest)
    values = tf.boolean_mask(values, columns <= behind[:, None])
    texts = tf.gather(tf.constant([bytes([byte]) for byte in range(256)]), values)
    return tf.strings.unsorted_segment_join(texts, tf.repeat(owners, behind + 1), count)


def _applied(points: tf.Tensor, events: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns code points with what they became last, and which have joined none.

    Args:
        points: int32 [count].
        events: what joined, which it joined and what that became, in their order, int32
            [events, 3], one or more; places below 0 are none.
    """
    count = tf.size(points)
    number = tf.range(tf.shape(events)[0])
    last = tf.math.unsorted_segment_max(number, events[:, 1], count)
    became = tf.gather(events[:, 2], tf.maximum(last, 0))
    gone = tf.math.unsorted_segment_max(number, events[:, 0], count) >= 0
    return tf.where(last >= 0, became, points), ~gone


class _Pages:
    """A table over all code points, of which most pages are one and the same."""

    def __init__(self, values: dict[int, int]) -> None:
        """Takes what differs from 0."""
        table = np.zeros(0x110000, np.int32)
        table[[*values]] = [*values.values()]
        pages = table.reshape(-1, _PAGE)
        self._entries, numbers = np.unique(pages, axis=0, return_inverse=True)
        self._numbers = numbers.reshape(-1).astype(np.int32)

    def of(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the values of int32 code points."""
        page = tf.gather(tf.constant(self._numbers), points // _PAGE)
        return tf.gather_nd(
            tf.constant(self._entries), tf.stack([page, points % _PAGE], -1)
        )
