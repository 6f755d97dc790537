# SPDX-License-Identifier: Apache-2.0
"""Answers a chunk of prompts with a server's model, several requests at a time.

    prompts -> batches of like length -> at most `concurrency` requests -> answers
               (of one prompt each where the server puts them together itself)

A batch that the server refuses is halved until the prompt at fault is alone. Nothing
here needs TensorFlow.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.generation.modes import EMBED, GENERATE, SCORE, SIGNATURES_OF, Wanted
from pipelines.generation.prompts import Prompt
from pipelines.generation.remote_completions import CompletionModel, find_completions
from pipelines.generation.remote_requests import JsonClient, RequestRules
from pipelines.generation.remote_serving import ServedRelease, find_served, is_serving
from preprocessing.contracts.signatures import SIGNATURES, STOP_DIVIDER
from preprocessing.foundation.bisection import bisected
from preprocessing.foundation.commands import UsageError

Rows = Sequence[Prompt]


@dataclass(frozen=True)
class RemoteModel:
    """A model on a server, and how it is asked.

    Attributes:
        place: where it is.
        rules: how requests are made.
    """

    place: ServedRelease | CompletionModel
    rules: RequestRules

    def among(self, workers: int) -> "RemoteModel":
        """Returns it as each of so many workers asks it: they share the requests."""
        share = max(self.rules.concurrency // workers, 1)
        return replace(self, rules=replace(self.rules, concurrency=share))

    def identity(self) -> dict[str, str]:
        """Returns what tells it from another model, for `job.json`."""
        if isinstance(self.place, ServedRelease):
            return {"server": "tensorflow-serving", "url": self.place.url}
        place = self.place
        return {"server": "openai", "url": place.url, "model": place.model}

    def made(
        self,
        prompts: Rows,
        client: JsonClient,
        wanted: Wanted,
        report: Callable[[int, int], None],
    ) -> list[dict[str, Any]]:
        """Returns what the model makes of good prompts; see `modes.made`.

        Raises:
            WorkError: the server does not answer, or refuses whatever it is asked.
        """
        place = self.place
        found: dict[int, dict[str, Any]] = {}
        tokens = 0

        def run(rows: Sequence[int]) -> list[dict[str, Any]]:
            chosen = [prompts[row] for row in rows]
            if isinstance(place, ServedRelease):
                return _predicted(place, client, chosen, wanted)
            seeds = wanted.seeds(chosen)
            return [
                place.complete(client, str(prompt.text), seed, wanted.config)
                for prompt, seed in zip(chosen, seeds, strict=True)
            ]

        size = wanted.config.batch_size if isinstance(place, ServedRelease) else 1
        with ThreadPoolExecutor(self.rules.concurrency) as threads:
            waiting = [
                threads.submit(bisected, batch, run, "the request")
                for batch in _batches(prompts, size)
            ]
            try:
                for each in as_completed(waiting):
                    found.update(each.result())
                    tokens += sum(
                        x.get("num_tokens", 0) for x in each.result().values()
                    )
                    report(len(found), tokens)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return [found[row] for row in range(len(prompts))]


def find_remote(
    url: str, model: str | None, rules: RequestRules, wanted: Wanted
) -> RemoteModel:
    """Asks a server what it has.

    Args:
        url: of a model of TensorFlow Serving (`…/v1/models/NAME`), or of a server as
            OpenAI's.
        model: which of the latter's models; None for its only one.
        rules: how it is asked.
        wanted: what of it.

    Raises:
        UsageError: it cannot be asked for that.
        WorkError: it does not answer.
    """
    if not url.startswith(("http://", "https://")) or "@" in url or "?" in url:
        raise UsageError(
            "wanted --remote http://HOST:8501/v1/models/NAME or http://HOST:8000/v1, "
            f"without name, password or question, found {url.rpartition('@')[2]}. Put "
            "a key into the environment"
        )
    if is_serving(url):
        if model is not None:
            raise UsageError(
                f"wanted --remote {url} alone, which names a model, found --model "
                f"{model} too. Leave one out"
            )
        # Never a key that is meant for another server.
        rules = replace(rules, key_variable="")
        served = find_served(JsonClient(rules), url)
        for signature in SIGNATURES_OF[wanted.mode]:
            served.check(signature, wanted.config)
        return RemoteModel(served, rules)
    if wanted.mode != GENERATE:
        raise UsageError(
            f"wanted a model of TensorFlow Serving for --mode {wanted.mode} "
            f"(http://HOST:8501/v1/models/NAME), found {url}, where texts are "
            "continued only. Export the run, and serve it or name it with --model"
        )
    completions = find_completions(JsonClient(rules), url, model)
    completions.check(wanted.config)
    return RemoteModel(completions, rules)


def _batches(prompts: Rows, size: int) -> list[list[int]]:
    """Cuts prompts into batches of like length in bytes; ties keep their order."""
    lengths = [
        len(f"{prompt.text}{prompt.continuation or ''}".encode()) for prompt in prompts
    ]
    kinds = [prompt.continuation is not None for prompt in prompts]
    batches: list[list[int]] = []
    for kind in (False, True):
        rows = [row for row, each in enumerate(kinds) if each is kind]
        order = sorted(rows, key=lambda row: (lengths[row], row))
        batches += [order[i : i + size] for i in range(0, len(order), size)]
    return batches


def _predicted(
    place: ServedRelease, client: JsonClient, prompts: Rows, wanted: Wanted
) -> list[dict[str, Any]]:
    """Returns what TensorFlow Serving makes of a batch of one kind."""
    texts = [str(prompt.text) for prompt in prompts]
    names: tuple[str, ...]
    if wanted.mode == EMBED:
        names = (wanted.pooling, "num_tokens")
        found = place.predict(client, "embed", {"text": texts}, names)
        return [
            {
                "embedding": [_short(x) for x in row[wanted.pooling]],
                "num_tokens": row["num_tokens"],
            }
            for row in found
        ]
    if wanted.mode == SCORE:
        columns, name = {"text": texts}, "score"
        if prompts[0].continuation is not None:
            behind = [str(prompt.continuation) for prompt in prompts]
            columns = {"prompt": texts, "continuation": behind}
            name = "score_continuation"
        names = ("log_likelihood", "num_tokens", "num_bytes", "is_greedy")
        found = place.predict(client, name, columns, names)
        return [
            {**row, "log_likelihood": _short(row["log_likelihood"])} for row in found
        ]
    settings: dict[str, list[Any]] = {
        each.name: [getattr(wanted.config, each.name)] * len(texts)
        for each in SIGNATURES[GENERATE].inputs
        if each.name not in ("prompt", "seed", "stop")
    }
    own: dict[str, list[Any]] = {
        "prompt": texts,
        "seed": wanted.seeds(prompts),
        "stop": [STOP_DIVIDER.join(wanted.config.stop)] * len(texts),
    }
    names = ("text", "num_tokens", "finish_reason")
    return place.predict(client, GENERATE, {**own, **settings}, names)


def _short(number: float) -> float:
    """Returns a float32 with no more digits than tell it apart."""
    return float(str(np.float32(number)))
