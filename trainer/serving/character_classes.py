# SPDX-License-Identifier: Apache-2.0
"""Word cutting for TensorFlow: a tokenizer's pattern rewritten for RE2, exactly.

TensorFlow's regular expressions (RE2) have no lookahead, know only ASCII's spaces, and
class characters by the Unicode version that TensorFlow was built with. So each class
is spelled out as ranges of code points, asked from the reference, `tokenizers`, when
a release is exported; and the one lookahead, spaces not followed by a word, becomes a
mark put before the last space of a run.
"""

import functools
from dataclasses import dataclass

from tokenizers import Regex, normalizers

from preprocessing.tokenizer.contested import to_ranges
from preprocessing.tokenizer.pre_tokenizing import (
    CL100K_PATTERN,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    O200K_PATTERN,
    QWEN2_PATTERN,
    TEKKEN_PATTERN,
    NumberCut,
    digits_of,
)

# What stands between two words. NUL is no part of a text (the text contract).
MARK = "\x00"
_EVERYTHING = frozenset(range(1, 0x110000)) - frozenset(range(0xD800, 0xE000))


@dataclass(frozen=True)
class WordPattern:
    """Two RE2 expressions that cut a text as a tokenizer's pattern does.

    Attributes:
      run: two groups; a mark goes between them. It stands for the lookahead: spaces
        but for the last before a word are a word of their own.
      word: a mark goes behind each match; matches cover the whole text.
    """

    run: str
    word: str


@functools.cache  # asking takes a second
def word_pattern(pattern: str) -> WordPattern:
    """Returns the RE2 form of one of `KNOWN_PATTERNS`."""
    if pattern == GPT2_PATTERN:
        return _gpt2()
    rest = {
        CL100K_PATTERN: rf"|{class_of(_numbers())}{{1,3}}|@[\r\n]*|%*[\r\n]|%+",
        LLAMA3_PATTERN: rf"|{class_of(_numbers())}{{1,3}}|@[\r\n]*|%*[\r\n]+|%+",
        QWEN2_PATTERN: rf"|{class_of(_numbers())}|@[\r\n]*|%*[\r\n]+|%+",
        O200K_PATTERN: rf"|{class_of(_numbers())}{{1,3}}|@[\r\n/]*|%*[\r\n]+|%+",
        TEKKEN_PATTERN: rf"|{class_of(_numbers())}|@[\r\n/]*|%*[\r\n]+|%+",
    }[pattern]
    rest = rest.replace("@", f" ?{_others()}+").replace("%", class_of(_spaces()))
    words = {
        O200K_PATTERN: lambda: _cased_words(f"(?:{_contraction()})?"),
        TEKKEN_PATTERN: lambda: _cased_words(""),
    }.get(pattern, _plain_words)()
    inner = class_of(_spaces() - {10, 13})
    return WordPattern(run=_run(inner), word=words + rest)


def _gpt2() -> WordPattern:
    word = (
        rf"'(?:[sdmt]|ll|ve|re)| ?{class_of(_letters())}+| ?{class_of(_numbers())}+"
        rf"| ?{_others()}+|{class_of(_spaces())}+"
    )
    return WordPattern(run=_run(class_of(_spaces())), word=word)


def number_runs(numbers: NumberCut) -> str:
    """Returns an RE2 expression of the pieces that a text is cut at."""
    most = "" if numbers.digits is None else str(numbers.digits)
    return f"{class_of(digits_of(numbers))}{{1,{most}}}"


def _run(space: str) -> str:
    """`space` lacks line ends where the pattern has cut behind those of a run."""
    return f"({space})({space}{class_of(_EVERYTHING - _spaces())})"


def _plain_words() -> str:
    prefix = class_of(_EVERYTHING - _letters() - _numbers() - {10, 13})
    return f"{_contraction()}|{prefix}?{class_of(_letters())}+"


def _cased_words(ending: str) -> str:
    prefix = class_of(_EVERYTHING - _letters() - _numbers() - {10, 13}) + "?"
    upper = class_of(_matching(r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"))
    lower = class_of(_matching(r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"))
    return f"{prefix}{upper}*{lower}+{ending}|{prefix}{upper}+{lower}*{ending}"


def _contraction() -> str:
    """The English contractions in either case, with what folds to their letters."""

    def spelled(letters: str) -> str:
        return "".join(class_of(_matching(f"(?i:{letter})")) for letter in letters)

    return "'(?:" + "|".join(map(spelled, ("s", "t", "re", "ve", "m", "ll", "d"))) + ")"


def _letters() -> frozenset[int]:
    return _matching(r"\p{L}")


def _numbers() -> frozenset[int]:
    return _matching(r"\p{N}")


def _spaces() -> frozenset[int]:
    return _matching(r"\s")


def _others() -> str:
    return class_of(_EVERYTHING - _letters() - _numbers() - _spaces())


@functools.cache
def _matching(expression: str) -> frozenset[int]:
    """Asks the reference which code points an expression for one character matches."""
    rest = normalizers.Replace(Regex(expression), "").normalize_str(_all_characters())
    return _EVERYTHING - frozenset(map(ord, rest))


@functools.cache
def _all_characters() -> str:
    return "".join(map(chr, sorted(_EVERYTHING)))


def class_of(points: frozenset[int]) -> str:
    """Returns the RE2 class of these code points."""
    ranges = [rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in to_ranges(points)]
    return "[" + "".join(ranges) + "]"
