# SPDX-License-Identifier: Apache-2.0
"""Which texts a run continues after each evaluation; apart from what decodes them."""

from dataclasses import dataclass

from preprocessing.foundation.commands import UsageError


@dataclass(frozen=True)
class SamplesConfig:
    """Texts that the model continues after each evaluation, for TensorBoard.

    Attributes:
        count: how many; 0 is none.
        tokens: of each continuation, held to the trained context.
    """

    count: int = 3
    tokens: int = 32

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UsageError(
                f"wanted samples.count of 0 or more, found {self.count}. Use 0 to turn "
                "it off"
            )
        if self.tokens <= 0:
            raise UsageError(
                f"wanted samples.tokens above 0, found {self.tokens}. Raise it"
            )
