# SPDX-License-Identifier: Apache-2.0
"""A byte-level BPE as a SentencePiece model, the one BPE engine in TF Serving.

Bytes stand for themselves as the characters U+0001 to U+00FF (ISO-8859-1); NUL never
occurs in a text.
"""

import itertools
import struct
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from preprocessing.foundation.protocol_buffers import declare
from preprocessing.tokenizer.byte_level import ByteLevelBPE, word_bytes

# Piece types and fields: sentencepiece_model.proto (google/sentencepiece), whose own
# generated classes do not import beside TensorFlow's protobuf.
_NORMAL, _UNKNOWN = 1, 2
_BPE = 2
_MESSAGES = declare(
    {
        "ModelProto": {
            "pieces": (1, "repeated SentencePiece"),
            "trainer_spec": (2, "TrainerSpec"),
            "normalizer_spec": (3, "NormalizerSpec"),
        },
        "SentencePiece": {
            "piece": (1, "string"),
            "score": (2, "float"),
            "type": (3, "int32"),
        },
        "TrainerSpec": {
            "model_type": (3, "int32"),
            "vocab_size": (4, "int32"),
            "unk_id": (40, "int32"),
            "bos_id": (41, "int32"),
            "eos_id": (42, "int32"),
            "pad_id": (43, "int32"),
        },
        "NormalizerSpec": {
            "name": (1, "string"),
            "precompiled_charsmap": (2, "bytes"),
            "add_dummy_prefix": (3, "bool"),
            "remove_extra_whitespaces": (4, "bool"),
            "escape_whitespaces": (5, "bool"),
        },
    }
)
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


def scored_pieces(bpe: ByteLevelBPE) -> tuple[list[ScoredPiece], dict[bytes, int]]:
    """Chooses pieces and scores such that SentencePiece gives the tokenizer's ids.

    `tokenizers` merges the pair of best rank; SentencePiece merges any two neighbours
    that together spell a piece, best score first. The two agree in two cases.

    Either the file lists every split of every entry into two, entry by entry, as files
    made from tiktoken's ranks do (Llama 3, Qwen, OLMo 2): then any two neighbours that
    spell a piece are a merge, and a piece scored by its place is what ranks say. (Two
    splits of one entry would have to overlap for their order to matter, that is of
    w^i w^j w^i, where merging left to right leaves the shorter run last.)

    Or each piece is scored by the merge that makes it from its own bytes, pieces that
    are never made that way are left out, and a merge never comes before those that
    make its parts. For then, once all better merges are done, two neighbours that
    spell a piece are what those merges leave of its bytes, which is the pair of its own
    merge (compare Berglund and van der Merwe, Formalizing BPE Tokenization, 2023, on
    proper dictionaries).

    Returns:
      the pieces, and the ids of words that their bytes' merges do not give: a file with
      `ignore_merges` has those ids for them, as whole words.

    Raises:
      InexactMerges: neither is so.
    """
    ranks = {pair: rank for rank, pair in enumerate(bpe.merges)}
    entries = bpe.vocab.keys() - bpe.hidden
    words = entries & bpe.reachable
    places = _places(bpe.merges, words)
    pieces, whole = [], dict[bytes, int]()
    for word in sorted(entries, key=bpe.vocab.__getitem__):
        spelling, id = word_bytes(word), bpe.vocab[word]
        steps = _steps(word, ranks)
        if b"\0" in spelling:
            continue
        if steps is None and bpe.ignore_merges:
            whole[spelling] = id
        if places is not None:
            if word in words:
                pieces.append(ScoredPiece(id, spelling, -places.get(word, 0)))
        elif steps is not None:
            if steps != sorted(steps):
                raise InexactMerges(f"a merge in {word!r} that comes before its parts'")
            pieces.append(ScoredPiece(id, spelling, -steps[-1] if steps else 0.0))
    return pieces, whole


def _places(
    merges: Sequence[tuple[str, str]], words: Set[str]
) -> dict[str, int] | None:
    """Returns the place of each word among those that merges make, from 1 on.

    None where these are not all splits of each word into two others, word by word.
    """
    places = dict[str, int]()
    before = None
    for left, right in merges:
        word = left + right
        if word != before and word in places:
            return None
        places.setdefault(word, len(places) + 1)
        before = word
    known = set(merges)
    for word in words:
        for i in range(1, len(word)):
            pair = word[:i], word[i:]
            if pair not in known and words >= {*pair}:
                return None
    return places


def _steps(word: str, ranks: dict[tuple[str, str], int]) -> list[int] | None:
    """Merges a word's bytes: the ranks of the merges in turn, None if some are left."""
    symbols, steps = list(word), list[int]()
    while len(symbols) > 1:
        pairs = enumerate(itertools.pairwise(symbols))
        known = [(ranks[pair], place) for place, pair in pairs if pair in ranks]
        if not known:
            return None
        rank, place = min(known)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        steps.append(rank)
    return steps


def model_proto(pieces: Iterable[ScoredPiece]) -> bytes:
    """Returns a serialised SentencePiece `ModelProto`; piece i has id i + 1.

    The text is taken as it is, without normalisation.
    """
    model = _MESSAGES["ModelProto"]()
    model.pieces.add(piece=_UNKNOWN_PIECE, score=0.0, type=_UNKNOWN)
    for piece in pieces:
        spelling = piece.spelling.decode("latin-1")
        model.pieces.add(piece=spelling, score=piece.score, type=_NORMAL)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.vocab_size = _BPE, len(model.pieces)
    trainer.unk_id = 0
    trainer.bos_id = trainer.eos_id = trainer.pad_id = -1
    normalizer.name = "identity"
    normalizer.precompiled_charsmap = _NO_REPLACEMENTS
    normalizer.add_dummy_prefix = False
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = False
    return model.SerializeToString()
