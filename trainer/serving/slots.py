# SPDX-License-Identifier: Apache-2.0
"""Decoding in slots that are refilled: what one call of a graph does for them.

    prefill   new prompts, less their last id  -> a fresh state, a row each
    insert    rows of a fresh state            -> slots of the state that decodes
    decode    up to so many ids a row          -> the state, and the ids

Nothing is kept between calls: the state goes in and comes out, which costs one copy of
it a call, so a call of `decode` makes several ids. The last id of a prompt is read by
`decode`, whose first logits are that row's: prefill needs neither logits nor sampling.
Where no row goes on already, `decode` reads whole prompts: one call in place of three,
and the weights are read once for a prompt's first new id, not twice.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from preprocessing.contracts.prompt_limits import most_new_tokens
from trainer.models.language_model import LanguageModel
from trainer.serving.generate import (
    DecodeProgress,
    Decoding,
    Loop,
    bucket_of,
    seen_ids,
)
from trainer.serving.sampling import Sampling, checked


class SlotRows(NamedTuple):
    """What `decode` asks of each row; each field but the first a `[rows]` tensor.

    Attributes:
        token_ids: int32 `[rows, width]`, the newest ids, right-padded, which the state
            does not hold yet; one at least.
        num_tokens: int32, how many of them there are, from 1.
        position: int32, where the first stands; 0 begins anew.
        steps: int32, ids to make in this call; 0 leaves the row as it is.
        count: int32, ids generated in earlier calls.
    """

    token_ids: tf.Tensor
    num_tokens: tf.Tensor
    position: tf.Tensor
    steps: tf.Tensor
    count: tf.Tensor


class Decoded(NamedTuple):
    """What `decode` made.

    Attributes:
        state: after the ids that were read: all but each row's newest.
        token_ids: int32 `[rows, most steps]`, PAD behind a row's ids, no EOS.
        num_tokens: int32 `[rows]`, ids of each row.
        stopped: bool `[rows]`, whether an id that ends it was met.
    """

    state: Any
    token_ids: tf.Tensor
    num_tokens: tf.Tensor
    stopped: tf.Tensor


class Read(NamedTuple):
    """Ids to read: int32 `[n, width]`, right-padded, and `[n]` of each other field.

    Attributes:
        token_ids: of pieces of prompts, whose last id is no part of them.
        position: of the first of them; 0 begins anew.
        num_tokens: how many there are; 0 reads none.
        source: the row of the given state that goes on; several may name one.
    """

    token_ids: tf.Tensor
    position: tf.Tensor
    num_tokens: tf.Tensor
    source: tf.Tensor


class Insertion(NamedTuple):
    """Where rows of a fresh state go; each field `[n]`.

    Attributes:
        slot: int32, which slot each goes to. One out of range goes to none, of several
            that name the same the first does: so a fixed shape can be filled up.
        capacity: int32, positions there is to be room for; the largest counts.
    """

    slot: tf.Tensor
    capacity: tf.Tensor


def prefill(model: LanguageModel, state: Any, read: Read, decoding: Decoding) -> Any:
    """Returns a state of n rows, each its `source` and the ids of its piece."""
    state = tf.nest.map_structure(lambda each: tf.gather(each, read.source), state)
    room = bucket_of(read.position + read.num_tokens, decoding)
    state = model.with_capacity(state, room)
    _, state = model.decode(read.token_ids, state, read.position, read.num_tokens)
    return state


def insert(
    model: LanguageModel, state: Any, fresh: Any, where: Insertion, decoding: Decoding
) -> Any:
    """Returns the state with the rows of a fresh one, of any room, in their slots."""
    room = bucket_of(where.capacity, decoding)
    state, fresh = model.with_capacity(state, room), model.with_capacity(fresh, room)
    rows = tf.shape(tf.nest.flatten(state)[0])[0]
    slots, places = tf.unique(where.slot)
    numbers = tf.range(tf.size(where.slot))
    first = tf.math.unsorted_segment_min(numbers, places, tf.size(slots))
    real = (slots >= 0) & (slots < rows)
    slots, first = tf.boolean_mask(slots, real), tf.boolean_mask(first, real)

    def put(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        if 0 in old.shape[1:]:  # which a scatter refuses
            return old
        moved = tf.gather(new, first)
        return tf.tensor_scatter_nd_update(old, slots[:, None], moved)

    return tf.nest.map_structure(put, state, fresh)


def decode(
    model: LanguageModel,
    state: Any,
    rows: SlotRows,
    sampling: Sampling,
    history: tf.Tensor,
    decoding: Decoding,
) -> Decoded:
    """Continues each row by up to its `steps` ids; ends when all rows have.

    Args:
        model: the model.
        state: of all rows; what it has room for is fitted to what the rows need.
        rows: where they stand.
        sampling: how they go on; its `max_new_tokens` play no part.
        history: int32 `[rows, any]`, ids of the prompt and its continuation that a
            `repetition_penalty` looks at; others, as -1, only fill.
        decoding: which ids end a row.

    Raises:
        tf.errors.InvalidArgumentError: a parameter has not one value for each row, or
            is NaN; when the graph runs.
    """
    most = most_new_tokens(decoding.context, decoding.unbounded)
    steps, newest = tf.clip_by_value(rows.steps, 0, most), rows.num_tokens - 1
    last = rows.position + newest
    if decoding.context is not None:
        steps = tf.minimum(steps, decoding.context - last)
    asked = checked(sampling._replace(max_new_tokens=steps), tf.size(last))
    seen: tf.Tensor | tuple[()] = ()
    if sampling.repetition_penalty is not None:
        seen = seen_ids(history, model.vocab_size)
    state = model.with_capacity(state, bucket_of(last + steps, decoding))
    loop = Loop(model, asked, decoding, rows.count)
    start = loop.start(tf.gather(rows.token_ids, newest, batch_dims=1), seen)

    def read_all() -> tuple[DecodeProgress, Any]:
        """Reads all ids of a row at once; the first new one follows from it."""
        reads = tf.where(start.alive, rows.num_tokens, 0)
        hidden, new = model.decode(rows.token_ids, state, rows.position, reads)
        new = tf.nest.map_structure(
            lambda value, old: tf.ensure_shape(value, old.shape), new, state
        )
        return loop.choose(tf.gather(hidden, newest, batch_dims=1), start), new

    # A single id is what the loop reads, in fewer operations. None is alive that has
    # no step to make, and then there is no place to write to.
    several = (tf.shape(rows.token_ids)[1] > 1) & tf.reduce_any(start.alive)
    progress, state = tf.cond(several, read_all, lambda: (start, state))
    progress, state = loop.run(progress, state, last)
    ids = tf.transpose(progress.written)
    return Decoded(state, ids, progress.count, progress.stopped)
