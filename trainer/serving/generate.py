# SPDX-License-Identifier: Apache-2.0
"""Continues prompts inside the graph: one prefill, then one token per loop turn.

    prompts (ragged)   [a b c d e]  [f g]
    right-padded       a b c d e . . .      to a bucket: few shapes, each row at its
                       f g . . . . . .      own position
    prefill            hidden of a row's last id gives its first new one
    while any alive    decode one id a row, sample, write, stop rows at EOS or limit

Nothing here needs XLA: a stock TensorFlow Serving switches it off.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from preprocessing.contracts.prompt_limits import (
    MAX_NEW_TOKENS,
    most_new_tokens,
    prompt_room,
)
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.language_model import LanguageModel, owned_state
from trainer.serving.engine.sizes import buckets
from trainer.serving.sampling import Sampling, checked, penalised, sample


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
    asked = sampling._replace(max_new_tokens=limit)
    return _decode(ids, lengths, Loop(model, asked, decoding))


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

    The width is the smallest bucket that holds every row, at most the context.
    """
    width = bucket_of(lengths, decoding)
    column = tf.range(width)
    first = tf.cast(prompts.row_splits[1:], tf.int32) - lengths
    real = column < lengths[:, None]
    source = tf.where(real, first[:, None] + column, 0)
    return tf.where(real, tf.gather(prompts.flat_values, source), decoding.pad_id)


def bucket_of(counts: tf.Tensor, decoding: Decoding) -> tf.Tensor:
    """Returns the smallest bucket that holds all of `counts` positions, `[batch]`."""
    longest = tf.reduce_max(tf.concat([counts, [1]], axis=0))
    sizes = tf.constant(buckets(decoding.context))
    return tf.reduce_min(tf.where(sizes >= longest, sizes, sizes[-1]))


class DecodeProgress(NamedTuple):
    """What the loop carries: the next step and what has been written so far.

    Attributes:
        step: int32 scalar, ids generated so far.
        token: int32 `[batch]`, the newest id, which no state holds yet.
        alive: bool `[batch]`.
        stopped: bool `[batch]`, met EOS or another id that ends.
        count: int32 `[batch]`, ids kept.
        written: int32 `[most, batch]`, time-major: a row per step.
        seen: bool `[batch, vocab]`, ids that a repetition penalty looks at; () without.
    """

    step: tf.Tensor
    token: tf.Tensor
    alive: tf.Tensor
    stopped: tf.Tensor
    count: tf.Tensor
    written: tf.Tensor
    seen: tf.Tensor | tuple[()] = ()


@dataclass(frozen=True)
class Loop:
    """The loop of decoding: reads the newest id of each row and chooses the next.

    Attributes:
        model: whose ids they are.
        sampling: how they are chosen; its `max_new_tokens` are this loop's.
        decoding: which of them end a row.
        before: int32, a number or `[batch]`: ids generated before this loop.
    """

    model: LanguageModel
    sampling: Sampling
    decoding: Decoding
    before: int | tf.Tensor = 0

    def start(
        self, token: tf.Tensor, seen: tf.Tensor | tuple[()] = ()
    ) -> DecodeProgress:
        """Returns progress before the first step, each row's newest id `token`."""
        batch, limit = tf.shape(token)[0], self.sampling.max_new_tokens
        most = tf.reduce_max(tf.concat([limit, [0]], axis=0))
        return DecodeProgress(
            step=tf.constant(0),
            token=token,
            alive=limit > 0,
            stopped=tf.zeros([batch], tf.bool),
            count=tf.zeros([batch], tf.int32),
            written=tf.fill([most, batch], self.decoding.pad_id),
            seen=seen,
        )

    def choose(self, hidden: tf.Tensor, progress: DecodeProgress) -> DecodeProgress:
        """Samples the next id of every row from `hidden` `[batch, d_model]`."""
        logits, penalty = self.model.logits(hidden), self.sampling.repetition_penalty
        if penalty is not None:
            logits = penalised(logits, progress.seen, penalty)
        token = sample(logits, self.sampling, self.before + progress.step)
        ends = token == self.decoding.eos_id
        for other in self.decoding.stop_ids:
            ends |= token == other
        kept = progress.alive & ~ends
        token = tf.where(kept, token, self.decoding.pad_id)
        seen = progress.seen
        if penalty is not None:
            seen = marked(seen, token, penalty)
        written = tf.tensor_scatter_nd_update(
            progress.written, progress.step[None, None], token[None]
        )
        return DecodeProgress(
            step=progress.step + 1,
            token=token,
            alive=kept & (progress.step + 1 < self.sampling.max_new_tokens),
            stopped=progress.stopped | (progress.alive & ends),
            count=progress.count + tf.cast(kept, tf.int32),
            written=tf.ensure_shape(written, progress.written.shape),
            seen=seen,
        )

    def run(
        self, progress: DecodeProgress, state: Any, first: tf.Tensor
    ) -> tuple[DecodeProgress, Any]:
        """Goes on until no row is alive.

        Args:
            progress: of `start` or `choose`.
            state: the model's, with room for what is to come.
            first: int32 `[batch]`, where the id stands that the first one follows.
        """

        def body(progress: DecodeProgress, state: Any) -> tuple[DecodeProgress, Any]:
            # A row's newest id is not in its state yet; one that has ended reads none.
            places, reads = first + progress.count, tf.cast(progress.alive, tf.int32)
            hidden, new = self.model.decode(
                progress.token[:, None], state, places, reads, owned=True
            )
            new = tf.nest.map_structure(
                lambda value, old: tf.ensure_shape(value, old.shape), new, state
            )
            return self.choose(hidden[:, 0], progress), new

        return tf.while_loop(
            lambda progress, state: tf.reduce_any(progress.alive),
            body,
            # The loop writes into it: one copy here, and none in its steps.
            (progress, owned_state(state)),
        )


def marked(seen: tf.Tensor, token: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """Returns `seen` `[batch, vocab]`, true at each row's `token` if any is penalised.

    It is a copy of all of it, which rows that are not penalised need not pay for.
    """

    def mark() -> tf.Tensor:
        places = tf.stack([tf.range(tf.size(token)), token], axis=1)
        return tf.tensor_scatter_nd_update(seen, places, tf.ones_like(token, tf.bool))

    new = tf.cond(tf.reduce_any(penalty != 1), mark, lambda: seen)
    return tf.ensure_shape(new, seen.shape)


def _decode(ids: tf.Tensor, lengths: tf.Tensor, loop: Loop) -> Generation:
    """Runs the prefill of `lengths` ids a row, and the loop; shapes as `right_pad`."""
    model, limit = loop.model, loop.sampling.max_new_tokens
    capacity = tf.reduce_max(tf.concat([lengths + limit, [0]], axis=0))
    state = model.initial_state(tf.shape(ids)[0], capacity)
    hidden, state = model.decode(ids, state, tf.zeros_like(lengths), lengths)
    # The first id follows from the prefill itself: for one prompt that is a step less.
    last = tf.gather(hidden, lengths - 1, batch_dims=1)
    progress = loop.start(tf.fill(tf.shape(lengths), loop.decoding.pad_id))
    # A batch that asks for nothing has no row to write to.
    progress = tf.cond(
        tf.reduce_any(limit > 0),
        lambda: loop.choose(last, progress),
        lambda: progress,
    )
    progress, _ = loop.run(progress, state, lengths - 1)
    return _finish(progress)


def _finish(progress: DecodeProgress) -> Generation:
    longest = tf.reduce_max(tf.concat([progress.count, [0]], axis=0))
    return Generation(
        token_ids=tf.transpose(progress.written[:longest]),
        num_tokens=progress.count,
        finish_reason=tf.where(progress.stopped, "stop", "length"),
    )
