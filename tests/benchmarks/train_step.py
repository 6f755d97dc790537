# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of the train step, beside the same model in PyTorch.

    python -m tests.benchmarks.train_step --peer_python /path/to/venv/bin/python

The 13.8 M parameter decoder (6 layers, width 384, 6 heads, SwiGLU 1,024, vocabulary
8,192 tied, sequence 256, batch 8) with AdamW and clipping at 1, on random tokens. The
two sides take turns, so that both meet the same machine (`turns.py`); the table shows
the median turn. PyTorch needs an interpreter of its own (`requirements.txt` beside this
file); without one its rows are left out. Ours masks by segment, PyTorch's is plain
causal.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.foundation.commands import CommandParser
from tests.benchmarks.peers import peer_script, start_peer
from tests.benchmarks.turns import LEAST_TURNS, in_turns, spread
from trainer.compute.compilation import Compilation
from trainer.compute.lanes import count_cores, share_threads
from trainer.compute.peak_flops import measured_cpu_flops
from trainer.distribution.strategies import make_strategy
from trainer.models.decoder import DecoderConfig
from trainer.models.model import ModelConfig, PrecisionConfig, build_model
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.step.guard import GuardConfig
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig
from trainer.step.step_metrics import StepMetrics
from trainer.step.train_step import (
    ReplicaStep,
    make_train_loop,
    make_train_state,
)

TrainLoop = Callable[[Mapping[str, np.ndarray], int], StepMetrics[tf.Tensor]]

SHAPE = {
    "num_layers": 6,
    "d_model": 384,
    "num_heads": 6,
    "ffn_dim": 1024,
    "vocab_size": 8192,
    "length": 256,
    "batch": 8,
}
PEER = peer_script("train_step_torch.py")
TOKENS = SHAPE["batch"] * SHAPE["length"]


def main() -> None:
    parser = CommandParser("train_step.py", "Measure the train step.")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least")
    parser.add_argument("--precision", default="float32,bfloat16")
    flags = parser.parse_args()
    share_threads(count_cores(), count_cores())
    for precision in flags.precision.split(","):
        measure(precision, flags.peer_python, flags.steps, flags.turns)


def measure(precision: str, peer_python: str, steps: int, turns: int) -> None:
    """Prints the table of one precision, and how the two compare."""
    loop, flops = build_ours(precision, make_strategy("one_device"))
    features = random_rows(steps)

    def train() -> None:
        loop(features, steps).loss_sum.numpy()

    train()
    shape = json.dumps(SHAPE)
    command = [peer_python, str(PEER), shape, precision, str(os.cpu_count())]
    peer = start_peer("torch.compile", command)
    ours, theirs = Side(f"quern TF {tf.__version__}"), Side("torch.compile")
    work = partial(ours.measure, steps, partial(time_ours, train))
    if peer:
        theirs = Side(f"torch.compile {peer.facts['version']}")
        ask = partial(theirs.measure, steps, partial(peer.ask, steps))
        found = in_turns(work, ask, turns)
        peer.close()
    else:
        for _ in range(turns):
            work()
    peak = measured_cpu_flops(precision, count_cores(), 2048, 2.0)
    print(f"\n{precision}, {os.cpu_count()} cores, peak {peak / 1e9:.0f} GFLOP/s")
    print(f"{'':24}{'tokens/s':>24}{'per cpu-s':>11}{'of peak':>9}{'best':>9}")
    for side in (ours, theirs) if peer else (ours,):
        print(side.row(flops / peak))
    if peer:
        print(f"Quern / PyTorch: {found}")


@dataclass
class Side:
    """What the turns of one side took."""

    name: str
    tokens: int = 0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, steps: int, work: Callable[[], dict[str, float]]) -> float:
        """Takes a turn of `steps` steps; returns its tokens per second."""
        spent = work()
        self.wall.append(spent["wall"])
        self.cpu.append(spent["cpu"])
        self.tokens = steps * TOKENS
        return self.tokens / spent["wall"]

    def row(self, share: float) -> str:
        """Returns the line of the table; a token's share of the peak for a second."""
        speeds = [self.tokens / wall for wall in self.wall]
        median = statistics.median(speeds)
        cpu = self.tokens / statistics.median(self.cpu)
        return (
            f"{self.name:24.24}{spread(speeds):>24}{cpu:11.0f}{share * median:9.0%}"
            f"{max(speeds):9.0f}"
        )


def model_config() -> ModelConfig:
    """Returns the shape of the 13.8 M parameter decoder."""
    return DecoderConfig(
        num_layers=SHAPE["num_layers"],
        d_model=SHAPE["d_model"],
        num_heads=SHAPE["num_heads"],
        ffn_dim=SHAPE["ffn_dim"],
    )


def build_ours(
    precision: str,
    strategy: tf.distribute.Strategy,
    config: ModelConfig | None = None,
    batch: int = SHAPE["batch"],
) -> tuple[TrainLoop, float]:
    """Returns the train loop, and the operations that a token costs.

    Every worker of `strategy` has a batch of its own, in a lane for each of its cores.
    """
    config = config or model_config()
    with strategy.scope():
        model = build_model(
            config, SHAPE["vocab_size"], PrecisionConfig(compute=precision), seed=0
        )
        state = make_train_state(model, OptimizerConfig(), GuardConfig(), 10_000)
    replicas = strategy.num_replicas_in_sync
    lanes = min(batch, count_cores())
    layout = Layout(batch * replicas, batch, replicas, lanes)
    step = ReplicaStep(state, strategy, layout, LossConfig(), 0, Compilation.PARTS)
    flops = model.flops_per_token(SHAPE["length"])
    return make_train_loop(step, strategy), flops


def random_rows(steps: int) -> dict[str, np.ndarray]:
    """Returns the features of `steps` batches of one document a row."""
    batch, length = SHAPE["batch"], SHAPE["length"]
    tokens = np.random.default_rng(0).integers(
        0, SHAPE["vocab_size"], (steps, batch, length + 1), np.int32
    )
    lengths = np.zeros([steps, batch, 64], np.int32)
    lengths[:, :, 0] = length + 1
    return {"tokens": tokens, "segment_lengths": lengths}


def time_ours(train: Any) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    train()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
