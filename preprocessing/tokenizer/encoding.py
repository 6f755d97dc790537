# SPDX-License-Identifier: Apache-2.0
"""Text to ids in bulk, exactly as Hugging Face `tokenizers` would, much faster.

    texts -> NUL removed -> NFC where the file asks for it -> gigatoken -> ids
                                  contested documents -> tokenizers ---^

Added tokens that are text (`special: false`) are cut out in between, and what is left
is encoded piece by piece, as `tokenizers` does; numbers too, where a file asks for it.

A huge text is cut where that changes no id, and encoded piece by piece: `tokenizers`
holds 130 bytes for each byte of a text, and gigatoken 3 (6 in non-Latin scripts).

gigatoken encodes some 500 MB/s of English a core against 2 for `tokenizers`. It is
used where it is known to agree: for the pre-tokenizers it was measured on, for
documents without contested code points, after a check on loading. Everything else
goes to `tokenizers`, the reference, and a line in the log says so.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

# One process per core is Quern's way; read by `tokenizers` at each call. A thread pool
# in every worker would oversubscribe the cores, and hangs in a forked child.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
from numpy.typing import DTypeLike

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.long_texts import LONG_BYTES, has_long, in_pieces
from preprocessing.foundation.string_buffers import views
from preprocessing.tokenizer import contested, contested_ranges
from preprocessing.tokenizer.byte_level import ByteLevelBPE
from preprocessing.tokenizer.gigatoken_engine import GigatokenEngine
from preprocessing.tokenizer.pre_tokenizing import pre_tokenizer_json
from preprocessing.tokenizer.segments import Segmenter

_log = logging.getLogger(__name__)

_PROBES = (
    "",
    " ",
    "Hello world's  foo\n\n bar 12345 it'S  x\t\ty \r\n\r\n  z   ",
    "  lead 'll 'LL '\u017f \u212a a_b 1a2 ١٢٣٤ ½²",
    "e\u0301 n\u0303 \u00e9 \u1100\u1161 \u0344 \ufeff \u200b\u200d",
    "\u00a0\u3000 \u2028\u2029\u0085 \x1c\x1d\x1e\x1f \x0b\x0c \u180e x",
    "日本語 한국어 हिन्दी ภาษาไทย עברית العربية Ελληνικά русский 🙂👨‍👩‍👧",
    "{'k': [1, 2.50], \"s\": 'ab''cd'} // == != >= <= :: -> \\n <|im_start|>",
)


@dataclass(frozen=True)
class Frame:
    """What is put around a document's ids, and the type they are kept as.

    Narrow ids with all around them from the start spare a huge document's second copy.
    """

    begin: int | None = None
    end: int | None = None
    dtype: DTypeLike = np.uint32

    def around(
        self,
        ids: np.ndarray,
        lengths: np.ndarray,
        opens: np.ndarray,
        closes: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Puts `begin` and `end` around the ids of pieces of documents.

        Args:
          ids: of all pieces, one after the other.
          lengths: ids of each piece, int64 [pieces].
          opens: which pieces begin their document, bool [pieces].
          closes: which end it, bool [pieces].

        Returns:
          ids and lengths with them.
        """
        before = opens & (self.begin is not None)
        after = closes & (self.end is not None)
        if not (before.any() or after.any()):
            return ids.astype(self.dtype, copy=False), lengths
        lengths = lengths + before + after
        ends = np.cumsum(lengths)
        out = np.empty(int(lengths.sum()), self.dtype)
        plain = np.ones(len(out), bool)
        for value, places in (
            (self.begin, (ends - lengths)[before]),
            (self.end, ends[after] - 1),
        ):
            if value is not None:
                plain[places] = False
                out[places] = value
        out[plain] = ids
        return out, lengths


PLAIN = Frame()


class Encoder:
    """Encodes batches of texts with the plain part of a tokenizer file.

    Attributes:
      fallback_reason: why `tokenizers` encodes everything; None where gigatoken does.
    """

    def __init__(
        self,
        bpe: ByteLevelBPE,
        name: str,
        long_bytes: int = LONG_BYTES,
    ) -> None:
        """Loads both engines.

        Args:
          bpe: the file taken apart.
          name: what errors and the log call the file.
          long_bytes: a longer text is encoded in pieces of this.

        Raises:
          UsageError: `tokenizers` does not accept the file.
        """
        self._reference = _reference(bpe, name)
        self._long_bytes = long_bytes
        self._contested = contested.CodePointSet(())
        self._fast: GigatokenEngine | None = None
        self.fallback_reason = _unproven(bpe)
        self._segmenter: Segmenter | None = None
        if self.fallback_reason is None:
            self._segmenter = Segmenter(bpe)
            self._contested = contested_set(str(bpe.pattern))
            self.fallback_reason = self._load_fast(bpe)
        if self.fallback_reason is not None:
            self._fast = None
            _log.warning(
                "%s is encoded by `tokenizers` alone, some 100 times slower than "
                "gigatoken: %s",
                name,
                self.fallback_reason,
            )

    def encode(
        self, texts: pa.Array, frame: Frame = PLAIN
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts.

        Args:
          texts: large_string [documents], none null.
          frame: what is put around each, and the type of its ids.

        Returns:
          ids of all documents one after the other, [tokens], and how many each document
          has, int64 [documents].
        """
        # Where a text can be cut is known, whichever engine is at work.
        divides = self._segmenter is not None and self._segmenter.divides
        if divides and has_long(texts, self._long_bytes):
            return self._encode_in_pieces(texts, frame)
        every = np.ones(len(texts), bool)
        return frame.around(*self._encode_whole(texts), every, every)

    def _encode_in_pieces(
        self, texts: pa.Array, frame: Frame
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts of which some are huge, about a megabyte at a time."""
        _, offsets = views(texts)
        # Never more ids than bytes; memory that no id is written to stays untouched.
        most = int(offsets[-1] - offsets[0]) + 2 * len(texts)
        ids = np.empty(most, frame.dtype)
        lengths = np.zeros(len(texts), np.int64)
        written = 0
        for part in in_pieces(texts, self._long_bytes):
            plain = self._encode_whole(part.texts)
            found, counts = frame.around(*plain, part.opens, part.closes)
            np.add.at(lengths, part.owners, counts)
            ids[written : written + len(found)] = found
            written += len(found)
        return ids[:written], lengths

    def _encode_whole(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        texts = _without_nul(texts)
        if self._fast is None or self._segmenter is None:
            return self._encode_slowly(texts.to_pylist())
        segments = self._segmenter.cut(texts)
        data, edges = segments.data, segments.edges
        ids, lengths = segments.together(*self._fast.encode(data, edges))
        apart = segments.texts_of(self._contested.holders(data, edges))
        if not len(apart):
            return ids, lengths
        again = self._encode_slowly(texts.take(apart).to_pylist())
        return _replaced(ids, lengths, apart, *again)

    def _load_fast(self, bpe: ByteLevelBPE) -> str | None:
        """Loads gigatoken, or returns why it cannot be used."""
        file = {**strict_json.loads(bpe.plain_json()), "normalizer": None}
        # Segments come normalised and cut, but for words.
        file["pre_tokenizer"] = pre_tokenizer_json(str(bpe.pattern))
        strings = list(bpe.added)
        try:
            self._fast = GigatokenEngine(strict_json.dumps(file).encode())
        except (RuntimeError, ValueError) as error:
            return f"gigatoken refuses it ({str(error).splitlines()[0]})"
        probes = [*_PROBES, "".join(strings), *(f"a {text} b" for text in strings)]
        probes += [f"é{text} {text}\t{text}'s" for text in strings]
        fast = self.encode(pa.array(probes, pa.large_string()))
        slow = self._encode_slowly(probes)
        if not all(np.array_equal(*pair) for pair in zip(fast, slow, strict=True)):
            return "gigatoken's ids differ from those of `tokenizers` on known strings"
        return None

    def _encode_slowly(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        batch = self._reference.encode_batch_fast(texts, add_special_tokens=False)
        parts = [np.array(encoding.ids, np.uint32) for encoding in batch]
        lengths = np.array([len(part) for part in parts], np.int64)
        return np.concatenate([np.zeros(0, np.uint32), *parts]), lengths


def _reference(bpe: ByteLevelBPE, name: str) -> tokenizers.Tokenizer:
    try:
        loaded = tokenizers.Tokenizer.from_str(bpe.reference_json().decode("utf-8"))
    except Exception as error:  # it raises nothing narrower
        raise UsageError(
            f"wanted a tokenizer in {name} that `tokenizers` can load, found an error: "
            f"{error}. Make one with quern-tokenizer"
        ) from error
    loaded.encode_special_tokens = True
    for content, token in bpe.text_tokens.items():
        id = loaded.token_to_id(content)
        if id != token.id:
            raise UsageError(
                f"wanted id {id}, which `tokenizers` gives it, for the added token "
                f"{content!r} in {name}, found {token.id}. Correct the file's id"
            )
    return loaded


def _unproven(bpe: ByteLevelBPE) -> str | None:
    """Returns why a file is outside of what gigatoken is known to do exactly."""
    if bpe.pattern is None:
        return "its ByteLevel pre-tokenizer cuts no words (use_regex is false)"
    if bpe.pattern not in contested.PATTERNS:
        return f"its pre-tokenizer's pattern {bpe.pattern!r} is not a known one"
    if bpe.cutting.spaced_words:
        return "its pre-tokenizer adds a space before words (add_prefix_space)"
    if bpe.normalizer not in (None, "NFC"):
        return f"it has the normaliser {bpe.normalizer}"
    return None


def contested_set(
    pattern: str,
    measured: tuple[str, str] = contested_ranges.VERSIONS,
    probe: Callable[[str], contested.Ranges] = contested.probe,
) -> contested.CodePointSet:
    """Returns the code points that the engines class differently.

    Args:
      pattern: of words, one of `contested.PATTERNS`.
      measured: the versions for which they are known.
      probe: measures them for other versions.
    """
    if contested.versions() == measured:
        return contested.CodePointSet(contested_ranges.CONTESTED)
    _log.warning(
        "measuring the code points on which gigatoken %s and tokenizers %s differ "
        "(half a minute): the shipped table holds for gigatoken %s and tokenizers %s",
        *contested.versions(),
        *measured,
    )
    return contested.CodePointSet(probe(pattern))


def _without_nul(texts: pa.Array) -> pa.Array:
    data, offsets = views(texts)
    if len(data[offsets[0] : offsets[-1]]) and not data[offsets[0] : offsets[-1]].all():
        return pc.replace_substring(texts, "\0", "")
    return texts


def _replaced(
    ids: np.ndarray,
    lengths: np.ndarray,
    places: np.ndarray,
    new_ids: np.ndarray,
    new_lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (ids, lengths) with those of the documents `places` exchanged."""
    ends = np.cumsum(lengths)
    new_ends = np.cumsum(new_lengths)
    parts, kept = [], 0
    for number, place in enumerate(places):
        parts.append(ids[kept : ends[place] - lengths[place]])
        parts.append(new_ids[new_ends[number] - new_lengths[number] : new_ends[number]])
        kept = ends[place]
    lengths = lengths.copy()
    lengths[places] = new_lengths
    return np.concatenate([*parts, ids[kept:]]), lengths
