# SPDX-License-Identifier: Apache-2.0
"""Byte-level BPE files: what a `tokenizer.json` must be for Quern to read it.

A byte-level BPE first writes each byte of the text as one printable character (the
GPT-2 alphabet below), so any text can be encoded and no text is ever lost.
"""

from dataclasses import dataclass
from typing import Any

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.added_tokens import AddedToken, Level, levels_of
from preprocessing.tokenizer.pre_tokenizing import (
    KNOWN_PATTERNS,
    WordCutting,
    not_byte_level,
    read_pre_tokenizer,
)

Json = dict[str, Any]


def _alphabet() -> dict[str, int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    pairs = [(chr(byte), byte) for byte in printable]
    pairs += [(chr(256 + place), byte) for place, byte in enumerate(others)]
    return dict(pairs)


# GPT-2's alphabet: the character that stands for each byte. Bytes that print stand
# for themselves, the 68 others follow from U+0100 on (openai/gpt-2, src/encoder.py).
BYTE_OF_CHARACTER = _alphabet()
CHARACTER_OF_BYTE = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}

_SPACE = "\u2581"  # what SentencePiece writes for a space
# Options of a model, empty in the files read here or of no effect on bytes: there is an
# entry for each, so none is ever unknown.
_WITHOUT_EFFECT: Json = {
    "dropout": None,
    "unk_token": None,
    "fuse_unk": False,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
}


@dataclass(frozen=True)
class ByteLevelBPE:
    """A byte-level BPE `tokenizer.json`, checked and taken apart.

    Attributes:
      json: the file's contents.
      vocab: id of each entry of the model, in the alphabet's characters.
      merges: pairs of entries, most wanted first.
      added: id of each added token ("<|eos|>"), special or not.
      levels: the added tokens that are looked for in a text: in the text as it is, and
        then in what is left of it, normalised.
      cutting: how text is cut into words.
      normalizer: None, "NFC", or the type name of another normaliser.
      ignore_merges: whether a word that is an entry skips the merges.
    """

    json: Json
    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    added: dict[str, int]
    levels: tuple[Level, Level]
    cutting: WordCutting
    normalizer: str | None
    ignore_merges: bool

    @property
    def reachable(self) -> set[str]:
        """The entries that encoding can produce: single bytes and merges' results."""
        made = {left + right for left, right in self.merges}
        return (made & self.vocab.keys()) | BYTE_OF_CHARACTER.keys()

    @property
    def beyond_graphs(self) -> str | None:
        """What a TensorFlow graph does not reproduce, so that export refuses it.

        None if nothing of this kind is named; the merges are judged by the graph's own
        tokenizer.
        """
        if self.normalizer not in (None, "NFC"):
            return f"its normaliser {self.normalizer}"
        if self.pattern not in (None, *KNOWN_PATTERNS):
            return f"its pattern of words {self.pattern!r}"
        return "add_prefix_space behind a Split" if self.cutting.spaced_words else None

    @property
    def pattern(self) -> str | None:
        """The regular expression that cuts text into words; None if nothing does."""
        return self.cutting.pattern

    @property
    def text_tokens(self) -> dict[str, AddedToken]:
        """The added tokens that are text (`special: false`), by their content."""
        both = (token for level in self.levels for token in level)
        return {token.content: token for token in both if not token.special}

    @property
    def hidden(self) -> set[str]:
        """The added tokens whose entries no text may reach, where no merge makes them.

        With `ignore_merges` a whole word that is one of the entries would find it. It
        may where the token is text and its entry spells bytes.
        """
        text = self.text_tokens.keys() if self.ignore_merges else set()
        words = {name for name in text if BYTE_OF_CHARACTER.keys() >= set(name)}
        return self.added.keys() - self.reachable - words

    def plain_json(self) -> bytes:
        """Returns the file without anything but the plain encoding of text.

        Added tokens go, so that their strings are text like any other, and with them
        the `hidden` entries. Truncation, padding and post-processing go as well.
        """
        hidden = self.hidden
        kept = {name: id for name, id in self.vocab.items() if name not in hidden}
        return self._file([], kept)

    def reference_json(self) -> bytes:
        """Returns the file for `tokenizers`, to read with `encode_special_tokens`.

        It is `plain_json` with the added tokens that are text. Their ids follow from
        the number of entries and of tokens before them, whatever the file says; so
        `hidden` entries get a name that no text has, and those tokens come last.
        """
        if not self.text_tokens:
            return self.plain_json()
        hidden = self.hidden & self.vocab.keys() if self.ignore_merges else set()
        vocab = {
            f"\0{name}" if name in hidden else name: id
            for name, id in self.vocab.items()
        }
        added = sorted(_added(self.json), key=lambda token: token["content"] in hidden)
        return self._file(added, vocab)

    def _file(self, added: list[Json], vocab: dict[str, int]) -> bytes:
        file = {
            **self.json,
            "added_tokens": added,
            "truncation": None,
            "padding": None,
            "post_processor": None,
            "model": {**self.json["model"], **_WITHOUT_EFFECT, "vocab": vocab},
        }
        return strict_json.dumps(file, ensure_ascii=False).encode("utf-8")


def parse(data: bytes, name: str) -> ByteLevelBPE:
    """Reads a `tokenizer.json`.

    Args:
      data: the file's bytes.
      name: what to call the file in an error.

    Raises:
      UsageError: not a tokenizer file, or not a byte-level BPE; it names the part
        that is something else.
    """
    try:
        tree = strict_json.loads(data)
        model = tree["model"]
        vocab = dict(model["vocab"])
        merges = [_pair(merge) for merge in model.get("merges", [])]
        added = {token["content"]: token["id"] for token in _added(tree)}
        levels = levels_of(tree, name)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"wanted a Hugging Face tokenizer.json in {name}, found something else "
            f"({type(error).__name__}: {error}). Make one with quern-tokenizer"
        ) from error
    _refuse_sentencepiece(tree, name)
    cutting = read_pre_tokenizer(tree.get("pre_tokenizer"), name)
    _check_model(model, vocab, added, name)
    bpe = ByteLevelBPE(
        json=tree,
        vocab=vocab,
        merges=merges,
        added=added,
        levels=levels,
        cutting=cutting,
        normalizer=_normalizer(tree.get("normalizer")),
        ignore_merges=bool(model.get("ignore_merges", False)),
    )
    _check_texts(bpe, name)
    return bpe


def word_bytes(word: str) -> bytes:
    """Returns the bytes that an entry of the vocabulary stands for."""
    return bytes(BYTE_OF_CHARACTER[character] for character in word)


def _added(tree: Json) -> list[Json]:
    return tree.get("added_tokens") or []


def _pair(merge: str | list[str]) -> tuple[str, str]:
    # Files older than tokenizers 0.20 write "a b", newer ones ["a", "b"].
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _refuse_sentencepiece(tree: Json, name: str) -> None:
    """Refuses files made from SentencePiece models, whose weights are no trouble."""
    model, kinds = tree["model"], _types(tree.get("pre_tokenizer"))
    normal = strict_json.dumps(tree.get("normalizer"), ensure_ascii=False)
    signs = {
        "Unigram": model.get("type") == "Unigram",
        "byte_fallback": bool(model.get("byte_fallback")) or "<0x00>" in model["vocab"],
        "Metaspace": "Metaspace" in kinds,
        f"{_SPACE} for spaces": _SPACE in normal,
    }
    found = [sign for sign, shown in signs.items() if shown]
    if found and "ByteLevel" not in kinds:
        raise UsageError(
            f"wanted a byte-level BPE tokenizer in {name}, found a SentencePiece one "
            f"({', '.join(found)}), like Mistral's, Llama 2's and Gemma's: the weights "
            "of such models load, but their text cannot be prepared or served yet. "
            "Name a file like GPT-2's, Llama 3's or Qwen's"
        )


def _types(tree: Json | None) -> set[str]:
    inner = tree.get("pretokenizers", []) if tree else []
    return {tree["type"]}.union(*map(_types, inner)) if tree else set()


def _check_model(
    model: Json, vocab: dict[str, int], added: dict[str, int], name: str
) -> None:
    if model.get("type", "BPE") != "BPE":
        raise not_byte_level(name, f"a model of type {model.get('type')}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise not_byte_level(name, f"the model option {option}={model[option]}")
    if model.get("byte_fallback"):
        raise not_byte_level(name, "byte_fallback, a SentencePiece habit")
    missing = [char for char in BYTE_OF_CHARACTER if char not in vocab]
    if missing:
        raise not_byte_level(name, f"no entry for {len(missing)} of the 256 bytes")
    for word in vocab.keys() - added.keys():
        if not BYTE_OF_CHARACTER.keys() >= set(word):
            raise not_byte_level(
                name, f"the entry {word!r}, which does not spell bytes"
            )


def _check_texts(bpe: ByteLevelBPE, name: str) -> None:
    """Refuses a token that is text where its id stands for other bytes as well."""
    if not bpe.text_tokens:
        return
    reachable = bpe.reachable | (bpe.vocab.keys() if bpe.ignore_merges else set())
    for content, token in bpe.text_tokens.items():
        spells = content in reachable and BYTE_OF_CHARACTER.keys() >= set(content)
        if spells and word_bytes(content) != token.pattern.encode():
            raise UsageError(
                f"wanted one text for each id in {name}, found id {token.id} for the "
                f"added token {content!r} and for the bytes {word_bytes(content)!r}. "
                "Remove the token"
            )


def _normalizer(tree: Json | None) -> str | None:
    """Returns the normaliser's name; a sequence of one is that one."""
    if tree is None:
        return None
    if tree["type"] == "Sequence":
        parts = [_normalizer(part) for part in tree["normalizers"]]
        named = [part for part in parts if part is not None]
        return named[0] if len(named) == 1 else ("+".join(named) or None)
    return str(tree["type"])
