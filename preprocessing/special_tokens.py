# SPDX-License-Identifier: Apache-2.0
"""Which ids begin, end and pad a document.

Quern's own tokenizers name them `<|bos|>`, `<|eos|>` and `<|pad|>`; for other files
the user names them. EOS is required, BOS optional. PAD defaults to id 0: row
boundaries come from stored lengths, so any id may stand for padding.
"""

from dataclasses import dataclass

from preprocessing.byte_level import ByteLevelBPE
from preprocessing.commands import UsageError, suggest

BOS_TOKEN = "<|bos|>"
EOS_TOKEN = "<|eos|>"
PAD_TOKEN = "<|pad|>"
NO_TOKEN = "none"


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
      UsageError: a named token is not in the file, or there is no EOS.
    """
    eos_id = _look_up(bpe, name, "--eos_token", eos_token, EOS_TOKEN)
    if eos_id is None:
        has = ", ".join(sorted(bpe.added)) or "none"
        raise UsageError(
            f"wanted an end-of-document token in {name}, found neither {EOS_TOKEN} nor "
            f"--eos_token (special tokens there: {has}). Pass --eos_token NAME and "
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
            f"{suggest(wanted, bpe.added)} Its special tokens are "
            f"{', '.join(sorted(bpe.added)) or 'none'}"
        )
    return ids[wanted]
