# SPDX-License-Identifier: Apache-2.0
"""Runs a release inside a Beam worker.

Beam's own TensorFlow handlers cannot load a release: they want tensorflow_hub and
Keras. Its batching is set aside too: here an element is a chunk of prompts, which
`trainer.serving` answers in batches of its own. Both are imported where a worker runs
them: a driver needs no TensorFlow.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apache_beam.ml.inference.base import ModelHandler

from pipelines.generation.prompts import Prompt, row_seed
from preprocessing.contracts.generation_config import GenerationConfig

if TYPE_CHECKING:
    from trainer.serving.loaded_release import LoadedRelease

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Chunk:
    """Prompts that are answered together; `index` names the shard they become."""

    index: int
    prompts: Sequence[Prompt]


@dataclass(frozen=True)
class Answers:
    """The answers of a chunk.

    Attributes:
        index: the chunk's.
        lines: one {id, text, num_tokens, finish_reason} or {id, error} per prompt, and
            the fields that are kept, in the order of the input.
        truncated: prompts that lost their first ids for want of room.
    """

    index: int
    lines: Sequence[Mapping[str, Any]]
    truncated: int


class ReleaseHandler(ModelHandler[Chunk, Answers, "LoadedRelease"]):
    """Beam's way to a release; every element is a `Chunk`.

    Args:
        release: its directory, local or cloud.
        config: how prompts are continued.
        threads: cores for one worker process.
        report: called with (chunk's index, prompts done, their tokens) now and then.

    A process holds one release, however many of Beam's threads it has, and answers one
    chunk at a time: two would share its cores, and its memory.
    """

    def __init__(
        self,
        release: str,
        config: GenerationConfig,
        threads: int,
        report: Callable[[int, int, int], None],
    ) -> None:
        super().__init__()
        self._release, self._config = release, config
        self._threads, self._report = threads, report

    def load_model(self) -> "LoadedRelease":
        """Loads the release, once per process."""
        from trainer.serving.loaded_release import LoadedRelease

        return LoadedRelease(self._release, self._threads)

    def run_inference(
        self,
        batch: Sequence[Chunk],
        model: "LoadedRelease",
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Answers]:
        """Answers each chunk."""
        del inference_args
        with _ONE_AT_A_TIME:
            return [answer(chunk, model, self._config, self._report) for chunk in batch]

    def batch_elements_kwargs(self) -> dict[str, int]:
        """Keeps Beam from joining chunks: they are batched in here."""
        return {"min_batch_size": 1, "max_batch_size": 1}


def answer(
    chunk: Chunk,
    model: "LoadedRelease",
    config: GenerationConfig,
    report: Callable[[int, int, int], None],
) -> Answers:
    """Answers every prompt of a chunk, in the order of the input."""
    from trainer.serving.answering import answer_texts

    good = [prompt for prompt in chunk.prompts if prompt.error is None]
    refused = len(chunk.prompts) - len(good)
    answers, truncated = answer_texts(
        [str(prompt.text) for prompt in good],
        [row_seed(config.seed, prompt.id) for prompt in good],
        model,
        config,
        lambda done, tokens: report(chunk.index, refused + done, tokens),
    )
    found = iter(answers)
    lines = [
        {
            "id": prompt.id,
            **(next(found) if prompt.error is None else {"error": prompt.error}),
            **prompt.kept,
        }
        for prompt in chunk.prompts
    ]
    return Answers(chunk.index, lines, truncated)
