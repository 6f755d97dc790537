# SPDX-License-Identifier: Apache-2.0
"""Texts that the model continues after each evaluation, for people to read.

The prompts are the beginnings of validation documents and stay the same for a whole
run; so does the noise. What changes from one evaluation to the next is the model.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.data.input_pipeline import Features, SubRows
from trainer.data.mixed_rows import JoinedRows
from trainer.run.samples_config import SamplesConfig
from trainer.serving.engine.engine import continue_all
from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.requests import SlotRequest
from trainer.serving.generate import Decoding
from trainer.serving.slot_models import slots_of_model
from trainer.step.model_with_values import ModelWithValues

# The likeliest continuation, and one as a reader would be served.
TEMPERATURES = (0.0, 0.8)
_PROMPT_TOKENS = 16
_ROWS_NEAR = 16


@dataclass(frozen=True)
class Sample:
    """A prompt and how the model went on at each of `TEMPERATURES`."""

    prompt: str
    continuations: Sequence[str]


def make_sampler(
    evaluated: ModelWithValues,
    tokenizer: Tokenizer,
    rows: SubRows | JoinedRows,
    config: SamplesConfig,
    seed: int,
) -> Callable[[], list[Sample]]:
    """Returns a function that continues the prompts with the current weights.

    The chief alone calls it: it reads the weights (their averages, if kept) outside of
    any replica, without a collective. It is traced once.

    Args:
        evaluated: what is trained.
        tokenizer: the run's.
        rows: the validation split, of one row or more.
        config: how many prompts, fewer where there are fewer rows; and how they go on.
        seed: of the noise.
    """
    decoding = Decoding(
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        context=evaluated.model.context(rows.sequence_length),
    )
    prompts = choose_prompts(rows, config.count, tokenizer.bos_id)
    requests = _requests(prompts, decoding, config.tokens, seed)
    held = list[tf.Tensor]()
    slots = slots_of_model(
        evaluated.model, decoding, lambda: held, evaluated.called_with
    )

    def sample() -> list[Sample]:
        held[:] = evaluated.values()
        found = continue_all(slots, requests, len(requests))
        held.clear()
        texts, count = [tokenizer.decode(ids) for ids in found], len(prompts)
        return [
            Sample(tokenizer.decode(prompt), texts[index::count])
            for index, prompt in enumerate(prompts)
        ]

    return sample


def choose_prompts(
    rows: SubRows | JoinedRows, count: int, bos_id: int | None
) -> list[list[int]]:
    """Returns the first ids of `count` documents, BOS left out.

    They are looked for at places spread evenly over the split, so a mixture shows more
    than its first dataset: in the first row from there on in which a document begins,
    as BOS tells. If none is near, or without BOS, it is the beginning of what the place
    holds, which may lie within a document; padding gives an empty prompt.
    """
    count = min(count, rows.num_rows)
    places = np.arange(count + 1) * rows.num_rows // count
    return [
        _prompt(rows.read(np.arange(first, min(end, first + _ROWS_NEAR))), bos_id)
        for first, end in itertools.pairwise(places)
    ]


def markdown(sample: Sample) -> str:
    """Returns a sample as TensorBoard shows it.

    Texts are set as code, so that nothing in them is taken for markup.
    """
    parts = ["prompt", _as_code(sample.prompt)]
    for temperature, text in zip(TEMPERATURES, sample.continuations, strict=True):
        parts += [f"temperature {temperature:g}", _as_code(text)]
    return "\n\n".join(parts)


def _prompt(features: Features, bos_id: int | None) -> list[int]:
    """Returns the beginning of the first document, or else segment, of some rows."""
    segments: list[np.ndarray] = []
    for tokens, lengths in zip(
        features["tokens"], features["segment_lengths"], strict=True
    ):
        parts = np.split(tokens, np.cumsum(lengths[lengths > 0]))
        segments += parts[:-1]  # The last is padding.
    opened = [segment[1:] for segment in segments if segment[0] == bos_id]
    first = [*opened, *segments, np.zeros(0, np.int32)][0]
    # Half of a document, or more, is left to read the continuation against.
    ids: list[int] = first[: min(_PROMPT_TOKENS, (len(first) + 1) // 2)].tolist()
    return ids


def _requests(
    prompts: Sequence[Sequence[int]], decoding: Decoding, tokens: int, seed: int
) -> list[SlotRequest]:
    """Returns how each prompt is continued, at each temperature in turn."""
    chosen = itertools.product(TEMPERATURES, prompts)
    return [
        SlotRequest(
            number,
            *as_read(prompt, tokens, decoding),
            temperature=temperature,
            seed=seed + number,
        )
        for number, (temperature, prompt) in enumerate(chosen)
    ]


def _as_code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
