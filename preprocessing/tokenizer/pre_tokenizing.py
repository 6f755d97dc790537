# SPDX-License-Identifier: Apache-2.0
"""How a file cuts a text into words before it merges bytes, and what it puts before.

    "ab 12"  ->  "ab" | " " | "1" | "2"      Digits, then ByteLevel with its own pattern
    "ab 12"  ->  "ab" | " " | "12"           Split by Llama 3's pattern, then ByteLevel

A text is cut at its numbers first, where a file asks for it, then by a pattern.
"""

import functools
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import pre_tokenizers

from preprocessing.foundation.commands import UsageError

Json = dict[str, Any]

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

# Mistral's since Nemo ("Tekken"): o200k's without contractions, one digit a word.
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Those that match every text from end to end; gigatoken has a cutter for each.
KNOWN_PATTERNS = (
    GPT2_PATTERN,
    CL100K_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    O200K_PATTERN,
    TEKKEN_PATTERN,
)
# Steps before the last that cut at numbers, and how many digits a piece holds.
_NUMBER_PATTERNS = {r"\p{N}": 1, r"\p{N}{1,3}": 3, r"\p{N}+": None}


@dataclass(frozen=True)
class NumberCut:
    r"""A cut before and behind numbers, by itself.

    Attributes:
      digits: of a piece at most, counted from its run's start; None for any number.
      by_pattern: whether digits are those of `\p{N}`, else those of `Digits`. The two
        follow different versions of Unicode.
    """

    digits: int | None
    by_pattern: bool


@dataclass(frozen=True)
class WordCutting:
    """What a file's pre-tokenizer does, step by step.

    Attributes:
      numbers: the cut at numbers, or None.
      pattern: the regular expression that cuts the rest into words; None if the file
        cuts nothing.
      add_prefix_space: whether a space is put before a text that has none.
      spaced_words: whether it is put before each word of a `Split` instead.
    """

    numbers: NumberCut | None
    pattern: str | None
    add_prefix_space: bool
    spaced_words: bool


def read_pre_tokenizer(tree: Json | None, name: str) -> WordCutting:
    """Reads the field `pre_tokenizer` of a file.

    Args:
      tree: the field.
      name: what to call the file in an error.

    Raises:
      UsageError: it does something else; the error names its parts.
    """
    parts = _flat(tree)
    numbers = _number_cut(parts[0]) if len(parts) > 1 else None
    rest = parts if numbers is None else parts[1:]
    types = [part["type"] for part in rest]
    if types == ["ByteLevel"]:
        pattern = GPT2_PATTERN if rest[0].get("use_regex", True) else None
        return WordCutting(numbers, pattern, _spaces(rest[0]), spaced_words=False)
    if types == ["Split", "ByteLevel"]:
        split, byte_level = rest
        pattern = _isolated(split)
        if pattern is not None and not byte_level.get("use_regex", True):
            spaces = _spaces(byte_level)
            return WordCutting(numbers, pattern, spaces, spaced_words=spaces)
    raise not_byte_level(
        name,
        f"the pre-tokenizer {' + '.join(part['type'] for part in parts) or 'none'} "
        "(known: ByteLevel, or Split by an isolated Regex + ByteLevel without one, "
        "and a cut at numbers before)",
    )


def _flat(tree: Json | None) -> list[Json]:
    if tree is None:
        return []
    if tree["type"] != "Sequence":
        return [tree]
    return [part for inner in tree["pretokenizers"] for part in _flat(inner)]


def _spaces(byte_level: Json) -> bool:
    return bool(byte_level.get("add_prefix_space"))


def _isolated(split: Json) -> str | None:
    """Returns the pattern of which each match is a word; None where none is.

    Files made from tiktoken's remove what does not match. The patterns match all.
    """
    pattern, inverted = split["pattern"].get("Regex"), bool(split.get("invert"))
    if split["behavior"] == "Isolated" and not inverted:
        return str(pattern) if pattern is not None else None
    removes = split["behavior"] == "Removed" and inverted
    return str(pattern) if removes and pattern in KNOWN_PATTERNS else None


def _number_cut(part: Json) -> NumberCut | None:
    if part["type"] == "Digits":
        return NumberCut(1 if part.get("individual_digits") else None, by_pattern=False)
    pattern = _isolated(part) if part["type"] == "Split" else None
    if pattern in _NUMBER_PATTERNS:
        return NumberCut(_NUMBER_PATTERNS[pattern], by_pattern=True)
    return None


@functools.cache  # half a second
def digits_of(numbers: NumberCut) -> frozenset[int]:
    """Asks `tokenizers` which code points it takes for digits."""
    step: pre_tokenizers.PreTokenizer = pre_tokenizers.Digits(individual_digits=True)
    if numbers.by_pattern:
        step = pre_tokenizers.Split(tokenizers.Regex(r"\p{N}"), "isolated")
    points = [p for p in range(1, 0x110000) if not 0xD800 <= p < 0xE000]
    text = "a" + "a".join(map(chr, points)) + "a"
    pieces = (piece for piece, _ in step.pre_tokenize_str(text))
    return frozenset(ord(piece) for piece in pieces if len(piece) == 1 and piece != "a")


def pre_tokenizer_json(pattern: str) -> Json:
    """Returns the pre-tokenizer that cuts by `pattern`, as a file holds it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if pattern == GPT2_PATTERN:
        return {**byte_level, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    steps = [{**split, "invert": False}, {**byte_level, "use_regex": False}]
    return {"type": "Sequence", "pretokenizers": steps}


def not_byte_level(name: str, found: str) -> UsageError:
    """Returns the refusal of a file that holds something else."""
    return UsageError(
        f"wanted a byte-level BPE tokenizer in {name}, found {found}. "
        "Make one with quern-tokenizer, or name a file like GPT-2's or Llama 3's"
    )
