# SPDX-License-Identifier: Apache-2.0
"""What a model reads of a prompt, and how much may follow it: as the graph does."""

from collections.abc import Sequence
from typing import Protocol

from preprocessing.contracts.prompt_limits import most_new_tokens, prompt_room


class Opening(Protocol):
    """What must be known of a model: a lineage is one, and so is a `Decoding`."""

    @property
    def bos_id(self) -> int | None:
        """The id put before every prompt, None for none."""

    @property
    def eos_id(self) -> int:
        """The id that an empty prompt begins with where there is no BOS."""

    @property
    def context(self) -> int | None:
        """Positions that prompt and continuation share; None is any number."""


def as_read(
    ids: Sequence[int], max_new_tokens: int, opening: Opening
) -> tuple[list[int], int]:
    """Returns the ids that are read of a prompt, and how many may follow.

    Args:
        ids: of the prompt, without BOS.
        max_new_tokens: how many are asked for.
        opening: of the model.
    """
    first = [] if opening.bos_id is None else [opening.bos_id]
    opened = [*first, *ids] or [opening.eos_id]
    limit = min(max(max_new_tokens, 0), most_new_tokens(opening.context))
    if opening.context is not None:
        opened = opened[-prompt_room(limit, opening.context) :]
        limit = min(limit, opening.context - len(opened))
    return opened, limit
