# SPDX-License-Identifier: Apache-2.0
"""One optimizer update under any strategy, and the compiled loop that runs many.

On each replica:   sums of loss, weight and gradients over its micro-batches
Between replicas:  one packed all-reduce (SUM) of weight, loss and gradients
Everywhere equal:  divide by the global weight, global norm, finite?, clip
On each device:    update

Rows: replica r of R takes the contiguous rows [r * B / R, (r + 1) * B / R) of a global
batch of B rows, and its micro-batch i the i-th contiguous slice of those. A process
holds the rows of its own replicas, which are contiguous too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.commands import UsageError
from trainer.losses import cross_entropy
from trainer.models.language_model import LanguageModel
from trainer.optimizers import Factors, Optimizer


class Batch(NamedTuple):
    """What a model reads and is asked for; each `[batch, length]`.

    Attributes:
        inputs: int32 ids.
        targets: int32 ids that follow them.
        weights: float32, 1 where the target counts.
        segment_ids: int32, from 1 in each row; 0 is padding.
        positions: int32, from 0 in each segment; 0 in padding.
        prefix: bool, where an input is seen by its whole segment; None where none is.
    """

    inputs: tf.Tensor
    targets: tf.Tensor
    weights: tf.Tensor
    segment_ids: tf.Tensor
    positions: tf.Tensor
    prefix: tf.Tensor | None


class StepMetrics(NamedTuple):
    """What each step of a loop measured; each `[num_steps]`, float32.

    Attributes:
        loss_sum: nats over the global batch's targets.
        weight_sum: number of those targets.
        gradient_norm: global norm before clipping.
        learning_rate: the step's rate.
        skipped: 1 where the update was skipped, else 0.
    """

    loss_sum: tf.Tensor
    weight_sum: tf.Tensor
    gradient_norm: tf.Tensor
    learning_rate: tf.Tensor
    skipped: tf.Tensor


def unpack_rows(features: Mapping[str, tf.Tensor]) -> Batch:
    """Shifts packed rows by one: the only place where inputs meet targets.

        tokens           a b c d e f 0 0     segment_lengths  3 3 0
        inputs           a b c d e f 0       segment_ids      1 1 1 2 2 2 0
        targets          b c d e f 0 0       positions        0 1 2 0 1 2 0
        weights          1 1 0 1 1 0 0

    The first id of a segment is no target of the segment before it, nor is padding.
    With prefix_lengths, the ids of a prefix are no targets either; with loss_mask,
    only ids whose bit is set are.

    Args:
        features: int32: tokens `[batch, length + 1]`, segment_lengths
            `[batch, max_segments]`, zero padded; prefix_lengths likewise, and
            loss_mask `[batch, ceil((length + 1) / 8)]`, where the dataset has them.
    """
    tokens, segment_lengths = features["tokens"], features["segment_lengths"]
    columns = tf.range(tf.shape(tokens)[1])
    ends = tf.cumsum(segment_lengths, axis=1)
    starts = ends - segment_lengths
    queries = tf.tile(columns[None, :], [tf.shape(tokens)[0], 1])
    closed = tf.searchsorted(ends, queries, side="right")
    real = columns[None, :] < ends[:, -1:]
    segment_ids = tf.where(real, closed + 1, 0)
    place = tf.minimum(closed, tf.shape(starts)[1] - 1)
    start = tf.gather(starts, place, batch_dims=1)
    positions = tf.where(real, columns[None, :] - start, 0)
    counts = real[:, 1:] & (segment_ids[:, 1:] == segment_ids[:, :-1])
    prefix = None
    if "prefix_lengths" in features:
        lengths = tf.gather(features["prefix_lengths"], place, batch_dims=1)
        prefix = real & (positions < lengths)
        counts &= ~prefix[:, 1:]
    if "loss_mask" in features:
        counts &= _unpacked(features["loss_mask"], columns)[:, 1:]
    return Batch(
        inputs=tokens[:, :-1],
        targets=tokens[:, 1:],
        weights=tf.cast(counts, tf.float32),
        segment_ids=segment_ids[:, :-1],
        positions=positions[:, :-1],
        prefix=None if prefix is None else prefix[:, :-1],
    )


def _unpacked(mask: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns bit c of each row's bytes, lowest first, bool `[batch, columns]`."""
    bytes_of_columns = tf.gather(mask, columns // 8, axis=1)
    return tf.bitwise.right_shift(bytes_of_columns, columns[None, :] % 8) % 2 == 1


@dataclass(frozen=True)
class Layout:
    """How a global batch is spread: replicas x accumulation x micro_batch_size rows."""

    global_batch_size: int
    micro_batch_size: int
    num_replicas: int

    def __post_init__(self) -> None:
        rows = self.micro_batch_size * self.num_replicas
        if rows < 1 or self.global_batch_size % rows or self.global_batch_size < 1:
            raise UsageError(
                "wanted data.global_batch_size to be a multiple of "
                f"data.micro_batch_size x replicas, found {self.global_batch_size} and "
                f"{self.micro_batch_size} x {self.num_replicas}. Change one of them"
            )

    @property
    def replica_rows(self) -> int:
        """Rows of one step on one replica."""
        return self.global_batch_size // self.num_replicas

    @property
    def accumulation(self) -> int:
        """Micro-batches of one step on one replica."""
        return self.replica_rows // self.micro_batch_size


def make_train_loop(
    model: LanguageModel,
    optimizer: Optimizer,
    strategy: tf.distribute.Strategy,
    *,
    global_batch_size: int,
    micro_batch_size: int,
    seed: int,
) -> Callable[[Mapping[str, np.ndarray], int], StepMetrics]:
    """Returns a function that runs many steps in one compiled call.

    Args:
        model: made in the strategy's scope.
        optimizer: likewise, for the model's trainable variables.
        strategy: decides how many replicas share a global batch.
        global_batch_size: rows of one step over all replicas.
        micro_batch_size: rows that pass through a replica at once; the rest of its
            rows are accumulated.
        seed: of dropout.

    Returns:
        `train(features, num_steps)`, with the features of rows as `unpack_rows` takes
        them, each `[steps, local batch, count]`, of which the first num_steps are
        used: the rows of this process's replicas. It returns at once; reading its
        `StepMetrics` waits for the steps.
    """
    layout = Layout(global_batch_size, micro_batch_size, strategy.num_replicas_in_sync)
    step = _make_replica_step(model, optimizer, strategy, layout, seed)

    @tf.function(autograph=False)
    def run(features: Mapping[str, tf.Tensor], num_steps: tf.Tensor) -> StepMetrics:
        arrays = [tf.TensorArray(tf.float32, num_steps) for _ in StepMetrics._fields]

        def body(index: tf.Tensor, *arrays: tf.TensorArray) -> list:
            result = strategy.run(step, args=(features, index))
            values = [strategy.experimental_local_results(x)[0] for x in result]
            written = [a.write(index, x) for a, x in zip(arrays, values, strict=True)]
            return [index + 1, *written]

        _, *arrays = tf.while_loop(
            lambda index, *_: index < num_steps, body, [tf.constant(0), *arrays]
        )
        return StepMetrics(*(array.stack() for array in arrays))

    longest = 0

    def train(features: Mapping[str, np.ndarray], num_steps: int) -> StepMetrics:
        nonlocal longest
        longest = max(longest, len(features["tokens"]))
        # A shorter block than the longest is padded, so that it is not traced anew.
        placed = {
            name: spread_rows(strategy, _lengthen(values, longest), axis=1)
            for name, values in features.items()
        }
        return run(placed, tf.constant(num_steps))

    return train


def spread_rows(
    strategy: tf.distribute.Strategy, rows: np.ndarray, axis: int
) -> tf.distribute.DistributedValues:
    """Gives each local replica its contiguous slice of this process's rows."""
    local = len(strategy.extended.worker_devices)
    slices = np.split(rows, local, axis=axis)

    def place(context: Any) -> tf.Tensor:
        return tf.constant(slices[context.replica_id_in_sync_group % local], tf.int32)

    return strategy.experimental_distribute_values_from_function(place)


def _lengthen(block: np.ndarray, steps: int) -> np.ndarray:
    missing = steps - len(block)
    return np.pad(block, [(0, missing)] + [(0, 0)] * (block.ndim - 1))


def _make_replica_step(
    model: LanguageModel,
    optimizer: Optimizer,
    strategy: tf.distribute.Strategy,
    layout: Layout,
    seed: int,
) -> Callable[[Mapping[str, tf.Tensor], tf.Tensor], StepMetrics]:
    """Returns one replica's part of one step; `index` picks the step in the block."""
    variables = list(model.trainable_variables)
    clip_norm = optimizer.config.clip_norm

    def step(features: Mapping[str, tf.Tensor], index: tf.Tensor) -> StepMetrics:
        context = tf.distribute.get_replica_context()
        rate, dropout_seed = optimizer.learning_rate(), None
        if model.config.dropout:
            now = tf.cast(tf.convert_to_tensor(optimizer.step), tf.int32)
            dropout_seed = tf.stack([tf.constant(seed % 2**31, tf.int32), now])
        rows = {name: values[index] for name, values in features.items()}
        sums = global_sums(model, variables, layout, rows, dropout_seed)
        weight_sum, loss_sum, *gradients = sums
        norm, accepted, gradients = _mean_and_clip(
            weight_sum, loss_sum, gradients, clip_norm
        )

        def update(
            strategy: tf.distribute.Strategy,
            gradients: Sequence[tf.Tensor],
            factors: Factors,
        ) -> None:
            optimizer.update(strategy, variables, gradients, factors)

        _merge(context, strategy, update, (gradients, optimizer.factors(accepted)))
        skipped = tf.cast(~accepted, tf.float32)
        return StepMetrics(loss_sum, weight_sum, norm, rate, skipped)

    return step


def global_sums(
    model: LanguageModel,
    variables: Sequence[tf.Variable],
    layout: Layout,
    features: Mapping[str, tf.Tensor],
    dropout_seed: tf.Tensor | None,
) -> list[tf.Tensor]:
    """Returns [weight, loss, *gradients] summed over the global batch.

    Called in replica context with the replica's own rows; the one collective of a
    step is here, outside every loop and condition.

    Args:
        model: the model.
        variables: what gradients are taken for.
        layout: how the global batch is spread.
        features: of `replica_rows` rows, as `unpack_rows` takes them.
        dropout_seed: int32 `[2]`, or None.
    """
    context = tf.distribute.get_replica_context()
    first_row = context.replica_id_in_sync_group * layout.replica_rows
    sums = _accumulate(model, variables, layout, features, first_row, dropout_seed)
    if layout.num_replicas == 1:
        return sums
    return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)


def _accumulate(
    model: LanguageModel,
    variables: Sequence[tf.Variable],
    layout: Layout,
    features: Mapping[str, tf.Tensor],
    first_row: tf.Tensor,
    dropout_seed: tf.Tensor | None,
) -> list[tf.Tensor]:
    """Returns [weight, loss, *gradients] summed over a replica's micro-batches."""
    size = layout.micro_batch_size

    def micro_batch(index: tf.Tensor) -> list[tf.Tensor]:
        start = index * size
        part = tf.range(size) + start
        return sum_gradients(
            model,
            variables,
            unpack_rows({n: x[start : start + size] for n, x in features.items()}),
            rows=first_row + part,
            dropout_seed=dropout_seed,
        )

    if layout.accumulation == 1:
        return micro_batch(0)

    def body(index: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
        new = micro_batch(index)
        return [index + 1, *(a + b for a, b in zip(sums, new, strict=True))]

    zeros = [tf.zeros([]), tf.zeros([]), *(tf.zeros(v.shape) for v in variables)]
    _, *sums = tf.while_loop(
        lambda index, *_: index < layout.accumulation, body, [tf.constant(0), *zeros]
    )
    return sums


def sum_gradients(
    model: LanguageModel,
    variables: Sequence[tf.Variable],
    batch: Batch,
    *,
    rows: tf.Tensor | None = None,
    dropout_seed: tf.Tensor | None = None,
) -> list[tf.Tensor]:
    """Returns [weight, loss, *gradients] of a micro-batch, all of them sums."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        hidden = model(
            batch.inputs,
            batch.segment_ids,
            batch.positions,
            prefix=batch.prefix,
            dropout_seed=dropout_seed,
            rows=rows,
        )
        loss, weight = cross_entropy(model, hidden, batch.targets, batch.weights)
    return [weight, loss, *tape.gradient(loss, variables)]


def _mean_and_clip(
    weight_sum: tf.Tensor,
    loss_sum: tf.Tensor,
    gradients: Sequence[tf.Tensor],
    clip_norm: float,
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """Returns (norm before clipping, whether to update, clipped mean gradients).

    An update is refused where the loss or the norm is not finite, or nothing was a
    target. Its gradients are zero, since NaN times zero would not be.
    """
    share = 1.0 / tf.maximum(weight_sum, 1.0)
    norm = tf.linalg.global_norm(gradients) * share
    finite = tf.math.is_finite(norm) & tf.math.is_finite(loss_sum)
    accepted = finite & (weight_sum > 0.0)
    if clip_norm:
        # Divided by the larger of the two: exact, and no epsilon for a norm of zero.
        share *= clip_norm / tf.maximum(norm, clip_norm)
    clipped = [tf.where(accepted, g * share, 0.0) for g in gradients]
    return norm, accepted, clipped


def _merge(
    context: tf.distribute.ReplicaContext,
    strategy: tf.distribute.Strategy,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Runs `function(strategy, *arguments)` once for all replicas.

    `maybe_merge_call` is internal to TensorFlow, but the only entry that also serves
    strategies without merge calls (NCCL inside XLA); `merge_call` is the public one.
    """
    internal = getattr(tf.__internal__.distribute, "interim", None)
    maybe_merge_call = getattr(internal, "maybe_merge_call", None)
    if maybe_merge_call is None:
        context.merge_call(function, args=arguments)
    else:
        maybe_merge_call(function, strategy, *arguments)
