# SPDX-License-Identifier: Apache-2.0
"""Answers a list of prompts with a release: text to ids, the engine, ids to text.

What stands beside what in the engine follows from the list alone, so the same list has
the same answers wherever it is answered, and a prompt at fault costs only its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation.bisection import bisected
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.serving.engine.engine import Engine
from trainer.serving.engine.ordering import in_order
from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.requests import Finished, SlotRequest
from trainer.serving.loaded_release import LoadedRelease


def answer_texts(
    texts: Sequence[str],
    seeds: Sequence[int],
    model: LoadedRelease,
    config: GenerationConfig,
    report: Callable[[int, int], None],
) -> tuple[list[dict[str, Any]], int]:
    """Answers every text.

    Args:
        texts: the prompts.
        seeds: the seed of each.
        model: the release.
        config: how they are continued; its seed plays no part.
        report: called whenever some are done, with the number of texts done and of ids
            made for them.

    Returns:
        {text, num_tokens, finish_reason} or {error} for each text, in their order; with
        {shortened: True} where the prompt lost its first ids for want of room; and how
        many did.
    """
    tokenizer, opened = model.tokenizer, int(model.lineage.bos_id is not None)
    answers, ids_of = encoded(texts, tokenizer, config.batch_size)
    requests, shortened = list[SlotRequest](), set[int]()
    for i, ids in ids_of.items():
        read, limit = as_read(ids, config.max_new_tokens, model.lineage)
        requests.append(_request(i, read, limit, seeds[i], config))
        if len(read) < len(ids) + opened:
            shortened.add(i)
    engine = Engine(
        model.slots, config.batch_size, tokenizer.token_bytes(), config.cache_memory
    )
    done, tokens = len(answers), 0
    for request in in_order(requests):
        engine.add(request)
    while not engine.idle:
        finished = engine.step()
        for each in finished:
            answers[each.key] = _answer(each, tokenizer, each.key in shortened)
            tokens += len(each.ids)
        done += len(finished)
        if finished:
            report(done, tokens)
    return [answers[i] for i in range(len(texts))], len(shortened)


def encoded(
    texts: Sequence[str], tokenizer: Tokenizer, batch_size: int
) -> tuple[dict[int, dict[str, Any]], dict[int, list[int]]]:
    """Returns text -> {"error": …} of those that cannot be encoded, and -> ids."""

    def encode(rows: Sequence[int]) -> list[dict[str, Any]]:
        ids, lengths = tokenizer.encode_batch([texts[i] for i in rows])
        split = np.split(ids, np.cumsum(lengths)[:-1])
        return [{"ids": each.tolist()} for each in split]

    found = dict[int, dict[str, Any]]()
    for start in range(0, len(texts), batch_size):
        rows = range(start, min(start + batch_size, len(texts)))
        found.update(bisected(rows, encode, "encoding"))
    errors = {i: each for i, each in found.items() if "error" in each}
    return errors, {i: each["ids"] for i, each in found.items() if i not in errors}


def _request(
    key: int, ids: Sequence[int], limit: int, seed: int, config: GenerationConfig
) -> SlotRequest:
    return SlotRequest(
        key=key,
        ids=ids,
        limit=limit,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
        repetition_penalty=config.repetition_penalty,
        seed=seed,
        stop=tuple(text.encode() for text in config.stop),
        time_limit=config.time_limit,
    )


def _answer(end: Finished, tokenizer: Tokenizer, shortened: bool) -> dict[str, Any]:
    if end.error:
        return {"error": end.error}
    answer = {
        "text": tokenizer.decode(end.ids, end.num_bytes),
        "num_tokens": len(end.ids),
        "finish_reason": end.reason,
    }
    return answer | {"shortened": True} if shortened else answer
