# SPDX-License-Identifier: Apache-2.0
"""Evaluates a model on every row of a split, once, under any strategy.

The result is sums until one division at the end, so it depends neither on how rows
fall into batches nor on how batches fall to replicas.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from preprocessing.commands import UsageError, WorkError
from preprocessing.manifest import Manifest, read_manifest
from preprocessing.tokenizer import Tokenizer
from trainer.checkpoints import open_run
from trainer.input_pipeline import SubRows
from trainer.losses import cross_entropy
from trainer.models.language_model import LanguageModel
from trainer.run_directory import read_run
from trainer.strategies import make_strategy
from trainer.train_step import spread_rows, unpack_rows
from trainer.workers import Workers, workers_of


@dataclass(frozen=True)
class Evaluation:
    """Sums over a split.

    Attributes:
        nats: cross-entropy over all targets.
        targets: how many there are; ids that stand for no text included.
        text_bytes: UTF-8 bytes the targets stand for; special ids stand for none.
    """

    nats: float
    targets: int
    text_bytes: int

    @property
    def loss(self) -> float:
        """Nats per target."""
        return self.nats / self.targets

    @property
    def perplexity(self) -> float:
        """Exponential of the loss."""
        return math.exp(self.loss)

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of text, whatever the tokenizer; None without text."""
        if not self.text_bytes:
            return None
        return self.nats / math.log(2) / self.text_bytes


Evaluate = Callable[[SubRows, Callable[[], None]], Evaluation]


def evaluate_run(
    run: str,
    dataset: str,
    split: str,
    step: int | None,
    strategy_name: str,
    logical_cpus: int,
) -> Evaluation | None:
    """Evaluates a run's model on every row of a split.

    Args:
        run: the run's directory.
        dataset: a dataset encoded with the run's tokenizer.
        split: "train" or "validation".
        step: which checkpoint; None is the last one.
        strategy_name: as `--strategy`.
        logical_cpus: devices to split the CPU into.

    Returns:
        The result, on the chief; None on other workers.

    Raises:
        UsageError: the run or dataset is not what it should be.
        WorkError: a row is damaged, or the split holds no target.
    """
    files, manifest = read_run(run), read_manifest(dataset)
    if manifest.tokenizer_sha256 != files.manifest.tokenizer_sha256:
        raise UsageError(
            f"wanted a dataset encoded with the tokenizer of {run}, {dataset} has "
            "another. Prepare it with the run's tokenizer.json"
        )
    length = files.config.data.sequence_length or files.manifest.sequence_length
    rows = SubRows(dataset, manifest, split, length)
    strategy = make_strategy(strategy_name, logical_cpus)
    workers = workers_of(strategy)
    with strategy.scope():
        opened = open_run(run, step)
    workers.agree(opened.step, "the checkpoint's step")
    counts = byte_counts(opened.tokenizer_path, manifest)
    data, replicas = files.config.data, strategy.num_replicas_in_sync
    micro = data.micro_batch_size or max(1, data.global_batch_size // replicas)
    evaluate = make_evaluate(opened.model, workers, counts, micro * replicas)
    result = evaluate(rows, lambda: None)
    return result if workers.chief else None


def byte_counts(tokenizer_path: str, manifest: Manifest) -> np.ndarray:
    """Returns the UTF-8 bytes each id stands for, int32 [vocab_size]."""
    tokenizer = Tokenizer.restore(
        tokenizer_path,
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )
    return np.array([len(word) for word in tokenizer.token_bytes()], np.int32)


def make_evaluate(
    model: LanguageModel, workers: Workers, counts: np.ndarray, batch_rows: int
) -> Evaluate:
    """Returns a function that evaluates a split; it is traced once.

    Args:
        model: made in the strategy's scope.
        workers: the processes that share the work; all call the function together.
        counts: bytes each id stands for, int32 [vocab_size].
        batch_rows: rows of a batch over all replicas, a multiple of them.

    Returns:
        `evaluate(rows, between_batches)`; `between_batches` may raise to end it.
    """
    strategy = workers.strategy

    def on_replica(tokens: tf.Tensor, lengths: tf.Tensor) -> list[tf.Tensor]:
        batch = unpack_rows(tokens, lengths)
        hidden = model(batch.inputs, batch.segment_ids, batch.positions)
        nats, weight = cross_entropy(model, hidden, batch.targets, batch.weights)
        sizes = tf.gather(tf.constant(counts, tf.float32), batch.targets)
        return [nats, weight, tf.reduce_sum(sizes * batch.weights)]

    @tf.function(autograph=False)
    def sums(tokens: tf.Tensor, lengths: tf.Tensor) -> list[tf.Tensor]:
        results = strategy.run(on_replica, args=(tokens, lengths))
        return [
            strategy.reduce(tf.distribute.ReduceOp.SUM, result, axis=None)
            for result in results
        ]

    def evaluate(rows: SubRows, between_batches: Callable[[], None]) -> Evaluation:
        total = np.zeros(3)  # float64: a batch's float32 sums are added exactly enough
        for start in range(0, rows.num_rows, batch_rows):
            batch = _padded_batch(rows, start, batch_rows, workers)
            placed = [spread_rows(strategy, part, axis=0) for part in batch]
            total += [float(value) for value in sums(*placed)]
            between_batches()
        nats, targets, text_bytes = total.tolist()
        if not targets:
            raise WorkError(
                "wanted targets to evaluate on, found none in the split. Prepare a "
                "larger corpus or a larger --validation_fraction"
            )
        return Evaluation(nats, round(targets), round(text_bytes))

    return evaluate


def _padded_batch(
    rows: SubRows, start: int, batch_rows: int, workers: Workers
) -> tuple[np.ndarray, np.ndarray]:
    """Returns this worker's share of a batch; rows past the end weigh nothing."""
    share = batch_rows // workers.count
    first = start + workers.index * share
    wanted = np.arange(first, min(first + share, rows.num_rows))
    tokens = np.zeros((share, rows.sequence_length + 1), np.int32)
    lengths = np.zeros((share, rows.max_segments), np.int32)
    if wanted.size:
        tokens[: wanted.size], lengths[: wanted.size] = rows.read(wanted)
    return tokens, lengths
