# SPDX-License-Identifier: Apache-2.0
"""What a job makes of its records: continuations, scores, or vectors.

generate   prompt                   -> text, num_tokens, finish_reason
score      text                     -> log_likelihood, num_tokens, num_bytes,
           prompt, continuation        is_greedy
embed      text                     -> embedding, num_tokens
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from pipelines.generation.prompts import Prompt, row_seed
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation.commands import UsageError

if TYPE_CHECKING:
    from trainer.serving.loaded_release import LoadedRelease

GENERATE, SCORE, EMBED = "generate", "score", "embed"
MODES = (GENERATE, SCORE, EMBED)
POOLINGS = ("mean", "last")
# What each mode asks of a release.
SIGNATURES_OF = {
    GENERATE: ("generate",),
    SCORE: ("score", "score_continuation"),
    EMBED: ("embed",),
}


@dataclass(frozen=True)
class Wanted:
    """What is made of each record.

    Attributes:
        mode: one of `MODES`.
        pooling: which states make a vector, one of `POOLINGS`; of mode embed.
        config: how prompts are continued; of mode generate but for the batch size.
    """

    mode: str = GENERATE
    pooling: str = POOLINGS[0]
    config: GenerationConfig = field(default_factory=GenerationConfig)

    def __post_init__(self) -> None:
        plain = GenerationConfig()
        for name in (each.name for each in fields(plain)):
            said = getattr(self.config, name) != getattr(plain, name)
            if said and self.mode != GENERATE and name != "batch_size":
                raise UsageError(
                    f"wanted only what --mode {self.mode} heeds, found --{name}, which "
                    "is of --mode generate. Leave it out"
                )

    def seeds(self, prompts: Sequence[Prompt]) -> list[int]:
        """Returns the seed of each prompt."""
        return [row_seed(self.config.seed, prompt.id) for prompt in prompts]


def made(
    prompts: Sequence[Prompt],
    model: "LoadedRelease",
    wanted: Wanted,
    report: Callable[[int, int], None],
) -> tuple[list[dict[str, Any]], int]:
    """Returns what a release makes of good prompts, and how many were shortened.

    Args:
        prompts: those without an error.
        model: the release.
        wanted: what is made of them.
        report: called with the prompts done and their tokens now and then.
    """
    # Imported where a worker runs them: a driver needs no TensorFlow.
    from trainer.serving.answering import answer_texts
    from trainer.serving.measured_texts import ScoredText, embed_texts, score_texts

    texts, config = [str(prompt.text) for prompt in prompts], wanted.config
    if wanted.mode == SCORE:
        pairs = [
            ScoredText(text, prompt.continuation)
            for text, prompt in zip(texts, prompts, strict=True)
        ]
        return score_texts(pairs, model, config.batch_size, report)
    if wanted.mode == EMBED:
        rows = config.batch_size
        return embed_texts(texts, wanted.pooling, model, rows, report), 0
    return answer_texts(texts, wanted.seeds(prompts), model, config, report)
