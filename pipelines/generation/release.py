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

from pipelines.generation.modes import Wanted, made
from pipelines.generation.prompts import Prompt

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
        lines: one {id, …} as the mode has it or {id, error} per prompt, and the fields
            that are kept, in the order of the input.
        truncated: prompts that lost their first ids for want of room.
    """

    index: int
    lines: Sequence[Mapping[str, Any]]
    truncated: int


class ReleaseHandler(ModelHandler[Chunk, Answers, "LoadedRelease"]):
    """Beam's way to a release; every element is a `Chunk`.

    Args:
        release: its directory, local or cloud.
        wanted: what is made of each prompt.
        threads: cores for one worker process.
        report: called with (chunk's index, prompts done, their tokens) now and then.

    A process holds one release, however many of Beam's threads it has, and answers one
    chunk at a time: two would share its cores, and its memory.
    """

    def __init__(
        self,
        release: str,
        wanted: Wanted,
        threads: int,
        report: Callable[[int, int, int], None],
    ) -> None:
        super().__init__()
        self._release, self._wanted = release, wanted
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
            return [answer(chunk, model, self._wanted, self._report) for chunk in batch]

    def batch_elements_kwargs(self) -> dict[str, int]:
        """Keeps Beam from joining chunks: they are batched in here."""
        return {"min_batch_size": 1, "max_batch_size": 1}


def answer(
    chunk: Chunk,
    model: "LoadedRelease",
    wanted: Wanted,
    report: Callable[[int, int, int], None],
) -> Answers:
    """Answers every prompt of a chunk with a release, in the order of the input."""
    good = good_of(chunk)
    answers, truncated = made(good, model, wanted, reporter(chunk, report))
    return answers_of(chunk, answers, truncated)


def good_of(chunk: Chunk) -> list[Prompt]:
    """Returns the prompts of a chunk that have no error."""
    return [prompt for prompt in chunk.prompts if prompt.error is None]


def reporter(
    chunk: Chunk, report: Callable[[int, int, int], None]
) -> Callable[[int, int], None]:
    """Returns what reports (good prompts done, their tokens) as the chunk's."""
    refused = len(chunk.prompts) - len(good_of(chunk))
    return lambda done, tokens: report(chunk.index, refused + done, tokens)


def answers_of(
    chunk: Chunk, answers: Iterable[Mapping[str, Any]], truncated: int
) -> Answers:
    """Returns the lines of a chunk from the answers to its good prompts."""
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
