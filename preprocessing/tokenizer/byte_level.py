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

# The pattern of `ByteLevel(use_regex=True)`: Hugging Face `tokenizers` 0.23,
# pre_tokenizers/byte_level.rs.
GPT2_PATTERN = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# `Split(Regex)` patterns as published files hold them. cl100k is tiktoken's for GPT-4,
# the next two are in the tokenizer.json of Llama 3 and Qwen 2, o200k is GPT-4o's.
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"|\s+(?!\S)|\s+"
CL100K_PATTERN = (
    _CONTRACTION + _LETTERS + r"|\p{N}{1,3}" + _OTHERS + r"|\s*[\r\n]" + _SPACES
)
LLAMA3_PATTERN = (
    _CONTRACTION + _LETTERS + r"|\p{N}{1,3}" + _OTHERS + r"|\s*[\r\n]+" + _SPACES
)
QWEN2_PATTERN = _CONTRACTION + _LETTERS + r"|\p{N}" + _OTHERS + r"|\s*[\r\n]+" + _SPACES
O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    rf"{_CONTRACTION}?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    rf"{_CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


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
      pattern: the regular expression that cuts text into words; None if the file
        cuts nothing.
      normalizer: None, "NFC", or the type name of another normaliser.
      add_prefix_space: whether a space is put before a text that has none.
      ignore_merges: whether a word that is an entry skips the merges.
    """

    json: Json
    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    added: dict[str, int]
    levels: tuple[Level, Level]
    pattern: str | None
    normalizer: str | None
    add_prefix_space: bool
    ignore_merges: bool

    @property
    def reachable(self) -> set[str]:
        """The entries that encoding can produce: single bytes and merges' results."""
        made = {left + right for left, right in self.merges}
        return (made & self.vocab.keys()) | BYTE_OF_CHARACTER.keys()

    @property
    def beyond_graphs(self) -> str | None:
        """What a TensorFlow graph does not reproduce, so that export refuses it.

        None if nothing of this kind is named; the words' pattern and the merges are
        judged by the graph's own tokenizer.
        """
        if self.normalizer is not None:
            return f"its normaliser {self.normalizer}"
        return "add_prefix_space" if self.add_prefix_space else None

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
            "model": {**self.json["model"], "vocab": vocab},
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
    pattern, prefix = _pre_tokenizer(tree.get("pre_tokenizer"), name)
    _check_model(model, vocab, added, name)
    bpe = ByteLevelBPE(
        json=tree,
        vocab=vocab,
        merges=merges,
        added=added,
        levels=levels,
        pattern=pattern,
        normalizer=_normalizer(tree.get("normalizer")),
        add_prefix_space=prefix,
        ignore_merges=bool(model.get("ignore_merges", False)),
    )
    _check_texts(bpe, name)
    return bpe


def pre_tokenizer_json(pattern: str) -> Json:
    """Returns the pre-tokenizer that cuts by `pattern`, as a file holds it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if pattern == GPT2_PATTERN:
        return {**byte_level, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    steps = [{**split, "invert": False}, {**byte_level, "use_regex": False}]
    return {"type": "Sequence", "pretokenizers": steps}


def word_bytes(word: str) -> bytes:
    """Returns the bytes that an entry of the vocabulary stands for."""
    return bytes(BYTE_OF_CHARACTER[character] for character in word)


def _added(tree: Json) -> list[Json]:
    return tree.get("added_tokens") or []


def _pair(merge: str | list[str]) -> tuple[str, str]:
    # Files older than tokenizers 0.20 write "a b", newer ones ["a", "b"].
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _refuse(name: str, found: str) -> UsageError:
    return UsageError(
        f"wanted a byte-level BPE tokenizer in {name}, found {found}. "
        "Make one with quern-tokenizer, or name a file like GPT-2's or Llama 3's"
    )


def _check_model(
    model: Json, vocab: dict[str, int], added: dict[str, int], name: str
) -> None:
    if model.get("type", "BPE") != "BPE":
        raise _refuse(name, f"a model of type {model.get('type')}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise _refuse(name, f"the model option {option}={model[option]}")
    if model.get("byte_fallback"):
        raise _refuse(name, "byte_fallback, a SentencePiece habit")
    missing = [char for char in BYTE_OF_CHARACTER if char not in vocab]
    if missing:
        raise _refuse(name, f"no entry for {len(missing)} of the 256 bytes")
    for word in vocab.keys() - added.keys():
        if not BYTE_OF_CHARACTER.keys() >= set(word):
            raise _refuse(name, f"the entry {word!r}, which does not spell bytes")


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


def _pre_tokenizer(tree: Json | None, name: str) -> tuple[str | None, bool]:
    """Returns (pattern, add_prefix_space)."""
    parts = [] if tree is None else [tree]
    if tree is not None and tree["type"] == "Sequence":
        parts = tree["pretokenizers"]
    types = [part["type"] for part in parts]
    if types == ["ByteLevel"]:
        pattern = GPT2_PATTERN if parts[0].get("use_regex", True) else None
        return pattern, bool(parts[0].get("add_prefix_space"))
    if types == ["Split", "ByteLevel"]:
        split, byte_level = parts
        plain = split["behavior"] == "Isolated" and not split.get("invert")
        if plain and "Regex" in split["pattern"] and not byte_level.get("use_regex"):
            return split["pattern"]["Regex"], bool(byte_level.get("add_prefix_space"))
    raise _refuse(
        name,
        f"the pre-tokenizer {' + '.join(types) or 'none'} (known: ByteLevel, "
        "or Split by an isolated Regex + ByteLevel without one)",
    )
