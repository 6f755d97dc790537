# SPDX-License-Identifier: Apache-2.0
"""A byte-level BPE as a SentencePiece model, the one BPE engine in TF Serving.

Bytes stand for themselves as the characters U+0001 to U+00FF (ISO-8859-1); NUL never
occurs in a text.
"""

import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from preprocessing.byte_level import ByteLevelBPE, word_bytes

# Piece types and field numbers: sentencepiece_model.proto (google/sentencepiece).
_NORMAL, _UNKNOWN = 1, 2
_BPE = 2
# A table of character replacements that replaces nothing: its size, then a trie
# (darts-clone) of 256 units whose labels are 0, which no byte of a text is. Without a
# table SentencePiece writes a line to standard error each time it loads the model.
_NO_REPLACEMENTS = struct.pack("<I", 1024) + bytes(1024)
# Lies outside of ISO-8859-1, so no text can spell it.
_UNKNOWN_PIECE = "\u2047"


class InexactMerges(Exception):
    """SentencePiece would not merge as the tokenizer does; the text says where."""


@dataclass(frozen=True)
class ScoredPiece:
    """One entry that encoding can produce: what it spells and when it is merged."""

    id: int
    spelling: bytes
    score: float


def scored_pieces(bpe: ByteLevelBPE) -> list[ScoredPiece]:
    """Chooses pieces and scores such that SentencePiece gives the tokenizer's ids.

    `tokenizers` merges the pair of best rank; SentencePiece merges any two neighbours
    that together spell a piece, best score first. The two agree when each piece is
    scored by the merge that makes it from its own bytes, pieces that are never made
    that way are left out, and a merge never comes before those that make its parts.
    For then, once all better merges are done, two neighbours that spell a piece are
    what those merges leave of its bytes, which is the pair of its own merge (compare
    Berglund and van der Merwe, Formalizing BPE Tokenization, 2023, on proper
    dictionaries).

    Raises:
      InexactMerges: a merge comes before its parts, or a whole word skips the merges
        (`ignore_merges`) and they would not give it.
    """
    ranks = {pair: rank for rank, pair in enumerate(bpe.merges)}
    made = {left + right for left, right in bpe.merges}
    pieces = []
    for word, id in bpe.vocab.items():
        rank = _last_rank(word, ranks) if word in made else None
        if rank is None and len(word) > 1:
            if bpe.ignore_merges and word not in bpe.added:
                raise InexactMerges(
                    f"ignore_merges with {word!r}, which no merge makes"
                )
            continue
        spelling = word_bytes(word)
        if b"\x00" not in spelling:
            pieces.append(ScoredPiece(id, spelling, 0.0 if rank is None else -rank))
    return pieces


def _last_rank(word: str, ranks: dict[tuple[str, str], int]) -> int | None:
    """Merges a word's bytes; the last merge's rank, None if they do not all merge."""
    symbols, last = list(word), -1
    while len(symbols) > 1:
        pairs = enumerate(itertools.pairwise(symbols))
        known = [(ranks[pair], place) for place, pair in pairs if pair in ranks]
        if not known:
            return None
        rank, place = min(known)
        if rank < last:
            raise InexactMerges(f"a merge in {word!r} that comes before its parts'")
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        last = rank
    return last


def model_proto(pieces: Iterable[ScoredPiece]) -> bytes:
    """Returns a serialised SentencePiece `ModelProto`; piece i has id i + 1.

    Written by hand: sentencepiece's generated classes do not import beside
    TensorFlow's protobuf. The text is taken as it is, without normalisation.
    """
    rows = [_piece(_UNKNOWN_PIECE, 0.0, _UNKNOWN)]
    rows += [_piece(p.spelling.decode("latin-1"), p.score, _NORMAL) for p in pieces]
    trainer = _integer(3, _BPE) + _integer(4, len(rows)) + _integer(40, 0)
    trainer += b"".join(_integer(field, -1) for field in (41, 42, 43))
    # No dummy prefix, no removal of extra spaces, no escape of spaces.
    normalizer = _bytes(1, b"identity") + _bytes(2, _NO_REPLACEMENTS)
    normalizer += b"".join(_integer(field, 0) for field in (3, 4, 5))
    return b"".join(rows) + _bytes(2, trainer) + _bytes(3, normalizer)


def _piece(text: str, score: float, kind: int) -> bytes:
    packed_score = _varint(2 << 3 | 5) + struct.pack("<f", score)
    return _bytes(1, _bytes(1, text.encode()) + packed_score + _integer(3, kind))


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value % (1 << 64))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
