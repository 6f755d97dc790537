# SPDX-License-Identifier: Apache-2.0
"""Strings that end a text, found inside the graph as the engine finds them.

After each id the last bytes of a row's text are compared with each of its strings,
aligned at every place where the new bytes can end one:

    kept so far   new    string    ends looked at
    "...o"        "ver"  "over"    behind "v", "ve" and "ver": found behind the last

`trainer/serving/engine/stop_strings.py` is the same for whoever drives slots. Bytes are
compared and not ids, since a string may be cut into ids in many ways.
"""

from typing import NamedTuple

import tensorflow as tf

from preprocessing.contracts.signatures import STOP_DIVIDER

_ALL = tf.int32.max


class StopSearch(NamedTuple):
    """How far the search has come; each field `[batch]`.

    Attributes:
        tail: string, the last bytes, in which a string may have begun.
        before: int32, bytes of the row before them.
        cut: int32, bytes before the string that was found; the largest without one.
    """

    tail: tf.Tensor
    before: tf.Tensor
    cut: tf.Tensor

    @property
    def found(self) -> tf.Tensor:
        """Whether one was found: bool `[batch]`."""
        return self.cut < _ALL


class Stops(NamedTuple):
    """The strings that end each row.

    Attributes:
        strings: string `[batch]`, those of a row with `STOP_DIVIDER` between them;
            empty ones are none.
        parts: int32 `[batch, most, longest]`, the bytes of each.
        sizes: int32 `[batch, most]`, how many there are.
        token_bytes: string `[ids]`, as `GraphTokenizer.token_bytes`.
    """

    strings: tf.Tensor
    parts: tf.Tensor
    sizes: tf.Tensor
    token_bytes: tf.Tensor

    def start(self) -> StopSearch:
        """Returns a search before the first id."""
        none = tf.zeros_like(self.strings, tf.int32)
        return StopSearch(tf.fill(tf.shape(none), ""), none, none + _ALL)

    def step(self, search: StopSearch, token: tf.Tensor, kept: tf.Tensor) -> StopSearch:
        """Goes on behind one more id of the rows that `kept` names; all `[batch]`."""
        found = tf.cond(
            tf.reduce_any(self.sizes > 0),
            lambda: self._step(search, token, kept),
            lambda: search,
        )
        pairs = zip(found, search, strict=True)
        return StopSearch(*(tf.ensure_shape(new, old.shape) for new, old in pairs))

    def _step(
        self, search: StopSearch, token: tf.Tensor, kept: tf.Tensor
    ) -> StopSearch:
        new = tf.where(kept, bytes_of(token, self.token_bytes), "")
        text = tf.strings.join([search.tail, new])
        size, added = tf.strings.length(text), tf.strings.length(new)
        first = self._first(text, size, added)
        cut = tf.where(first < _ALL, search.before + first, search.cut)
        # A string that ends later begins within as many bytes less one.
        keep = tf.minimum(size, tf.reduce_max(self.sizes, axis=1) - 1)
        keep = tf.maximum(keep, 0)
        tail = tf.strings.substr(text, size - keep, keep)
        return StopSearch(tail, search.before + size - keep, cut)

    def _first(self, text: tf.Tensor, size: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
        """Returns the first byte of a string that ends in the last `added` bytes.

        int32 `[batch]`; the largest where none does.
        """
        # An end is so many bytes before the text's: [batch, strings, ends].
        back = tf.range(tf.reduce_max(added))
        starts = (size[:, None] - back)[:, None] - self.sizes[:, :, None]
        places = starts[..., None] + tf.range(tf.shape(self.parts)[2])
        width = tf.maximum(tf.reduce_max(size), 1)
        places = tf.clip_by_value(places, 0, width - 1)
        found = tf.gather(_bytes(text, width), places, batch_dims=1)
        within = tf.sequence_mask(self.sizes, tf.shape(self.parts)[2])[:, :, None]
        same = tf.reduce_all((found == self.parts[:, :, None]) | ~within, axis=-1)
        same &= (starts >= 0) & (back < added[:, None])[:, None]
        same &= (self.sizes > 0)[:, :, None]
        return tf.reduce_min(tf.where(same, starts, _ALL), axis=[1, 2])


def stops_of(strings: tf.Tensor, token_bytes: tf.Tensor) -> Stops:
    """Reads the strings of each row, `[batch]`; see `Stops`."""
    parts = tf.strings.split(strings, STOP_DIVIDER).to_tensor("")
    sizes = tf.strings.length(parts)
    longest = tf.reduce_max(tf.concat([tf.reshape(sizes, [-1]), [1]], axis=0))
    return Stops(strings, _bytes(parts, longest), sizes, token_bytes)


def ids_before(
    written: tf.Tensor, count: tf.Tensor, token_bytes: tf.Tensor, cut: tf.Tensor
) -> tf.Tensor:
    """Returns how many ids spell the first `cut` bytes of a row, the last in part.

    Args:
        written: int32 `[most, batch]`, a row per step.
        count: int32 `[batch]`, ids of each row.
        token_bytes: string `[ids]`.
        cut: int32 `[batch]`.
    """
    sizes = tf.strings.length(bytes_of(written, token_bytes))
    begun = tf.cumsum(sizes, exclusive=True) < cut
    own = tf.transpose(tf.sequence_mask(count, tf.shape(written)[0]))
    return tf.reduce_sum(tf.cast(begun & own, tf.int32), axis=0)


def bytes_of(ids: tf.Tensor, token_bytes: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of each id, of the shape of `ids`; none of an unknown one.

    `token_bytes` is string `[ids]` whose last one is empty.
    """
    last = tf.size(token_bytes) - 1
    known = tf.where((ids >= 0) & (ids < last), ids, last)
    return tf.gather(token_bytes, known)


def _bytes(texts: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of texts, int32 with one axis more, 0 behind them."""
    read = tf.io.decode_raw(texts, tf.uint8, fixed_length=width)
    return tf.cast(read, tf.int32)
