# SPDX-License-Identifier: Apache-2.0
"""Evaluates a model on every row of a split, once, under any strategy.

The result is sums until one division at the end, so it depends neither on how rows
fall into batches nor on how batches fall to replicas. The rows of a mixture are also
summed by source.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import tensorflow as tf

from preprocessing.foundation.commands import WorkError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.compute.compilation import Compilation
from trainer.compute.lanes import side_by_side
from trainer.data.batch import unpack_rows
from trainer.data.input_pipeline import Features, SubRows
from trainer.data.mixed_rows import JoinedRows
from trainer.distribution.workers import Workers
from trainer.step.layout import Layout
from trainer.step.losses import target_nats
from trainer.step.model_with_values import ModelWithValues
from trainer.step.train_step import spread_rows


@dataclass(frozen=True)
class Evaluation:
    """Sums over a split.

    Attributes:
        loss_sum: cross-entropy over all targets, in nats.
        targets: how many there are; ids that stand for no text included.
        text_bytes: UTF-8 bytes the targets stand for; special ids stand for none.
        sources: the same of each source of a mixture that has targets, by name.
    """

    loss_sum: float
    targets: int
    text_bytes: int
    sources: Mapping[str, "Evaluation"] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.loss_sum / self.targets

    @property
    def perplexity(self) -> float:
        """Exponential of the loss; infinite above 709 nats, where float64 ends."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of text, whatever the tokenizer; None without text."""
        if not self.text_bytes:
            return None
        return self.loss_sum / math.log(2) / self.text_bytes


Evaluate = Callable[[SubRows | JoinedRows, Callable[[], None]], Evaluation]


def byte_counts(tokenizer: Tokenizer) -> np.ndarray:
    """Returns the UTF-8 bytes each id stands for, int32 [vocab_size]."""
    return np.array([len(word) for word in tokenizer.token_bytes()], np.int32)


def make_evaluate(
    evaluated: ModelWithValues,
    workers: Workers,
    layout: Layout,
    counts: np.ndarray,
    sources: Sequence[str] = (),
    compilation: Compilation = Compilation.NONE,
) -> Evaluate:
    """Returns a function that evaluates a split; it is traced once.

    Args:
        evaluated: the model, and what it is judged by.
        workers: the processes that share the work; all call the function together.
        layout: a batch is a micro-batch of it on each replica, in as many lanes.
        counts: bytes each id stands for, int32 [vocab_size].
        sources: names of the sources that rows have; none where they have none.
        compilation: what of it XLA compiles.

    Returns:
        `evaluate(rows, between_batches)`; `between_batches` may raise to end it.
    """
    on_rows = partial(_row_sums, evaluated, counts, sources)

    def in_lanes(
        values: Sequence[tf.Tensor], features: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        return side_by_side(partial(on_rows, values), features, layout.lanes)[0]

    on_device = compilation.alone(in_lanes)

    def on_replica(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return on_device(evaluated.values(), dict(features))

    sums = _summing(workers, on_replica)
    batch_rows = layout.micro_batch_size * layout.num_replicas

    def evaluate(
        rows: SubRows | JoinedRows, between_batches: Callable[[], None]
    ) -> Evaluation:
        # float64: a batch's float32 sums are added exactly enough
        total = np.zeros((max(1, len(sources)), 3))
        for start in range(0, rows.num_rows, batch_rows):
            total += sums(_padded_batch(rows, start, batch_rows, workers))
            between_batches()
        if not total[:, 1].any():
            raise WorkError(
                "wanted targets to evaluate on, found none in the split. Prepare a "
                "larger corpus or a larger --validation_fraction"
            )
        return _evaluation(total, sources)

    return evaluate


def _row_sums(
    evaluated: ModelWithValues,
    counts: np.ndarray,
    sources: Sequence[str],
    values: Sequence[tf.Tensor],
    features: Mapping[str, tf.Tensor],
    _: int,
) -> list[tf.Tensor]:
    """Returns loss, weight and bytes summed, of each source or all: `[sources, 3]`."""
    batch, model = unpack_rows(features), evaluated.model
    with evaluated.called_with(values):
        hidden = model(
            batch.inputs,
            batch.segment_ids,
            batch.positions,
            prefix=batch.prefix,
            max_segments=batch.max_segments,
        )
        nats = target_nats(model, hidden, batch.targets)
    sizes = tf.gather(tf.constant(counts, tf.float32), batch.targets)
    columns = [tf.reshape(nats, batch.weights.shape), tf.ones_like(sizes), sizes]
    by_row = [tf.reduce_sum(x * batch.weights, axis=1) for x in columns]
    # All segments of a row are of one source.
    numbers = (
        features["sources"][:, 0] if sources else tf.zeros_like(by_row[0], tf.int32)
    )
    sums = tf.math.unsorted_segment_sum(
        tf.stack(by_row, axis=1), numbers, max(1, len(sources))
    )
    return [sums]


def _summing(
    workers: Workers, on_replica: Callable[[Mapping[str, tf.Tensor]], tf.Tensor]
) -> Callable[[Features], np.ndarray]:
    """Returns a function that sums `on_replica` over a batch's rows on all replicas."""
    strategy, coordinator = workers.strategy, workers.coordinator
    if coordinator is not None:
        on_worker = coordinator.on_replica(on_replica)

        def on_one_worker(batch: Features) -> np.ndarray:
            features = {name: tf.constant(x, tf.int32) for name, x in batch.items()}
            return coordinator.map(on_worker, [(features,)])[0]

        return on_one_worker

    @tf.function(autograph=False)
    def run(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        results = strategy.run(on_replica, args=(features,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, results, axis=None)

    def on_all_replicas(batch: Features) -> np.ndarray:
        placed = {n: spread_rows(strategy, x, axis=0) for n, x in batch.items()}
        return run(placed).numpy()

    return on_all_replicas


def _evaluation(total: np.ndarray, sources: Sequence[str]) -> Evaluation:
    """Returns the sums, float64 [sources, 3], in whole and by source."""
    rows = [total.sum(axis=0).tolist(), *total.tolist()]
    lines = [
        Evaluation(loss_sum, round(targets), round(text_bytes))
        for loss_sum, targets, text_bytes in rows
    ]
    named = zip(sources, lines[1:], strict=False)
    by_source = {name: line for name, line in named if line.targets}
    return replace(lines[0], sources=by_source)


def _padded_batch(
    rows: SubRows | JoinedRows, start: int, batch_rows: int, workers: Workers
) -> Features:
    """Returns this worker's share of a batch; rows past the end weigh nothing."""
    share = batch_rows // workers.count
    first = start + workers.index * share
    wanted = np.arange(first, min(first + share, rows.num_rows))
    batch = {
        name: np.zeros((share, count), np.int32) for name, count in rows.counts.items()
    }
    if wanted.size:
        for name, values in rows.read(wanted).items():
            batch[name][: wanted.size] = values
    return batch
