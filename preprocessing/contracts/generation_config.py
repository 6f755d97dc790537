# SPDX-License-Identifier: Apache-2.0
"""How a batch of prompts is continued; apart from the handler, which imports Beam."""

from dataclasses import dataclass, fields

from preprocessing.contracts.signatures import STOP_DIVIDER
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
        batch_size: rows that decode together, and of prompts that are encoded together.
        min_p: sample among the ids at least that share as likely as the likeliest; 0
            sets no limit.
        repetition_penalty: makes ids that were there less likely; 1 leaves them.
        stop: strings that end a continuation and are no part of it.
        cache_memory: bytes that the rows' keys and values may take; 0 sets no limit.
        time_limit: seconds that a prompt may decode for; 0 sets no limit.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 16
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    cache_memory: int = 0
    time_limit: float = 0.0

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, 1, 2**31 - 1)
        _check("temperature", self.temperature, 0.0, 1e6)
        _check("top_k", self.top_k, 0, 2**31 - 1)
        _check("top_p", self.top_p, 0.0, 1.0)
        _check("batch_size", self.batch_size, 1, 65_536)
        _check("min_p", self.min_p, 0.0, 1.0)
        _check("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _check("cache_memory", self.cache_memory, 0, 2**63 - 1)
        _check("time_limit", self.time_limit, 0.0, 1e9)
        if any(STOP_DIVIDER in text for text in self.stop):
            raise UsageError(
                "wanted a text for --stop, found one with NUL, which no answer holds. "
                "Leave it out"
            )
        if "" in self.stop:
            raise UsageError(
                "wanted a text for --stop, found an empty one. Leave it out, or give "
                "one that answers end with"
            )

    def asked(self) -> list[str]:
        """Returns the settings of answers that are not as they are by default."""
        plain, names = GenerationConfig(), [each.name for each in fields(self)]
        own = {"seed", "batch_size"}  # of the job, not of an answer
        return [
            name
            for name in names
            if name not in own and getattr(self, name) != getattr(plain, name)
        ]


def _check(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise UsageError(
            f"wanted --{name} from {lowest} to {highest}, found {value}. Change it"
        )
