# SPDX-License-Identifier: Apache-2.0
"""The two sides of `train_step_gpu.py`, and what the turns of either took."""

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from tests.benchmarks.gpu.utilisation import product_weights
from tests.benchmarks.peers import LaunchedPeer, peer_script
from tests.benchmarks.train_step_gpu import Size
from tests.benchmarks.turns import spread
from trainer.compute.compilation import Compilation, choose_compilation
from trainer.distribution.strategies import make_strategy
from trainer.models.decoder import DecoderConfig
from trainer.models.model import build_model
from trainer.run.config import RunConfig
from trainer.step.layout import Layout
from trainer.step.step_metrics import StepMetrics, as_arrays
from trainer.step.train_step import ReplicaStep, make_train_loop, make_train_state

PEER = peer_script("train_step_torch.py")
# With these PyTorch would load the libraries that are meant for TensorFlow.
OURS_ALONE = ("PYTHONPATH", "LD_LIBRARY_PATH", "XLA_FLAGS")
# Documents that a prepared row has room for, as in `train_step.py`.
_SEGMENTS = 64


@dataclass(frozen=True)
class Turn:
    """A turn's seconds, and the most bytes that lay on the card; None without one."""

    wall: float
    peak_bytes: int | None


class Ours:
    """The loop that `quern-train` runs.

    Attributes:
        name: of the table's row.
        product_weights: numbers in matrices.
        first_loss: nats a target of the first step.
        skipped: steps whose update was skipped, so far.
    """

    def __init__(self, size: Size, config: RunConfig) -> None:
        """Builds the loop, compiles it and runs it once."""
        self.name = f"Quern, TensorFlow {tf.__version__}"
        self._steps, self._gpu = size.steps, size.device == "gpu"
        strategy = make_strategy("one_device")
        with strategy.scope():
            model = build_model(
                config.model, size.vocabulary, config.precision, config.seed
            )
            state = make_train_state(
                model, config.optimizer, config.guard, config.loop.total_steps
            )
        self.product_weights = product_weights(model)
        layout = Layout(size.rows, size.rows, 1)
        flops = size.rows * size.length * model.flops_per_token(size.length)
        compilation = choose_compilation(config.compute.xla, flops, False)
        # As many as there are, and padding, which a run counts too.
        usual = None if compilation is not Compilation.WHOLE else size.documents + 1
        step = ReplicaStep(
            state, strategy, layout, config.loss, config.seed, compilation, usual
        )
        self._loop = make_train_loop(step, strategy)
        self._features = random_rows(size)
        self.skipped = 0
        metrics = self.call()
        self.first_loss = float(metrics.loss_sum[0] / metrics.weight_sum[0])

    def call(self) -> StepMetrics[np.ndarray]:
        """Runs a turn's steps in one call, and waits for them."""
        metrics = as_arrays(self._loop(self._features, self._steps))
        self.skipped += int((metrics.skipped != 0).sum())
        return metrics

    def turn(self) -> Turn:
        """Takes a turn."""
        if self._gpu:
            tf.config.experimental.reset_memory_stats("GPU:0")
        began = time.perf_counter()
        self.call()
        wall = time.perf_counter() - began
        peak = None
        if self._gpu:
            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        return Turn(wall, peak)


def random_rows(size: Size) -> dict[str, np.ndarray]:
    """Returns features of a turn's steps, each row of documents of equal length."""
    shape = size.steps, size.rows, size.length + 1
    tokens = np.random.default_rng(0).integers(0, size.vocabulary, shape, np.int32)
    lengths = np.zeros([*shape[:2], max(_SEGMENTS, size.documents)], np.int32)
    pieces = np.array_split(np.arange(size.length + 1), size.documents)
    lengths[:, :, : size.documents] = [len(piece) for piece in pieces]
    return {"tokens": tokens, "segment_lengths": lengths}


def decoder_of(config: RunConfig) -> DecoderConfig:
    """Returns the model's configuration, which PyTorch's side has to have as well.

    Raises:
        UsageError: it has not.
    """
    model = config.model
    if isinstance(model, DecoderConfig):
        heads = model.heads
        as_many = heads.kv_heads == heads.heads and heads.query_width == model.d_model
        if model.tie_embeddings and as_many and not model.dropout:
            return model
    raise UsageError(
        "wanted a decoder with tied embeddings, as many key as query heads and no "
        f"dropout, found {model}. Leave model.family, those and their like alone"
    )


def launch_peer(size: Size, model: DecoderConfig, compute: str) -> LaunchedPeer | None:
    """Starts PyTorch's side of the same shape; None where it is not wanted."""
    if not size.peer_python:
        return None
    shape = {
        "num_layers": model.num_layers,
        "d_model": model.d_model,
        "num_heads": model.num_heads,
        "ffn_dim": model.hidden_dim,
        "vocab_size": size.vocabulary,
        "length": size.length,
        "batch": size.rows,
    }
    device = "cuda" if size.device == "gpu" else "cpu"
    command = [size.peer_python, str(PEER), json.dumps(shape), compute]
    command += [str(os.cpu_count()), device, size.peer_attention]
    return LaunchedPeer("torch.compile", command, without=OURS_ALONE)


@dataclass
class Side:
    """What the turns of one side took.

    Attributes:
        name: of the table's row.
        flops: operations a token.
        tokens: of a turn.
        steps: of a turn.
        work: takes a turn.
    """

    name: str
    flops: int
    tokens: int
    steps: int
    work: Callable[[], Turn]
    turns: list[Turn] = field(default_factory=list)

    def measure(self) -> float:
        """Takes a turn; returns its tokens per second."""
        turn = self.work()
        self.turns.append(turn)
        return self.tokens / turn.wall

    def row(self, rate: float) -> str:
        """Returns the line of the table, MFU against a product's `rate`."""
        speeds = [self.tokens / turn.wall for turn in self.turns]
        median = statistics.median(speeds)
        peaks = [turn.peak_bytes for turn in self.turns if turn.peak_bytes]
        peak = f"{max(peaks) / 2**30:.1f}" if peaks else "-"
        return (
            f"{self.name:28.28}{spread(speeds):>32}"
            f"{1000 * self.tokens / median / self.steps:10.1f}{peak:>10}"
            f"{self.flops * median / rate:8.1%}"
        )
