# SPDX-License-Identifier: Apache-2.0
"""Runs a release inside a Beam worker.

Beam's own TensorFlow handlers cannot load a release: they want tensorflow_hub and
Keras. Its batching is set aside too: growing batches make a language model run out
of memory, and a failure loses its whole batch. Here an element is a chunk of prompts,
which the handler sorts by length and answers in batches of one fixed size.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apache_beam.ml.inference.base import ModelHandler

from pipelines.generation_config import GenerationConfig
from pipelines.prompts import Prompt, row_seed
from preprocessing import releases, storage
from preprocessing.prompt_limits import prompt_room
from preprocessing.signatures import SIGNATURES


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
        lines: one {id, text, num_tokens, finish_reason} or {id, error} per prompt, in
            the order of the input.
        truncated: prompts that lost their first ids for want of room.
    """

    index: int
    lines: Sequence[Mapping[str, Any]]
    truncated: int


class LoadedRelease:
    """A release in memory: text and settings in, text out."""

    def __init__(self, release: str, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  # registers the tokenizer's ops

        _limit_threads(tf, threads)
        self.lineage = releases.read_lineage(release)
        with tempfile.TemporaryDirectory(prefix="quern-") as copy:
            if storage.is_cloud(release):
                releases.copy_tree(release, copy)
                release = copy
            self._module = tf.saved_model.load(release)
        self._tf = tf

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Returns the number of ids of each text, without BOS and EOS."""
        return self._answer("tokenize", {"text": texts})["num_tokens"].numpy().tolist()

    def generate(self, requests: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
        """Continues each prompt; `requests` are the inputs of the signature."""
        found = self._answer("generate", requests)
        columns = [found[k].numpy() for k in ("text", "num_tokens", "finish_reason")]
        return [
            {
                "text": text.decode(),
                "num_tokens": int(count),
                "finish_reason": reason.decode(),
            }
            for text, count, reason in zip(*columns, strict=True)
        ]

    def _answer(self, name: str, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Runs a signature on one value a row of each of its inputs."""
        signature = SIGNATURES[name]
        fed = signature.fed(values)
        inputs = {
            each.name: self._tf.constant(fed[each.name], each.dtype)
            for each in signature.inputs
        }
        return self._module.signatures[name](**inputs)


class ReleaseHandler(ModelHandler[Chunk, Answers, LoadedRelease]):
    """Beam's way to a release; every element is a `Chunk`.

    Args:
        release: its directory, local or cloud.
        config: how prompts are continued.
        threads: cores for one worker process.
        report: called with (chunk's index, prompts done) after each batch.
    """

    def __init__(
        self,
        release: str,
        config: GenerationConfig,
        threads: int,
        report: Callable[[int, int], None],
    ) -> None:
        super().__init__()
        self._release, self._config = release, config
        self._threads, self._report = threads, report

    def load_model(self) -> LoadedRelease:
        """Loads the release, once per process."""
        return LoadedRelease(self._release, self._threads)

    def run_inference(
        self,
        batch: Sequence[Chunk],
        model: LoadedRelease,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Answers]:
        """Answers each chunk."""
        del inference_args
        return [answer(chunk, model, self._config, self._report) for chunk in batch]

    def batch_elements_kwargs(self) -> dict[str, int]:
        """Keeps Beam from joining chunks: they are batched in here."""
        return {"min_batch_size": 1, "max_batch_size": 1}


def answer(
    chunk: Chunk,
    model: LoadedRelease,
    config: GenerationConfig,
    report: Callable[[int, int], None],
) -> Answers:
    """Answers every prompt of a chunk, in the order of the input."""
    lines: list[dict[str, Any]] = [
        {"id": prompt.id, "error": prompt.error} for prompt in chunk.prompts
    ]
    good = [i for i, prompt in enumerate(chunk.prompts) if prompt.error is None]
    texts = {i: str(chunk.prompts[i].text) for i in good}
    counts: dict[int, int] = {}
    for i, result in _counted(texts, model, config.batch_size).items():
        if "error" in result:
            lines[i] = {"id": chunk.prompts[i].id, **result}
        else:
            counts[i] = result["num_tokens"]
    # Neighbours of like length share a batch: least padding. Ties keep their order.
    order = sorted(counts, key=lambda i: (counts[i], i))
    done = len(lines) - len(order)
    for start in range(0, len(order), config.batch_size):
        batch = order[start : start + config.batch_size]
        seeds = {i: row_seed(config.seed, chunk.prompts[i].id) for i in batch}

        def run(
            rows: Sequence[int], seeds: Mapping[int, int] = seeds
        ) -> list[dict[str, Any]]:
            return _run_padded(rows, texts, seeds, model, config)

        for i, result in bisected(batch, run).items():
            lines[i] = {"id": chunk.prompts[i].id, **result}
        done += len(batch)
        report(chunk.index, done)
    truncated = _truncated(counts.values(), model.lineage, config.max_new_tokens)
    return Answers(chunk.index, lines, truncated)


def _counted(
    texts: Mapping[int, str], model: LoadedRelease, batch_size: int
) -> dict[int, dict[str, Any]]:
    """Returns row -> {"num_tokens": …} or {"error": …}.

    Counted by batches: the graph pads each row to the longest beside it.
    """

    def count(rows: Sequence[int]) -> list[dict[str, Any]]:
        found = model.count_tokens([texts[i] for i in rows])
        return [{"num_tokens": count} for count in found]

    rows, results = list(texts), dict[int, dict[str, Any]]()
    for start in range(0, len(rows), batch_size):
        results.update(bisected(rows[start : start + batch_size], count))
    return results


def bisected(
    rows: Sequence[int], run: Callable[[Sequence[int]], list[dict[str, Any]]]
) -> dict[int, dict[str, Any]]:
    """Runs rows together; where that fails, halves them until the culprits are alone.

    Returns:
        Row -> its result, or {"error": …} for a row that fails by itself.
    """
    try:
        return dict(zip(rows, run(rows), strict=True))
    except Exception as error:  # whatever a row can provoke; reported as its answer
        if len(rows) == 1:
            message = str(error).strip().splitlines() or [type(error).__name__]
            return {rows[0]: {"error": f"generation failed: {message[0]}"}}
    middle = len(rows) // 2
    return {**bisected(rows[:middle], run), **bisected(rows[middle:], run)}


def _run_padded(
    rows: Sequence[int],
    texts: Mapping[int, str],
    seeds: Mapping[int, int],
    model: LoadedRelease,
    config: GenerationConfig,
) -> list[dict[str, Any]]:
    """Runs a batch filled up to its fixed size with rows that ask for nothing."""
    empty = config.batch_size - len(rows)
    shared: dict[str, list[Any]] = {
        name: [getattr(config, name)] * config.batch_size
        for name in ("temperature", "top_k", "top_p")
    }
    own: dict[str, list[Any]] = {
        "prompt": [texts[i] for i in rows] + [""] * empty,
        "max_new_tokens": [config.max_new_tokens] * len(rows) + [0] * empty,
        "seed": [seeds[i] for i in rows] + [0] * empty,
    }
    return model.generate({**shared, **own})[: len(rows)]


def _truncated(
    counts: Iterable[int], lineage: releases.Lineage, max_new_tokens: int
) -> int:
    """Returns how many prompts, of so many ids without BOS, lose the first of them."""
    if lineage.context is None:
        return 0
    opened = int(lineage.bos_id is not None)
    room = prompt_room(max_new_tokens, lineage.context)
    return sum(count + opened > room for count in counts)


def _limit_threads(tf: Any, threads: int) -> None:
    """Gives TensorFlow the cores of one worker: N workers share the machine."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow already runs in this process (one worker runs in the driver, and
        # a second job there): its pools are fixed and stay as they are.
        return
