# SPDX-License-Identifier: Apache-2.0
"""Asks a server's model from inside a Beam worker."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from apache_beam.ml.inference.base import ModelHandler

from pipelines.generation.modes import Wanted
from pipelines.generation.release import (
    Answers,
    Chunk,
    answers_of,
    good_of,
    reporter,
)
from pipelines.generation.remote_answers import RemoteModel
from pipelines.generation.remote_requests import JsonClient


class RemoteHandler(ModelHandler[Chunk, Answers, JsonClient]):
    """Beam's way to a server; every element is a `Chunk`.

    Args:
        remote: the server's model.
        wanted: what is made of each prompt.
        report: called with (chunk's index, prompts done, their tokens) now and then.
    """

    def __init__(
        self,
        remote: RemoteModel,
        wanted: Wanted,
        report: Callable[[int, int, int], None],
    ) -> None:
        super().__init__()
        self._remote, self._wanted, self._report = remote, wanted, report

    def load_model(self) -> JsonClient:
        """Returns what asks, once per process."""
        return JsonClient(self._remote.rules)

    def run_inference(
        self,
        batch: Sequence[Chunk],
        model: JsonClient,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Answers]:
        """Answers each chunk."""
        del inference_args
        return [self._answered(chunk, model) for chunk in batch]

    def batch_elements_kwargs(self) -> dict[str, int]:
        """Keeps Beam from joining chunks: they are batched in here."""
        return {"min_batch_size": 1, "max_batch_size": 1}

    def _answered(self, chunk: Chunk, client: JsonClient) -> Answers:
        report = reporter(chunk, self._report)
        found = self._remote.made(good_of(chunk), client, self._wanted, report)
        return answers_of(chunk, found, 0)
