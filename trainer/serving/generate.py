# SPDX-License-Identifier: Apache-2.0
"""Continues prompts inside the graph: one prefill, then one token per loop turn.

    prompts (ragged)   [a b c d e]  [f g]
    right-padded       a b c d e . . .      to a power of two: few shapes, each row
                       f g . . . . . .      at its own position
    prefill            hidden of a row's last id gives its first new one
    while any alive    decode one id a row, sample, write, stop rows at EOS or limit

Nothing here needs XLA: a stock TensorFlow Serving switches it off.
"""

from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from preprocessing.contracts.prompt_limits import (
    MAX_NEW_TOKENS,
    most_new_tokens,
    prompt_room,
)
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.language_model import LanguageModel
from trainer.serving.sampling import Sampling, checked, sample

SMALLEST_BUCKET = 16
_LARGEST_BUCKET = 1 << 20


@dataclass(frozen=True)
class Decoding:
    """What generation must know besides the weights.

    Attributes:
        bos_id: Id put before every prompt, None when the training data had none.
        eos_id: Id that ends a document; it stops a row and is never returned.
        pad_id: Id that fills the unused places of `token_ids`.
        context: Positions the model was trained on, None when any length will do
            (a recurrent model).
        unbounded: Ids that a row may ask for then.
        stop_ids: Further ids that stop a row as EOS does, such as a chat model's end
            of a turn.
    """

    bos_id: int | None
    eos_id: int
    pad_id: int
    context: int | None
    unbounded: int = MAX_NEW_TOKENS
    stop_ids: tuple[int, ...] = ()

    @property
    def first_id(self) -> int:
        """The id that opens every prompt, or an empty one where there is no BOS."""
        return self.eos_id if self.bos_id is None else self.bos_id


class Generation(NamedTuple):
    """The continuations of a batch.

    Attributes:
        token_ids: int32 `[batch, longest]`, right-padded with the PAD id, no EOS.
        num_tokens: int32 `[batch]`, ids of each row.
        finish_reason: string `[batch]`: `stop` at EOS, `length` at a limit.
    """

    token_ids: tf.Tensor
    num_tokens: tf.Tensor
    finish_reason: tf.Tensor


def generate(
    model: LanguageModel,
    prompts: tf.RaggedTensor,
    sampling: Sampling,
    decoding: Decoding,
) -> Generation:
    """Continues every row of `prompts` (int32 ids `[batch, None]`, without BOS).

    BOS is put first exactly when the training data had it; an empty prompt without
    BOS starts from EOS, the id after which documents begin. What is asked for is held
    to `most_new_tokens`, and a prompt too long keeps its last ids, `prompt_room` of
    them: so prompt and continuation never pass the context.

    Raises:
        tf.errors.InvalidArgumentError: a parameter has not one value for each prompt,
            or is NaN; when the graph runs.
    """
    sampling = checked(sampling, tf.cast(prompts.nrows(), tf.int32))
    prompts = open_prompts(prompts, decoding)
    most = most_new_tokens(decoding.context, decoding.unbounded)
    limit = tf.clip_by_value(sampling.max_new_tokens, 0, most)
    lengths = tf.cast(prompts.row_lengths(), tf.int32)
    if decoding.context is not None:
        lengths = tf.minimum(lengths, prompt_room(limit, decoding.context))
        limit = tf.minimum(limit, decoding.context - lengths)
    ids = right_pad(prompts, lengths, decoding)
    return _decode(model, ids, lengths, limit, sampling, decoding)


def ids_of(generation: Generation) -> list[list[int]]:
    """Returns the ids of each row; for a generation that has values."""
    lengths = generation.num_tokens.numpy()
    rows = zip(generation.token_ids.numpy(), lengths, strict=True)
    return [row[:length].tolist() for row, length in rows]


def texts_of(generation: Generation, tokenizer: Tokenizer) -> list[str]:
    """Decodes each row's continuation; for a generation that has values."""
    return [tokenizer.decode(row) for row in ids_of(generation)]


def open_prompts(prompts: tf.RaggedTensor, decoding: Decoding) -> tf.RaggedTensor:
    """Puts the opening id before each prompt, or before the empty ones only."""
    first = tf.fill([prompts.nrows(), 1], decoding.first_id)
    if decoding.bos_id is None:
        empty = tf.cast(prompts.row_lengths() == 0, tf.int64)
        first = tf.RaggedTensor.from_tensor(first, lengths=empty)
    return tf.concat([first, prompts], axis=1)


def right_pad(
    prompts: tf.RaggedTensor, lengths: tf.Tensor, decoding: Decoding
) -> tf.Tensor:
    """Returns the last `lengths` ids of each row, right-padded: int32 `[batch, width]`.

    The width is the smallest bucket that holds every row: a power of two, at most
    the context.
    """
    longest = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
    sizes = tf.constant(buckets(decoding.context))
    width = tf.reduce_min(tf.where(sizes >= longest, sizes, sizes[-1]))
    column = tf.range(width)
    first = tf.cast(prompts.row_splits[1:], tf.int32) - lengths
    real = column < lengths[:, None]
    source = tf.where(real, first[:, None] + column, 0)
    return tf.where(real, tf.gather(prompts.flat_values, source), decoding.pad_id)


def buckets(context: int | None) -> list[int]:
    """Returns the widths prompts are padded to, ascending."""
    last = _LARGEST_BUCKET if context is None else context
    sizes = [SMALLEST_BUCKET]
    while sizes[-1] < last:
        sizes.append(sizes[-1] * 2)
    return [size for size in sizes if size < last] + [last]


class _Progress(NamedTuple):
    """What the loop carries: the next step and what has been written so far."""

    step: tf.Tensor  # int32 scalar, ids generated so far
    token: tf.Tensor  # int32 [batch], the newest id
    alive: tf.Tensor  # bool [batch]
    stopped: tf.Tensor  # bool [batch], met EOS
    count: tf.Tensor  # int32 [batch]
    written: tf.Tensor  # int32 [most, batch], time-major: a row per step


def _decode(
    model: LanguageModel,
    ids: tf.Tensor,
    lengths: tf.Tensor,
    limit: tf.Tensor,
    sampling: Sampling,
    decoding: Decoding,
) -> Generation:
    """Runs the prefill of `lengths` ids a row, and the loop; shapes as `right_pad`."""
    batch = tf.shape(ids)[0]
    most = tf.reduce_max(tf.concat([limit, [0]], axis=0))
    capacity = tf.reduce_max(tf.concat([lengths + limit, [0]], axis=0))
    state = model.initial_state(batch, capacity)
    hidden, state = model.decode(ids, state, tf.zeros_like(lengths), lengths)
    last = tf.gather(hidden, lengths - 1, batch_dims=1)
    progress = _Progress(
        step=tf.constant(0),
        token=tf.fill([batch], decoding.pad_id),
        alive=limit > 0,
        stopped=tf.zeros([batch], tf.bool),
        count=tf.zeros([batch], tf.int32),
        written=tf.fill([most, batch], decoding.pad_id),
    )
    # A batch that asks for nothing has no row to write to.
    progress = tf.cond(
        most > 0,
        lambda: _advance(model, last, progress, limit, sampling, decoding),
        lambda: progress,
    )

    def body(progress: _Progress, state: object) -> tuple[_Progress, object]:
        # A row's newest id is not in its state yet; a row that has ended reads none.
        positions = lengths + progress.count - 1
        reads = tf.cast(progress.alive, tf.int32)
        hidden, new = model.decode(progress.token[:, None], state, positions, reads)
        new = tf.nest.map_structure(
            lambda value, old: tf.ensure_shape(value, old.shape), new, state
        )
        step = _advance(model, hidden[:, 0], progress, limit, sampling, decoding)
        return step, new

    progress, _ = tf.while_loop(
        lambda progress, state: tf.reduce_any(progress.alive),
        body,
        (progress, state),
    )
    return _finish(progress)


def _advance(
    model: LanguageModel,
    hidden: tf.Tensor,
    progress: _Progress,
    limit: tf.Tensor,
    sampling: Sampling,
    decoding: Decoding,
) -> _Progress:
    """Samples the next id of every row from `hidden` `[batch, d_model]`."""
    token = sample(model.logits(hidden), sampling, progress.step)
    ends = token == decoding.eos_id
    for other in decoding.stop_ids:
        ends |= token == other
    kept = progress.alive & ~ends
    token = tf.where(kept, token, decoding.pad_id)
    written = tf.tensor_scatter_nd_update(
        progress.written, progress.step[None, None], token[None]
    )
    return _Progress(
        step=progress.step + 1,
        token=token,
        alive=kept & (progress.step + 1 < limit),
        stopped=progress.stopped | (progress.alive & ends),
        count=progress.count + tf.cast(kept, tf.int32),
        written=tf.ensure_shape(written, progress.written.shape),
    )


def _finish(progress: _Progress) -> Generation:
    longest = tf.reduce_max(tf.concat([progress.count, [0]], axis=0))
    return Generation(
        token_ids=tf.transpose(progress.written[:longest]),
        num_tokens=progress.count,
        finish_reason=tf.where(progress.stopped, "stop", "length"),
    )
