# SPDX-License-Identifier: Apache-2.0
"""Which ids begin, end and pad a document.

Quern's own tokenizers name them `<|bos|>`, `<|eos|>` and `<|pad|>`; for other files
the user names them, or the files beside do (`names_beside.py`). EOS is required, BOS
optional. PAD defaults to id 0: row boundaries come from stored lengths, so any id may
stand for padding. All others come from Quern alone, so an added token that is text
(`special: false`) is none of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocessing.foundation.commands import UsageError, suggest
from preprocessing.tokenizer.byte_level import ByteLevelBPE

BOS_TOKEN = "<|bos|>"
EOS_TOKEN = "<|eos|>"
PAD_TOKEN = "<|pad|>"
NO_TOKEN = "none"
# What objectives mark parts of a text with: holes by number, and parts moved about.
SENTINEL_TOKEN = "<|sentinel_{}|>"
SENTINELS = 100  # as many as T5 has
FIM_TOKENS = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
OBJECTIVE_TOKENS = {
    "span_corruption": tuple(SENTINEL_TOKEN.format(n) for n in range(SENTINELS)),
    "fill_in_middle": FIM_TOKENS,
}


@dataclass(frozen=True)
class SpecialIds:
    """The ids put around documents; `bos_id` is None where none is put first."""

    bos_id: int | None
    eos_id: int
    pad_id: int


def find_special_ids(
    bpe: ByteLevelBPE,
    name: str,
    bos_token: str | None,
    eos_token: str | None,
    pad_token: str | None,
) -> SpecialIds:
    """Looks the special tokens up in a file.

    Args:
      bpe: the file.
      name: what to call the file in an error.
      bos_token: the token's string, "none" for no such token, or None for Quern's
        own name where the file has it.
      eos_token: likewise; there must be one.
      pad_token: likewise; id 0 where there is none.

    Raises:
      UsageError: a named token is not in the file or is text, or there is no EOS.
    """
    for token, own in ((bos_token, BOS_TOKEN), (eos_token, EOS_TOKEN)):
        _refuse_text(bpe, name, [own if token is None else token])
    eos_id = _look_up(bpe, name, "--eos_token", eos_token, EOS_TOKEN)
    if eos_id is None:
        has = ", ".join(_special(bpe)) or "none"
        raise UsageError(
            f"wanted an end-of-document token in {name}, found neither {EOS_TOKEN} nor "
            "--eos_token, nor a name in a tokenizer_config.json beside it "
            f"(special tokens there: {has}). Pass --eos_token NAME and "
            "--bos_token NAME|none, and --pad_token NAME if there is one"
        )
    pad_id = _look_up(bpe, name, "--pad_token", pad_token, PAD_TOKEN)
    return SpecialIds(
        bos_id=_look_up(bpe, name, "--bos_token", bos_token, BOS_TOKEN),
        eos_id=eos_id,
        pad_id=0 if pad_id is None else pad_id,
    )


def _look_up(
    bpe: ByteLevelBPE, name: str, flag: str, wanted: str | None, own: str
) -> int | None:
    if wanted == NO_TOKEN:
        return None
    if wanted is None:
        return bpe.added.get(own)
    ids = {**bpe.vocab, **bpe.added}
    if wanted not in ids:
        raise UsageError(
            f"wanted {flag} {wanted} in {name}, found no such token."
            f"{suggest(wanted, _special(bpe))} Its special tokens are "
            f"{', '.join(_special(bpe)) or 'none'}"
        )
    return ids[wanted]


def _special(bpe: ByteLevelBPE) -> list[str]:
    return sorted(bpe.added.keys() - bpe.text_tokens.keys())


def _refuse_text(bpe: ByteLevelBPE, name: str, tokens: Sequence[str]) -> None:
    """Refuses tokens that a text can hold, for marks are found by their ids."""
    text = bpe.text_tokens
    for token in tokens:
        if token in text:
            raise UsageError(
                f"wanted {token} in {name} to be special, for a text must not hold "
                'what marks it, found "special": false. Set it to true in a copy of '
                "the file, or name another token"
            )


def find_sentinel_ids(bpe: ByteLevelBPE, name: str, sentinel_token: str) -> np.ndarray:
    """Returns the ids of the sentinels 0, 1, … as far as a file has them, int64.

    Args:
        bpe: the file.
        name: what to call the file in an error.
        sentinel_token: their name, {} standing for the number.

    Raises:
        UsageError: there is none, or one is text.
    """
    ids: list[int] = []
    while (token := sentinel_token.format(len(ids))) in bpe.added:
        _refuse_text(bpe, name, [token])
        ids.append(bpe.added[token])
    if not ids:
        raise UsageError(
            f"wanted sentinels in {name}, found no {token}. Train it with "
            "quern-tokenizer --objective span_corruption, or pass --sentinel_token "
            "NAME with {} for the number"
        )
    return np.array(ids, np.int64)


def find_fim_ids(bpe: ByteLevelBPE, name: str, tokens: Sequence[str]) -> np.ndarray:
    """Returns the ids before prefix, middle and suffix, int64 [3].

    Args:
        bpe: the file.
        name: what to call the file in an error.
        tokens: their names.

    Raises:
        UsageError: one is missing, or is text.
    """
    missing = [token for token in tokens if token not in bpe.added]
    if missing:
        raise UsageError(
            f"wanted the tokens of fill_in_middle in {name}, found no {missing[0]}. "
            "Train it with quern-tokenizer --objective fill_in_middle, or pass "
            "--fim_tokens PREFIX MIDDLE SUFFIX"
        )
    _refuse_text(bpe, name, tokens)
    return np.array([bpe.added[token] for token in tokens], np.int64)
