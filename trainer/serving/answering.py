# SPDX-License-Identifier: Apache-2.0
"""Answers a list of prompts with a release, in batches of one fixed size.

    count the ids of each -> sort by length -> batches, the last filled up -> answers

Growing batches make a language model run out of memory, and a failure loses its whole
batch. Here a batch that fails is halved until the prompt at fault is alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.contracts.prompt_limits import prompt_room
from preprocessing.contracts.releases import Lineage
from trainer.serving.loaded_release import LoadedRelease


def answer_texts(
    texts: Sequence[str],
    seeds: Sequence[int],
    model: LoadedRelease,
    config: GenerationConfig,
    report: Callable[[int], None],
) -> tuple[list[dict[str, Any]], int]:
    """Answers every text.

    Args:
        texts: the prompts.
        seeds: the seed of each.
        model: the release.
        config: how they are continued; its seed plays no part.
        report: called with the number of texts done after each batch.

    Returns:
        {text, num_tokens, finish_reason} or {error} for each text, in their order; and
        how many of them lost their first ids for want of room.
    """
    answers = _counted(texts, model, config.batch_size)
    counts = {
        i: found["num_tokens"] for i, found in answers.items() if "error" not in found
    }
    # Neighbours of like length share a batch: least padding. Ties keep their order.
    order = sorted(counts, key=lambda i: (counts[i], i))

    def run(rows: Sequence[int]) -> list[dict[str, Any]]:
        chosen = [texts[i] for i in rows], [seeds[i] for i in rows]
        return _run_padded(*chosen, model, config)

    done = len(texts) - len(order)
    for start in range(0, len(order), config.batch_size):
        batch = order[start : start + config.batch_size]
        answers.update(bisected(batch, run))
        done += len(batch)
        report(done)
    shortened = _shortened(counts.values(), model.lineage, config.max_new_tokens)
    return [answers[i] for i in range(len(texts))], shortened


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


def _counted(
    texts: Sequence[str], model: LoadedRelease, batch_size: int
) -> dict[int, dict[str, Any]]:
    """Returns row -> {"num_tokens": …} or {"error": …}.

    Counted by batches: the graph pads each row to the longest beside it.
    """

    def count(rows: Sequence[int]) -> list[dict[str, Any]]:
        found = model.count_tokens([texts[i] for i in rows])
        return [{"num_tokens": count} for count in found]

    results = dict[int, dict[str, Any]]()
    for start in range(0, len(texts), batch_size):
        rows = range(start, min(start + batch_size, len(texts)))
        results.update(bisected(rows, count))
    return results


def _run_padded(
    texts: Sequence[str],
    seeds: Sequence[int],
    model: LoadedRelease,
    config: GenerationConfig,
) -> list[dict[str, Any]]:
    """Runs a batch filled up to its fixed size with rows that ask for nothing."""
    rows, empty = len(texts), config.batch_size - len(texts)
    own: dict[str, list[Any]] = {
        "prompt": [*texts, *[""] * empty],
        "max_new_tokens": [config.max_new_tokens] * rows + [0] * empty,
        "seed": [*seeds, *[0] * empty],
    }
    shared: dict[str, list[Any]] = {
        name: [getattr(config, name)] * config.batch_size
        for name in ("temperature", "top_k", "top_p")
    }
    return model.generate({**own, **shared})[:rows]


def _shortened(counts: Iterable[int], lineage: Lineage, max_new_tokens: int) -> int:
    """Returns how many prompts, of so many ids without BOS, lose the first of them."""
    if lineage.context is None:
        return 0
    opened = int(lineage.bos_id is not None)
    room = prompt_room(max_new_tokens, lineage.context)
    return sum(count + opened > room for count in counts)
