# SPDX-License-Identifier: Apache-2.0
"""How a batch of prompts is continued; apart from the handler, which imports Beam."""

from dataclasses import dataclass

from preprocessing.foundation.commands import UsageError


@dataclass(frozen=True)
class GenerationConfig:
    """The settings of one job, the same for every prompt but for its seed.

    Attributes:
        max_new_tokens: most ids per prompt.
        temperature: 0 is greedy.
        top_k: sample among the k likeliest ids; 0 sets no limit.
        top_p: sample among the fewest ids whose mass reaches p; 1 sets no limit.
        seed: the job's; each row has its own, from this and its id.
        batch_size: rows per batch.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, 1, 2**31 - 1)
        _check("temperature", self.temperature, 0.0, 1e6)
        _check("top_k", self.top_k, 0, 2**31 - 1)
        _check("top_p", self.top_p, 0.0, 1.0)
        _check("batch_size", self.batch_size, 1, 65_536)


def _check(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise UsageError(
            f"wanted --{name} from {lowest} to {highest}, found {value}. Change it"
        )
