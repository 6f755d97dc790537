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
from trainer.serving.stop_graph import Stops, StopSearch, ids_before


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
        finish_reason: string `[batch]`: `stop` at EOS or a stop string, `length` at a
            limit.
        logprobs: float32 `[batch, longest]`, the natural logarithm of each id's
            likelihood as the model gives it, before penalty, temperature and limits; 0
            behind a row's ids. None where they are not asked for.
        num_bytes: int32 `[batch]`, how much of the ids' text belongs to the row, the
            largest int32 for all: a stop string may begin within a token. None without
            stop strings.
    """

    token_ids: tf.Tensor
    num_tokens: tf.Tensor
    finish_reason: tf.Tensor
    logprobs: tf.Tensor | None = None
    num_bytes: tf.Tensor | None = None


def generate(
    model: LanguageModel,
    prompts: tf.RaggedTensor,
    sampling: Sampling,
    decoding: Decoding,
    stops: Stops | None = None,
    with_logprobs: bool = False,
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
    also = {} if stops is None else {"stop": stops.strings}
    sampling = checked(sampling, tf.cast(prompts.nrows(), tf.int32), also)
    prompts = open_prompts(prompts, decoding)
    most = most_new_tokens(decoding.context, decoding.unbounded)
    limit = tf.clip_by_value(sampling.max_new_tokens, 0, most)
    lengths = tf.cast(prompts.row_lengths(), tf.int32)
    if decoding.context is not None:
        lengths = tf.minimum(lengths, prompt_room(limit, decoding.context))
        limit = tf.minimum(limit, decoding.context - lengths)
    ids = right_pad(prompts, lengths, decoding)
    asked = sampling._replace(max_new_tokens=limit)
    loop = Loop(model, asked, decoding, stops=stops, with_logprobs=with_logprobs)
    return _decode(ids, lengths, loop)


def ids_of(generation: Generation) -> list[list[int]]:
    """Returns the ids of each row; for a generation that has values."""
    lengths = generation.num_tokens.numpy()
    rows = zip(generation.token_ids.numpy(), lengths, strict=True)
    return [row[:length].tolist() for row, length in rows]


def texts_of(generation: Generation, tokenizer: Tokenizer) -> list[str]:
    """Decodes each row's continuation; for a generation that has values."""
    rows, cut = ids_of(generation), generation.num_bytes
    most = [None] * len(rows) if cut is None else cut.numpy().tolist()
    return [tokenizer.decode(row, size) for row, size in zip(rows, most, strict=True)]


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
        logprobs: float32 `[most, batch]`, of what is written; () without.
        search: for stop strings; () without.
    """

    step: tf.Tensor
    token: tf.Tensor
    alive: tf.Tensor
    stopped: tf.Tensor
    count: tf.Tensor
    written: tf.Tensor
    seen: tf.Tensor | tuple[()] = ()
    logprobs: tf.Tensor | tuple[()] = ()
    search: StopSearch | tuple[()] = ()


@dataclass(frozen=True)
class Loop:
    """The loop of decoding: reads the newest id of each row and chooses the next.

    Attributes:
        model: whose ids they are.
        sampling: how they are chosen; its `max_new_tokens` are this loop's.
        decoding: which of them end a row.
        before: int32, a number or `[batch]`: ids generated before this loop.
        stops: strings that end rows as well.
        with_logprobs: whether ids are written with their likelihoods.
    """

    model: LanguageModel
    sampling: Sampling
    decoding: Decoding
    before: int | tf.Tensor = 0
    stops: Stops | None = None
    with_logprobs: bool = False

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
            logprobs=tf.zeros([most, batch]) if self.with_logprobs else (),
            search=() if self.stops is None else self.stops.start(),
        )

    def choose(self, hidden: tf.Tensor, progress: DecodeProgress) -> DecodeProgress:
        """Samples the next id of every row from `hidden` `[batch, d_model]`."""
        given, penalty = self.model.logits(hidden), self.sampling.repetition_penalty
        logits = given
        if penalty is not None:
            logits = penalised(logits, progress.seen, penalty)
        token = sample(logits, self.sampling, self.before + progress.step)
        ends = token == self.decoding.eos_id
        for other in self.decoding.stop_ids:
            ends |= token == other
        kept = progress.alive & ~ends
        token = tf.where(kept, token, self.decoding.pad_id)
        seen, logprobs, search = progress.seen, progress.logprobs, progress.search
        if penalty is not None:
            seen = marked(seen, token, penalty)
        if self.with_logprobs:
            likely = tf.gather(given, token, batch_dims=1)
            likely -= tf.reduce_logsumexp(given, axis=-1)
            logprobs = _written(logprobs, progress.step, tf.where(kept, likely, 0.0))
        alive = kept & (progress.step + 1 < self.sampling.max_new_tokens)
        stopped = progress.stopped | (progress.alive & ends)
        if self.stops is not None and isinstance(search, StopSearch):
            search = self.stops.step(search, token, kept)
            alive, stopped = alive & ~search.found, stopped | search.found
        return DecodeProgress(
            step=progress.step + 1,
            token=token,
            alive=alive,
            stopped=stopped,
            count=progress.count + tf.cast(kept, tf.int32),
            written=_written(progress.written, progress.step, token),
            seen=seen,
            logprobs=logprobs,
            search=search,
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


def seen_ids(history: tf.Tensor, vocab_size: int) -> tf.Tensor:
    """Returns which ids each row's history holds, bool `[rows, vocab_size]`.

    Others than the model's, as -1, only fill.
    """
    real = tf.where((history >= 0) & (history < vocab_size))
    ids = tf.cast(tf.gather_nd(history, real), tf.int64)
    places = tf.stack([real[:, 0], ids], axis=1)
    shape = tf.stack([tf.shape(history)[0], vocab_size])
    found = tf.ones_like(ids, tf.bool)
    none = tf.ensure_shape(tf.zeros(shape, tf.bool), [None, vocab_size])
    return tf.tensor_scatter_nd_update(none, places, found)


def _decode(ids: tf.Tensor, lengths: tf.Tensor, loop: Loop) -> Generation:
    """Runs the prefill of `lengths` ids a row, and the loop; shapes as `right_pad`."""
    model, limit = loop.model, loop.sampling.max_new_tokens
    capacity = tf.reduce_max(tf.concat([lengths + limit, [0]], axis=0))
    state = model.initial_state(tf.shape(ids)[0], capacity)
    hidden, state = model.decode(ids, state, tf.zeros_like(lengths), lengths)
    # The first id follows from the prefill itself: for one prompt that is a step less.
    last = tf.gather(hidden, lengths - 1, batch_dims=1)
    seen: tf.Tensor | tuple[()] = ()
    if loop.sampling.repetition_penalty is not None:
        read = tf.sequence_mask(lengths, tf.shape(ids)[1])
        seen = seen_ids(tf.where(read, ids, -1), model.vocab_size)
    progress = loop.start(tf.fill(tf.shape(lengths), loop.decoding.pad_id), seen)
    # A batch that asks for nothing has no row to write to.
    progress = tf.cond(
        tf.reduce_any(limit > 0),
        lambda: loop.choose(last, progress),
        lambda: progress,
    )
    progress, _ = loop.run(progress, state, lengths - 1)
    return _finish(progress, loop)


def _finish(progress: DecodeProgress, loop: Loop) -> Generation:
    count, num_bytes = progress.count, None
    if loop.stops is not None and isinstance(progress.search, StopSearch):
        num_bytes = progress.search.cut
        count = ids_before(progress.written, count, loop.stops.token_bytes, num_bytes)
    longest = tf.reduce_max(tf.concat([count, [0]], axis=0))
    own = tf.sequence_mask(count, longest)
    ids = tf.transpose(progress.written[:longest])
    logprobs = None
    if loop.with_logprobs:
        logprobs = tf.where(own, tf.transpose(progress.logprobs[:longest]), 0.0)
    return Generation(
        token_ids=tf.where(own, ids, loop.decoding.pad_id),
        num_tokens=count,
        finish_reason=tf.where(progress.stopped, "stop", "length"),
        logprobs=logprobs,
        num_bytes=num_bytes,
    )


def _written(rows: tf.Tensor, step: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Returns `rows` `[most, batch]` with the row of a step."""
    new = tf.tensor_scatter_nd_update(rows, step[None, None], row[None])
    return tf.ensure_shape(new, rows.shape)
