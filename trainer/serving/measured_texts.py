# SPDX-License-Identifier: Apache-2.0
"""Scores or embeds a list of texts with a release, in batches of like length.

    count the ids of each -> sort by length -> batches -> scores, vectors

What is read together follows from the texts and the batch size alone. A batch that
fails is halved until the text at fault is alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from preprocessing.foundation.bisection import bisected
from trainer.serving.answering import encoded
from trainer.serving.loaded_release import LoadedRelease

Report = Callable[[int, int], None]


class ScoredText(NamedTuple):
    """What is scored: a document, or a continuation of a prompt."""

    text: str
    continuation: str | None = None


def score_texts(
    texts: Sequence[ScoredText], model: LoadedRelease, batch_size: int, report: Report
) -> tuple[list[dict[str, Any]], int]:
    """Scores every text.

    Args:
        texts: documents and continuations.
        model: the release.
        batch_size: texts that are read together.
        report: called after each batch with the texts done and their ids.

    Returns:
        {log_likelihood, num_tokens, num_bytes, is_greedy} or {error} for each text, in
        their order, those whose prompt lost its first ids for want of room with
        {shortened: True}; and how many these are.
    """
    whole = [each.text + (each.continuation or "") for each in texts]
    found, ids = encoded(whole, model.tokenizer, batch_size)
    counts = {row: len(each) for row, each in ids.items()}
    pairs = {row for row in counts if texts[row].continuation is not None}

    def run(rows: Sequence[int]) -> list[dict[str, Any]]:
        chosen = [texts[row] for row in rows]
        if rows[0] in pairs:
            return model.score_continuations(chosen)
        return model.score([each.text for each in chosen])

    batches = _batches(counts, counts.keys() - pairs, batch_size)
    batches += _batches(counts, pairs, batch_size)
    _run(batches, run, "scoring", found, report)
    shortened = [row for row in pairs if _passes(counts[row], model)]
    for row in shortened:
        if "error" not in found[row]:
            found[row]["shortened"] = True
    return [found[row] for row in range(len(texts))], len(shortened)


def embed_texts(
    texts: Sequence[str],
    pooling: str,
    model: LoadedRelease,
    batch_size: int,
    report: Report,
) -> list[dict[str, Any]]:
    """Embeds every text.

    Args:
        texts: the texts.
        pooling: "mean" or "last", see `trainer.serving.embed`.
        model: the release.
        batch_size: texts that are read together.
        report: called after each batch with the texts done and their ids.

    Returns:
        {embedding, num_tokens} or {error} for each text, in their order.
    """
    found, ids = encoded(texts, model.tokenizer, batch_size)
    counts = {row: len(each) for row, each in ids.items()}

    def run(rows: Sequence[int]) -> list[dict[str, Any]]:
        return model.embed([texts[row] for row in rows], pooling)

    _run(_batches(counts, counts, batch_size), run, "embedding", found, report)
    return [found[row] for row in range(len(texts))]


def _batches(
    counts: Mapping[int, int], rows: Collection[int], batch_size: int
) -> list[list[int]]:
    """Cuts rows into batches of like length; ties keep their order."""
    order = sorted(rows, key=lambda row: (counts[row], row))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _run(
    batches: Sequence[Sequence[int]],
    run: Callable[[Sequence[int]], list[dict[str, Any]]],
    what: str,
    found: dict[int, dict[str, Any]],
    report: Report,
) -> None:
    """Puts the results of all batches into `found`, and reports after each.

    What is in `found` already is done: the errors of texts that no batch has.
    """
    done, tokens = len(found), 0
    for batch in batches:
        made = bisected(batch, run, what)
        found.update(made)
        done += len(made)
        tokens += sum(each.get("num_tokens", 0) for each in made.values())
        report(done, tokens)


def _passes(count: int, model: LoadedRelease) -> bool:
    """Tells whether so many ids and what opens them are more than can be read.

    One more than the context is not: the last one is told, and never read.
    """
    context = model.lineage.context
    opened = int(model.lineage.bos_id is not None)
    return context is not None and count + opened > context + 1
