# SPDX-License-Identifier: Apache-2.0
"""Whether two tokenizer files give the same ids, and if not, what differs.

A file's bytes change whenever a library writes it anew: merges as strings or pairs,
fields spelled out, what is put around texts. None of that decides ids.
"""

import dataclasses
import hashlib
import itertools
from typing import Any

from preprocessing.foundation import strict_json
from preprocessing.tokenizer.byte_level import ByteLevelBPE

Json = dict[str, Any]


def ids_digest(bpe: ByteLevelBPE) -> str:
    """Returns the SHA-256 of all in a file that decides ids, in hex.

    It is the same for two files exactly where `first_difference` finds none.
    """
    text = strict_json.dumps(_deciding(bpe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def first_difference(here: ByteLevelBPE, there: ByteLevelBPE) -> str | None:
    """Says in words how two files differ in what decides ids; None if they do not.

    Such as "token 'x' is 5 here and 7 there". The caller says which is here.
    """
    ours, theirs = _deciding(here), _deciding(there)
    for part in _PARTS:
        if ours[part] != theirs[part]:
            return f"its {part} is {ours[part]} here and {theirs[part]} there"
    return (
        _token_difference(ours["tokens"], theirs["tokens"])
        or _merge_difference(ours["merges"], theirs["merges"])
        or _added_difference(ours["added"], theirs["added"])
    )


_PARTS = (
    "normaliser",
    "pattern of words",
    "cut at numbers",
    "add_prefix_space",
    "ignore_merges",
)


def _deciding(bpe: ByteLevelBPE) -> Json:
    cutting, numbers = bpe.cutting, bpe.cutting.numbers
    normalizer = bpe.normalizer
    if normalizer not in (None, "NFC"):  # the others have settings of their own
        normalizer = strict_json.dumps(bpe.json["normalizer"], sort_keys=True)
    return {
        "normaliser": normalizer or "none",
        "pattern of words": cutting.pattern or "none",
        "cut at numbers": "none" if numbers is None else dataclasses.asdict(numbers),
        "add_prefix_space": cutting.add_prefix_space,
        "ignore_merges": bpe.ignore_merges,
        "tokens": {**bpe.vocab, **bpe.added},
        "merges": [[*pair] for pair in bpe.merges],
        "added": _added(bpe),
    }


def _added(bpe: ByteLevelBPE) -> dict[str, Json]:
    """Returns how each added token is taken out of texts, or that it is not."""
    kinds: dict[str, Json] = {
        content: {"added": True, "special": True} for content in bpe.added
    }
    for normalized, level in enumerate(bpe.levels):
        for token in level:
            flags = dataclasses.asdict(token)
            del flags["id"], flags["content"], flags["pattern"]
            kinds[token.content] = {
                **kinds[token.content],
                **flags,
                "normalized": bool(normalized),
                "looked_for": True,
            }
    return kinds


def _token_difference(here: dict[str, int], there: dict[str, int]) -> str | None:
    differing = [name for name in here | there if here.get(name) != there.get(name)]
    if not differing:
        return None

    def least(name: str) -> tuple[int, str]:
        return min(ids[name] for ids in (here, there) if name in ids), name

    name = min(differing, key=least)
    ours, theirs = here.get(name, "missing"), there.get(name, "missing")
    return f"token {name!r} is {ours} here and {theirs} there"


def _merge_difference(here: list[list[str]], there: list[list[str]]) -> str | None:
    for number, (ours, theirs) in enumerate(itertools.zip_longest(here, there)):
        if ours != theirs:
            return f"merge {number} is {_pair(ours)} here and {_pair(theirs)} there"
    return None


def _pair(merge: list[str] | None) -> str:
    return "missing" if merge is None else f"{merge[0]!r} + {merge[1]!r}"


def _added_difference(here: dict[str, Json], there: dict[str, Json]) -> str | None:
    for name in sorted(here.keys() | there.keys()):
        ours, theirs = here.get(name, {}), there.get(name, {})
        for flag in sorted(ours.keys() | theirs.keys()):
            if ours.get(flag, False) != theirs.get(flag, False):
                return (
                    f"token {name!r} has {flag} {ours.get(flag, False)} here and "
                    f"{theirs.get(flag, False)} there"
                )
    return None
