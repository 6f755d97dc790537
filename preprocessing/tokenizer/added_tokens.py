# SPDX-License-Identifier: Apache-2.0
"""Added tokens: strings of a file that `tokenizers` takes out of a text first.

    "a   <b>c"  ->  "a" | "   " | "<b>" | "c"     "   " and "<b>" are one id each

Those with `special: false` are text: GPT-NeoX, Pythia, OLMo, MPT and phi have runs of
spaces as such. Special ones are not, they only come from Quern itself. There are two
levels: tokens that are not `normalized` are looked for in the text as it is, the others
in what is left, normalised. Where a special one stands in a text, no token of its level
is found within it, as in `tokenizers` with its `encode_special_tokens`.
"""

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tokenizers

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError

# White space as the `regex` crate of `tokenizers` has it for `\s`: the property
# White_Space, which Unicode has not changed since version 6.3.
WHITE_SPACE = frozenset(
    map(ord, "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000")
) | frozenset(range(0x2000, 0x200B))
_GROUP = 512  # code points asked about at once


@dataclass(frozen=True)
class AddedToken:
    """An added token that is looked for in texts.

    Attributes:
      id: its id.
      content: its string in the file.
      pattern: what is looked for: `content`, or its normalised form.
      special: whether it is none of the text, and only hides what it holds.
      single_word: whether it is one only where no word goes on before or behind it.
      lstrip: whether it takes the white space before it.
      rstrip: whether it takes the white space behind it.
    """

    id: int
    content: str
    pattern: str
    special: bool
    single_word: bool
    lstrip: bool
    rstrip: bool


Level = tuple[AddedToken, ...]


def is_text(entry: dict[str, Any]) -> bool:
    """Tells whether an entry of `added_tokens` is one of text."""
    return bool(entry["content"]) and not entry.get("special", False)


def levels_of(tree: dict[str, Any], name: str) -> tuple[Level, Level]:
    """Returns the tokens looked for in the text as it is, and once it is normalised.

    Special tokens are among them only where they can hide a token of text. A level
    without tokens of text is empty.

    Args:
      tree: a `tokenizer.json`.
      name: what errors call it.

    Raises:
      UsageError: the tokens' normaliser cannot be loaded, or the tokens have no
        meaning that can be told.
    """
    entries = _merged(tree.get("added_tokens") or [])
    if not any(map(is_text, entries)):
        return (), ()
    normalize = _normalizer(tree.get("normalizer"), name)
    levels: list[list[AddedToken]] = [[], []]
    for entry in entries:
        normalized = bool(entry.get("normalized", True))
        content = entry["content"]
        levels[normalized].append(
            AddedToken(
                id=entry["id"],
                content=content,
                pattern=normalize(content) if normalized else content,
                special=not is_text(entry),
                single_word=bool(entry.get("single_word")),
                lstrip=bool(entry.get("lstrip")),
                rstrip=bool(entry.get("rstrip")),
            )
        )
    plain, normalised = (_needed(level) for level in levels)
    for level in (plain, normalised):
        _check_strips(level, name)
    return plain, normalised


def _merged(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each content once: its last flags, special where it ever was."""
    merged: dict[str, dict[str, Any]] = {}
    for entry in entries:
        content = entry["content"]
        before = merged.get(content, {}).get("special", False)
        if content and "\0" not in content:  # NUL is no part of a text
            special = bool(before or entry.get("special", False))
            merged[content] = {**entry, "special": special}
    return list(merged.values())


def _normalizer(tree: dict[str, Any] | None, name: str) -> Any:
    if tree is None:
        return lambda text: text
    model = {"type": "BPE", "vocab": {}, "merges": []}
    file = {"version": "1.0", "normalizer": tree, "model": model}
    try:
        loaded = tokenizers.Tokenizer.from_str(strict_json.dumps(file))
    except Exception as error:  # it raises nothing narrower
        raise UsageError(
            f"wanted a normaliser in {name} that `tokenizers` can load, found an "
            f"error: {error}. Make a tokenizer with quern-tokenizer"
        ) from error
    if loaded.normalizer is None:
        return lambda text: text
    return loaded.normalizer.normalize_str


def _needed(level: list[AddedToken]) -> Level:
    """Leaves out special tokens that share no character with a text's, and "".

    A text holds a token of its own and a special one such that they overlap only where
    a begin of one is an end of the other, or one lies within the other.
    """
    patterns = [token.pattern for token in level if token.pattern and not token.special]
    begins = {text[:size] for text in patterns for size in range(1, len(text) + 1)}
    ends = {text[-size:] for text in patterns for size in range(1, len(text) + 1)}
    whole = set(patterns)

    def overlaps(text: str) -> bool:
        sizes = range(1, len(text) + 1)
        return (
            any(text[-size:] in begins or text[:size] in ends for size in sizes)
            or any(text[i : i + size] in whole for size in sizes for i in sizes)
            or any(text in pattern for pattern in patterns)
        )

    return tuple(
        token
        for token in level
        if token.pattern and (not token.special or overlaps(token.pattern))
    )


def _check_strips(level: Level, name: str) -> None:
    blank = [token for token in level if token.lstrip and is_blank(token.pattern)]
    taking = [token for token in level if token.rstrip and not token.special]
    if blank and taking:
        raise UsageError(
            f"wanted added tokens of which each has its place in {name}, found "
            f"{taking[0].content!r} with rstrip, which takes {blank[0].content!r} with "
            "lstrip away (`tokenizers` fails on such texts). Unset one of the two"
        )


def is_blank(text: str) -> bool:
    """Tells whether a text is white space alone."""
    return all(ord(character) in WHITE_SPACE for character in text)


def divides(levels: Iterable[Level]) -> bool:
    r"""Tells whether `long_texts` may cut texts with these tokens where it may without.

    It does where none can lie across a place to cut (before a space or tab behind
    something visible, behind a line feed before something visible), for then tokens on
    both sides are found by themselves; and where none looks at what is around it.
    """
    return not any(
        token.single_word or token.lstrip or token.rstrip or _holds_place(text)
        for level in levels
        for token in level
        for text in (token.content, token.pattern)
    )


def _holds_place(text: str) -> bool:
    """Tells whether a place to cut may lie within; more often than it does."""
    pairs = itertools.pairwise(text)
    return any(
        (after in " \t" and before > " ") or (before == "\n" and after > " ")
        for before, after in pairs
    )


@functools.cache  # two seconds
def word_characters() -> frozenset[int]:
    r"""Asks `tokenizers` which code points are `\w` beside a token with `single_word`.

    The class follows the version of Unicode that its `regex` crate has.
    """
    token = {"id": 1, "content": "\n", "special": False, "normalized": False}
    flags = {"single_word": True, "lstrip": False, "rstrip": False}
    model = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
    file = {"version": "1.0", "added_tokens": [{**token, **flags}], "model": model}
    asked = tokenizers.Tokenizer.from_str(strict_json.dumps(file))
    points = [p for p in range(1, 0x110000) if not 0xD800 <= p < 0xE000 and p != 10]
    groups = [points[i : i + _GROUP] for i in range(0, len(points), _GROUP)]
    words = set[int]()
    while groups:
        # Each line feed is a token unless the character before it is of a word.
        texts = ["".join(f"{chr(point)}\n-" for point in group) for group in groups]
        found = [e.ids.count(1) for e in asked.encode_batch_fast(texts)]
        mixed = []
        for group, count in zip(groups, found, strict=True):
            if count == 0:
                words.update(group)
            elif count < len(group):
                size = max(1, len(group) // 8)
                mixed += [group[i : i + size] for i in range(0, len(group), size)]
        groups = mixed
    return frozenset(words)
