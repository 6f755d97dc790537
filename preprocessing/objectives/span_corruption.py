# SPDX-License-Identifier: Apache-2.0
"""Span corruption: pieces of text with holes, and what was in the holes.

    text     a b c d e f g h i
    inputs   a b <0> e f g <1>          targets  <0> c d <1> h i

The first part always stays and the last always goes, as in T5's
`random_spans_noise_mask`; the sizes of holes, and of what stays between them, are drawn
from all that add up, each as likely (Raffel et al. 2020, arXiv 1910.10683).
"""

import numpy as np
import pyarrow as pa

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.seed_purposes import SpanCorruptionDraw
from preprocessing.objectives.examples import Examples, draw, example_words, pieces
from preprocessing.objectives.noise_spans import NoiseConfig
from preprocessing.objectives.pairs import PairRoom
from preprocessing.tokenizer.tokenizer import Tokenizer

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def corrupt(
    tokenizer: Tokenizer,
    texts: pa.LargeStringArray,
    keys: np.ndarray,
    sentinels: np.ndarray,
    noise: NoiseConfig,
    room: PairRoom,
    seed: int,
) -> Examples:
    """Turns texts into examples [BOS] inputs [EOS] targets EOS.

    The EOS between them is there where both sides stand apart.

    Args:
        tokenizer: encodes.
        texts: the documents.
        keys: theirs, uint8 [documents, 16].
        sentinels: ids that stand for holes, in order.
        noise: how many holes, and how large.
        room: what an example fits into; longer documents are cut into pieces.
        seed: of the draws.
    """
    ids, lengths = tokenizer.encode_batch(texts, tokenizer.id_dtype)
    bos, apart = int(tokenizer.bos_id is not None), int(room.targets is not None)
    longest = noise.longest_piece(room, bool(bos), len(sentinels))
    document, start, length = pieces(lengths, longest)
    taken, holes = noise.count(length)
    prefix = bos + length - taken + holes + apart
    made = prefix + taken + holes + 1
    begins = np.cumsum(made) - made
    out = np.full(int(made.sum()), tokenizer.eos_id, ids.dtype)
    if tokenizer.bos_id is not None:
        out[begins] = tokenizer.bos_id
    words = draw(example_words(seed, keys[document], start), SpanCorruptionDraw.BORDERS)
    # Pieces follow one another as their ids do.
    origins = np.cumsum(length) - length
    _write(
        ids,
        np.stack([origins, length, taken, holes, begins + bos, begins + prefix], 1),
        words,
        sentinels.astype(ids.dtype),
        out,
    )
    start = np.where(start > 0, start + bos, 0)
    return Examples(out, made, document, start, prefix)


@compiled
def _write(
    ids: np.ndarray,
    pieces_of_text: np.ndarray,
    words: np.ndarray,
    sentinels: np.ndarray,
    out: np.ndarray,
) -> None:
    """Writes inputs and targets of each piece where they belong in `out`.

    Args:
        ids: of all texts, unsigned.
        pieces_of_text: of each piece where it begins in `ids`, its length, ids to take
            out, holes, and where inputs and targets begin in `out`, int64 [n, 6].
        words: what each piece draws from, uint64 [n].
        sentinels: their ids, of the same type.
        out: of the same type; BOS and EOS are there already.
    """
    most = 1
    for number in range(len(pieces_of_text)):
        most = max(most, pieces_of_text[number, 3])
    stays, goes = np.empty(most, np.int64), np.empty(most, np.int64)
    for number in range(len(pieces_of_text)):
        source, length = pieces_of_text[number, 0], pieces_of_text[number, 1]
        taken, holes = pieces_of_text[number, 2], pieces_of_text[number, 3]
        left, right = pieces_of_text[number, 4], pieces_of_text[number, 5]
        if holes == 0:
            for place in range(length):
                out[left + place] = ids[source + place]
            continue
        word = _compose(length - taken, holes, words[number], stays)
        _compose(taken, holes, word, goes)
        for hole in range(holes):
            for _ in range(stays[hole]):
                out[left] = ids[source]
                left += 1
                source += 1
            out[left] = sentinels[hole]
            out[right] = sentinels[hole]
            left += 1
            right += 1
            for _ in range(goes[hole]):
                out[right] = ids[source]
                right += 1
                source += 1


@compiled
def _compose(total: int, parts: int, word: np.uint64, sizes: np.ndarray) -> np.uint64:
    """Draws positive sizes of `parts` parts that add up to `total`, all as likely.

    Every gap between two of the `total` is a border with the chance of those left
    (Knuth, The Art of Computer Programming 2, algorithm 3.4.2 S); each takes one step
    of SplitMix64. Returns the word after the last step.
    """
    borders, size, part = parts - 1, 1, 0
    for left in range(total - 1, 0, -1):
        word += _GAMMA
        bits = (word ^ (word >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
        bits ^= bits >> np.uint64(31)
        place = ((bits >> np.uint64(32)) * np.uint64(left)) >> np.uint64(32)
        if np.int64(place) < borders:
            sizes[part] = size
            part += 1
            size = 1
            borders -= 1
        else:
            size += 1
    sizes[part] = size
    return word
