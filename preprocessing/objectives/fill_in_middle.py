# SPDX-License-Identifier: Apache-2.0
"""Fill in the middle: pieces of text whose middle is moved to the end.

    text  a b c     prefix first   <pre> a <suf> c <mid> b EOS
                    suffix first   <pre> <suf> c <mid> a b EOS

Both forms, their rates and cutting between any two characters are those of Bavarian et
al. 2022, arXiv 2207.14255, sections 3 and 4.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.foundation.seed_purposes import FillInMiddleDraw
from preprocessing.foundation.string_buffers import array_of, views
from preprocessing.objectives.examples import (
    Examples,
    draw,
    example_words,
    joined,
    share,
    uniform,
)
from preprocessing.tokenizer.tokenizer import Tokenizer

# A cut within a word may give it more ids than it had: 1 or 2 a cut, as a rule.
SLACK = 8
_LONGEST_CHARACTER = 4
# Pieces are worked on so many ids at a time, that is 20 bytes for each; a huge document
# of 80 million took 3.3 GB at once.
GROUP_IDS = 1 << 20


def fill_in_middle(
    tokenizer: Tokenizer,
    texts: pa.LargeStringArray,
    keys: np.ndarray,
    special: np.ndarray,
    rates: tuple[float, float],
    sequence_length: int,
    seed: int,
    group_ids: int = GROUP_IDS,
) -> Examples:
    """Turns texts into examples; those not chosen stay [BOS] text EOS.

    Of a long document each piece is chosen on its own; one that stays has BOS and EOS
    only where the document begins and ends. A piece that no longer fits a row when its
    parts are encoded (words cut in two may take many more ids) stays too.

    Args:
        tokenizer: encodes.
        texts: the documents.
        keys: theirs, uint8 [documents, 16].
        special: ids put before prefix, middle and suffix.
        rates: share of pieces chosen, and of those that have the suffix first.
        sequence_length: S, 16 or more; a row holds S + 1 ids.
        seed: of the draws.
        group_ids: ids of the pieces that are worked on at once.
    """
    ids, lengths = tokenizer.encode_batch(texts, tokenizer.id_dtype)
    bos = int(tokenizer.bos_id is not None)
    room = sequence_length + 1 - bos - 1 - 3 - min(SLACK, sequence_length // 8)
    document, start = _cut(ids, lengths, room, _spelling(tokenizer).begins_character)
    origin = (np.cumsum(lengths) - lengths)[document] + start
    length = np.diff(np.append(origin, len(ids)))
    pieces = _Pieces(
        length=length,
        begin=np.where(start > 0, 0, bos),
        last=start + length == lengths[document],
        words=example_words(seed, keys[document], start),
    )
    made = []
    for group in _groups(length, group_ids):
        first = int(origin[group.start]) if len(origin) else 0
        of_group = ids[first : first + int(length[group].sum())]
        made.append(
            _made(
                tokenizer, of_group, pieces.at(group), special, rates, sequence_length
            )
        )
    return Examples(
        ids=np.concatenate([each for each, _ in made]),
        lengths=np.concatenate([sizes for _, sizes in made]),
        document=document,
        start=np.where(start > 0, start + bos, 0),
        prefix=np.zeros(len(start), np.int64),
    )


@dataclass(frozen=True)
class _Pieces:
    """Pieces that follow one another, [n] each.

    Attributes:
        length: ids of a piece.
        begin: BOS ids of a piece that is not moved.
        last: whether its document ends with it.
        words: what it draws from.
    """

    length: np.ndarray
    begin: np.ndarray
    last: np.ndarray
    words: np.ndarray

    def at(self, group: slice) -> "_Pieces":
        return _Pieces(
            self.length[group], self.begin[group], self.last[group], self.words[group]
        )


def _groups(lengths: np.ndarray, most: int) -> list[slice]:
    """Cuts pieces into groups of about `most` ids; of none there is one group."""
    numbers = np.cumsum(lengths) // most
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(lengths)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def _made(
    tokenizer: Tokenizer,
    ids: np.ndarray,
    pieces: _Pieces,
    special: np.ndarray,
    rates: tuple[float, float],
    sequence_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of the pieces' examples, and of each how many, int64 [n]."""
    bos, length, words = int(tokenizer.bos_id is not None), pieces.length, pieces.words
    origin = np.cumsum(length) - length
    chosen = np.flatnonzero(share(draw(words, FillInMiddleDraw.MOVE)) < rates[0])
    part_ids, parts = _parts(
        tokenizer,
        joined(ids, [(origin[chosen], length[chosen])]),
        length[chosen],
        words[chosen],
    )
    fits = bos + 3 + parts.sum(axis=1) + 1 <= sequence_length + 1
    moved = np.zeros(len(length), bool)
    moved[chosen[fits]] = True
    sizes, begins = (np.zeros((len(length), 3), np.int64) for _ in range(2))
    sizes[chosen[fits]] = parts[fits]
    begins[chosen] = (np.cumsum(parts) - parts.ravel()).reshape(-1, 3)
    runs = _runs(
        (moved, moved & (share(draw(words, FillInMiddleDraw.FORM)) < rates[1])),
        (pieces.begin, pieces.last),
        (5 + origin, np.where(moved, 0, length)),
        (5 + len(ids) + begins, sizes),
        bos,
    )
    marks = np.array([tokenizer.bos_id or 0, tokenizer.eos_id, *special], ids.dtype)
    return (
        joined(np.concatenate([marks, ids, part_ids]), runs),
        np.sum([size for _, size in runs], axis=0),
    )


def _runs(
    forms: tuple[np.ndarray, np.ndarray],
    edges: tuple[np.ndarray, np.ndarray],
    whole: tuple[np.ndarray, np.ndarray],
    parts: tuple[np.ndarray, np.ndarray],
    bos: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns what each example is joined from, in order, as `joined` takes it.

    The pool holds BOS, EOS, the three special ids, whole pieces, then parts.

    Args:
        forms: which pieces are moved, and which of those have the suffix first.
        edges: BOS ids of a piece that is not moved, and whether EOS follows it.
        whole: where each piece begins in the pool and how long it is, if not moved.
        parts: where prefix, middle and suffix begin and how long they are, [n, 3].
        bos: BOS ids of a piece that is moved.
    """
    moved, suffix_first = forms
    starts, sizes = parts
    zero = np.zeros(len(moved), np.int64)
    one = moved.astype(np.int64)
    return [
        (zero, np.where(moved, bos, edges[0])),
        whole,
        (zero + 2, one),
        (starts[:, 0], np.where(suffix_first, 0, sizes[:, 0])),
        (zero + 4, one),
        (starts[:, 2], sizes[:, 2]),
        (zero + 3, one),
        (starts[:, 0], np.where(suffix_first, sizes[:, 0], 0)),
        (starts[:, 1], sizes[:, 1]),
        (zero + 1, (moved | edges[1]).astype(np.int64)),
    ]


def _cut(
    ids: np.ndarray, lengths: np.ndarray, room: int, begins_character: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts texts into pieces of at most `room` ids, between two characters.

    Returns:
        (text, first id of it) of each piece, int64 [pieces]; a text has one or more.
    """
    # Ids can cut a character in up to four: a border moves back by three at most.
    stride = room - (_LONGEST_CHARACTER - 1)
    counts = np.where(lengths > room, -(-lengths // stride), 1)
    text = np.repeat(np.arange(len(lengths)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    start = (np.arange(len(text)) - first) * stride
    inner = np.flatnonzero(start)
    place = (np.cumsum(lengths) - lengths)[text[inner]] + start[inner]
    for _ in range(_LONGEST_CHARACTER - 1):
        back = ~begins_character[ids[place]]
        place -= back
        start[inner] -= back
    return text, start


def _parts(
    tokenizer: Tokenizer, ids: np.ndarray, lengths: np.ndarray, words: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts pieces in three at two characters drawn from each, and encodes the parts.

    Args:
        tokenizer: encodes.
        ids: of the pieces, one after another; each spells whole characters.
        lengths: ids of each piece, int64 [n].
        words: what each draws from, uint64 [n].

    Returns:
        The parts' ids one after another, and the ids of each, int64 [n, 3]: prefix,
        middle, suffix.
    """
    data, offsets = views(_spelling(tokenizer).words.take(pa.array(ids)))
    edges = offsets[np.append(0, np.cumsum(lengths))]
    characters = np.flatnonzero((data[: edges[-1]] & 0xC0) != 0x80)
    first = np.searchsorted(characters, edges)
    places = np.diff(first) + 1  # a cut may come before any character or after all
    drawn = (FillInMiddleDraw.ONE_CUT, FillInMiddleDraw.OTHER_CUT)
    cuts = np.sort([uniform(draw(words, each), places) for each in drawn], axis=0)
    at = np.append(characters, edges[-1])[first[:-1] + cuts]
    borders = np.append(np.stack([edges[:-1], *at], axis=1).ravel(), edges[-1])
    texts = array_of(data, borders)
    part_ids, part_lengths = tokenizer.encode_batch(texts, tokenizer.id_dtype)
    return part_ids, part_lengths.reshape(-1, 3)


@dataclass(frozen=True)
class _Spelling:
    """The bytes of each id, and whether they begin with a character's first byte."""

    words: pa.LargeBinaryArray
    begins_character: np.ndarray


@functools.lru_cache(maxsize=1)
def _spelling(tokenizer: Tokenizer) -> _Spelling:
    table = tokenizer.token_bytes()
    begins = [not word or (word[0] & 0xC0) != 0x80 for word in table]
    return _Spelling(pa.array(table, pa.large_binary()), np.array(begins, bool))


def middle_put_back(ids: np.ndarray, special: np.ndarray) -> np.ndarray:
    """Returns ids that spell the text an example was made from: the inverse.

    Args:
        ids: the example's; without the special ids they are returned as they are.
        special: ids before prefix, middle and suffix.
    """
    before_prefix, before_middle, before_suffix = (
        np.flatnonzero(ids == mark) for mark in special
    )
    if not len(before_prefix):
        return ids
    prefix, suffix = int(before_prefix[0]), int(before_suffix[0])
    middle = int(before_middle[0])
    # With the suffix first nothing stands between the first two marks, and the prefix
    # stands before the middle anyway.
    return np.concatenate(
        [
            ids[:prefix],
            ids[prefix + 1 : suffix],
            ids[middle + 1 :],
            ids[suffix + 1 : middle],
        ]
    )
