# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: a byte-level BPE in Hugging Face's `tokenizer.json` form.

Any text has ids and any ids have a text. Special-token strings inside text are plain
text: special ids only ever come from Quern itself, around a document. Added tokens that
are not special are text, and have their ids as in `tokenizers`.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import tokenizers
from numpy.typing import DTypeLike
from tokenizers import decoders, models, pre_tokenizers, trainers

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer import byte_level
from preprocessing.tokenizer.encoding import Encoder, Frame
from preprocessing.tokenizer.names_beside import names_beside
from preprocessing.tokenizer.special_tokens import (
    BOS_TOKEN,
    EOS_TOKEN,
    PAD_TOKEN,
    SpecialIds,
    find_special_ids,
)

SMALLEST_VOCABULARY = 256 + 3


class Tokenizer:
    """A tokenizer file with its special ids.

    Attributes:
      name: what errors call the file.
      json_bytes: the file's bytes.
      sha256: their SHA-256, in hex.
      bpe: the file taken apart.
      vocab_size: the largest id + 1.
      bos_id: id put before a document, or None.
      eos_id: id put after a document.
      pad_id: id that fills rows.
    """

    def __init__(self, json_bytes: bytes, name: str, ids: SpecialIds) -> None:
        """Takes a file's bytes; see `load` and `restore`."""
        self.json_bytes = json_bytes
        self.sha256 = hashlib.sha256(json_bytes).hexdigest()
        self.bpe = byte_level.parse(json_bytes, name)
        self.vocab_size = max([*self.bpe.vocab.values(), *self.bpe.added.values()]) + 1
        self.bos_id, self.eos_id, self.pad_id = ids.bos_id, ids.eos_id, ids.pad_id
        self.name = name
        self._encoder: Encoder | None = None
        self._token_bytes: list[bytes] | None = None

    @classmethod
    def load(
        cls,
        path: str,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        pad_token: str | None = None,
    ) -> "Tokenizer":
        """Reads a `tokenizer.json`, local or in a bucket.

        Args:
          path: the file.
          bos_token: its string, "none" for no BOS, or None: Quern's own name where
            the file has it; and where neither that nor `eos_token` is there, what
            the files beside it name (`names_beside`).
          eos_token: likewise; there must be one.
          pad_token: likewise; id 0 where there is none.

        Raises:
          UsageError: no such file, not a byte-level BPE, or an unknown token.
        """
        data = _read(path)
        bpe = byte_level.parse(data, path)
        if eos_token is None and EOS_TOKEN not in bpe.added:
            beside = names_beside(path, bpe)
            bos_token = bos_token or beside.bos_token
            eos_token = beside.eos_token
            pad_token = pad_token or beside.pad_token
        ids = find_special_ids(bpe, path, bos_token, eos_token, pad_token)
        tokenizer = cls(data, path, ids)
        tokenizer.encoder  # noqa: B018  a file that cannot encode is refused here
        return tokenizer

    @classmethod
    def restore(
        cls, path: str, *, bos_id: int | None, eos_id: int, pad_id: int
    ) -> "Tokenizer":
        """Reads a dataset's or run's own tokenizer, with ids from its manifest."""
        return cls(_read(path), path, SpecialIds(bos_id, eos_id, pad_id))

    @property
    def normalizer(self) -> str | None:
        """The normaliser that the file names: None, "NFC" or another type."""
        return self.bpe.normalizer

    @property
    def encoder(self) -> Encoder:
        """The engines behind `encode_batch`, loaded when first needed."""
        if self._encoder is None:
            self._encoder = Encoder(self.bpe, self.name)
        return self._encoder

    @property
    def id_dtype(self) -> np.dtype:
        """The type that documents' ids are held as: uint16 where all fit, or uint32."""
        narrow = self.vocab_size <= np.iinfo(np.uint16).max + 1
        return np.dtype(np.uint16 if narrow else np.uint32)

    def encode_batch(
        self,
        texts: Sequence[str] | pa.Array | pa.ChunkedArray,
        dtype: DTypeLike = np.uint32,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes texts, without BOS and EOS.

        Args:
          texts: strings, or an Arrow array of them (large_string is not copied).
          dtype: of the ids.

        Returns:
          ids of all texts one after the other, and int64 [texts] lengths.
        """
        return self.encoder.encode(_as_arrow(texts), Frame(dtype=dtype))

    def encode_documents(
        self, texts: Sequence[str] | pa.Array | pa.ChunkedArray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encodes documents as rows hold them: [BOS] ids EOS.

        Returns:
          ids of all documents one after the other, as `id_dtype`, and int64 [texts]
          lengths, which count BOS and EOS.
        """
        frame = Frame(self.bos_id, self.eos_id, self.id_dtype)
        return self.encoder.encode(_as_arrow(texts), frame)

    def token_bytes(self) -> list[bytes]:
        """Returns the bytes of each id [vocab_size]; b"" for special and unused ids.

        Added tokens that are text stand for their own string, without white space that
        they strip.
        """
        if self._token_bytes is None:
            table = [b""] * self.vocab_size
            hidden = self.bpe.hidden
            for word, id in self.bpe.vocab.items():
                if word not in hidden:
                    table[id] = byte_level.word_bytes(word)
            for token in self.bpe.text_tokens.values():
                table[token.id] = token.pattern.encode()
            self._token_bytes = table
        return self._token_bytes

    def decode(self, ids: Iterable[int], num_bytes: int | None = None) -> str:
        """Returns the text of ids, special ones left out.

        A model may have more ids than its tokenizer (`model.vocab_size`); the others
        have no text. Bytes that are not UTF-8 (a character cut in two) read as U+FFFD.

        Args:
          ids: none of them negative.
          num_bytes: the most bytes of the ids' before that; None takes all.
        """
        table = self.token_bytes()
        known = (table[id] for id in ids if id < len(table))
        return b"".join(known)[:num_bytes].decode("utf-8", errors="replace")


def train(
    texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()
) -> bytes:
    """Trains a byte-level BPE and returns its `tokenizer.json`.

    Words are cut by `ByteLevel`'s own pattern, GPT-2's: every reader of the format
    knows it, and gigatoken has a hand-written cutter for it. The same texts in the
    same order give the same bytes.

    Args:
      texts: the sample.
      vocab_size: size of the vocabulary, the 256 bytes and all special tokens included.
        A small sample may give a smaller one.
      special_tokens: names of special tokens besides BOS, EOS and PAD.

    Raises:
      UsageError: `vocab_size` below 259 and the number of special tokens.
    """
    smallest = SMALLEST_VOCABULARY + len(special_tokens)
    if vocab_size < smallest:
        raise UsageError(
            f"wanted --vocab_size of {smallest} or more (256 bytes and "
            f"{smallest - 256} special tokens), found {vocab_size}. Raise it"
        )
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS_TOKEN, EOS_TOKEN, PAD_TOKEN, *special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=True).encode("utf-8")


def _read(path: str) -> bytes:
    try:
        return storage.read_bytes(path)
    except OSError as error:
        found = error.strerror or "no such file"
        raise UsageError(
            f"wanted a tokenizer.json at {path}, found: {found.lower()}. "
            "Make one with quern-tokenizer"
        ) from error


def _as_arrow(texts: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if not isinstance(texts, pa.Array):
        texts = pa.array(texts, pa.large_string())
    if texts.null_count:
        raise ValueError(f"wanted a text each, found {texts.null_count} missing")
    return texts.cast(pa.large_string())
