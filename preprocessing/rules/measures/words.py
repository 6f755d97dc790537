# SPDX-License-Identifier: Apache-2.0
"""What a word is, for every rule that counts words; found once for a batch.

White space separates. From both ends of what stands between, brackets, quotes and other
marks are cut, each a word of its own; so are a row of dots, a full stop (unless it
follows a letter that stands alone, as in "J." and "U.S."), a currency or percent sign
at a number, and an English contraction ("'s", "n't", "'ll"). What is left is cut again,
the mark between being a word: at symbols, rows of dots, and the full-width marks of
Chinese and Japanese; at a comma between letters; at a hyphen, colon, slash, "<", ">" or
"=" between a letter or digit and a letter; at a hyphen between digits; at a full stop
between a small and a capital letter. An address ("https://a.b/c", "x@y.z", "a.com/b")
stays whole. A script without spaces gives one word for what stands between two spaces
or marks.

This follows what spaCy's blank English tokenizer does, which datatrove's Gopher and
FineWeb rules count by, without its thousand exceptions ("cannot" is one word here,
"10km" too, ":-)" three).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.foundation.compiled import compiled
from preprocessing.rules.measures import characters
from preprocessing.rules.measures.characters import LETTER, PUNCTUATION
from preprocessing.rules.measures.views import Spans, View, character, view
from preprocessing.rules.measures.word_cuts import find_words

HAS_LETTER = 1
ONLY_PUNCTUATION = 2


@dataclass(frozen=True)
class Words:
    """The words of a batch.

    Attributes:
        spans: where each lies.
        lengths: characters in each, int32 [k].
        kinds: HAS_LETTER if one of its characters is a letter, plus ONLY_PUNCTUATION
            if all of them are punctuation as CCNet lists it; uint8 [k].
    """

    spans: Spans
    lengths: np.ndarray
    kinds: np.ndarray


# The last batch and its words: rules that leave texts as they are pass the same object
# on, and the next rule finds the words here. A batch holds some megabytes.
_last: list[tuple[pa.LargeStringArray, View, Words]] = []


def of_batch(texts: pa.LargeStringArray) -> tuple[View, Words]:
    """Returns the view of texts [n] and the words in it."""
    for known, seen, words in _last:
        if known is texts:
            return seen, words
    seen = view(texts)
    words = describe(seen, find(seen))
    _last[:] = [(texts, seen, words)]
    return seen, words


def find(seen: View) -> Spans:
    """Returns the words of each document, as the head of this file says."""
    # A word a byte at most; what stays unwritten of the arrays takes no memory.
    most = int((seen.ends - seen.starts).sum())
    starts, ends = np.empty(most, np.int64), np.empty(most, np.int64)
    first = np.zeros(len(seen.starts) + 1, np.int64)
    count = find_words(
        seen.data, seen.starts, seen.ends, characters.table(), starts, ends, first
    )
    return Spans(starts[:count], ends[:count], first)


def describe(seen: View, spans: Spans) -> Words:
    """Returns words with what the rules ask of each of them."""
    lengths = np.empty(len(spans.starts), np.int32)
    kinds = np.empty(len(spans.starts), np.uint8)
    _describe(seen.data, spans.starts, spans.ends, characters.table(), lengths, kinds)
    return Words(spans, lengths, kinds)


@compiled
def _describe(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    table: np.ndarray,
    lengths: np.ndarray,
    kinds: np.ndarray,
) -> None:
    for word in range(len(starts)):
        place, end = starts[word], ends[word]
        length, some, every = 0, 0, PUNCTUATION
        while place < end:
            code, size = character(data, place)
            flags = int(table[code])
            some |= flags
            every &= flags
            length += 1
            place += size
        lengths[word] = length
        kind = HAS_LETTER if some & LETTER else 0
        kinds[word] = kind | (ONLY_PUNCTUATION if every else 0)
