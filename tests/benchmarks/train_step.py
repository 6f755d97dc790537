# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of the train step, beside the same model in PyTorch.

    python -m tests.benchmarks.train_step --peer_python /path/to/venv/bin/python

The 13.8 M parameter decoder (6 layers, width 384, 6 heads, SwiGLU 1,024, vocabulary
8,192 tied, sequence 256, batch 8) with AdamW and clipping at 1, on random tokens. The
two sides take turns, so that both meet the same machine; the table shows the median
round. PyTorch needs an interpreter of its own (`requirements.txt` beside this file);
without one its rows are left out. Ours masks by segment, PyTorch's is plain causal.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.commands import CommandParser
from trainer.guard import GuardConfig
from trainer.lanes import count_cores, share_threads
from trainer.layout import Layout
from trainer.losses import LossConfig
from trainer.models.model import ModelConfig, PrecisionConfig, build_model
from trainer.optimizers import OptimizerConfig
from trainer.peak_flops import measured_cpu_flops
from trainer.strategies import make_strategy
from trainer.train_step import (
    ReplicaStep,
    StepMetrics,
    make_learner,
    make_train_loop,
)

TrainLoop = Callable[[Mapping[str, np.ndarray], int], StepMetrics]

SHAPE = {
    "num_layers": 6,
    "d_model": 384,
    "num_heads": 6,
    "ffn_dim": 1024,
    "vocab_size": 8192,
    "length": 256,
    "batch": 8,
}
PEER = Path(__file__).with_name("train_step_torch.py")
TOKENS = SHAPE["batch"] * SHAPE["length"]


def main() -> None:
    parser = CommandParser("train_step.py", "Measure the train step.")
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="float32,bfloat16")
    flags = parser.parse_args()
    share_threads(count_cores(), count_cores())
    for precision in flags.precision.split(","):
        measure(precision, flags.peer_python, flags.steps, flags.rounds)


def measure(precision: str, peer_python: str, steps: int, rounds: int) -> None:
    """Prints the table of one precision."""
    loop, flops = build_ours(precision, make_strategy("one_device"))
    features = random_rows(steps)

    def train() -> None:
        loop(features, steps).loss_sum.numpy()

    train()
    peer = start_peer(peer_python, precision)
    times: dict[str, list[dict[str, float]]] = {"quern": []}
    if peer:
        times["torch.compile"] = []
    for _ in range(rounds):
        times["quern"].append(time_ours(train))
        if peer:
            times["torch.compile"].append(ask(peer, steps))
    if peer:
        peer.process.terminate()
        peer.process.wait()
    peak = measured_cpu_flops(precision, count_cores(), 2048, 2.0)
    print(f"\n{precision}, {os.cpu_count()} cores, peak {peak / 1e9:.0f} GFLOP/s")
    print(f"{'':24}{'tokens/s':>10}{'per cpu-s':>11}{'of peak':>9}{'best':>9}")
    versions = {"quern": f"TF {tf.__version__}"}
    if peer:
        versions["torch.compile"] = peer.version
    for name, spent in times.items():
        wall = statistics.median(s["wall"] for s in spent) / steps
        cpu = statistics.median(s["cpu"] for s in spent) / steps
        best = min(s["wall"] for s in spent) / steps
        print(
            f"{name + ' ' + versions[name]:24.24}{TOKENS / wall:10.0f}"
            f"{TOKENS / cpu:11.0f}{flops * TOKENS / wall / peak:9.0%}"
            f"{TOKENS / best:9.0f}"
        )


def model_config() -> ModelConfig:
    """Returns the shape of the 13.8 M parameter decoder."""
    return ModelConfig(
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
        learner = make_learner(model, OptimizerConfig(), GuardConfig(), 10_000)
    replicas = strategy.num_replicas_in_sync
    lanes = min(batch, count_cores())
    layout = Layout(batch * replicas, batch, replicas, lanes)
    step = ReplicaStep(learner, strategy, layout, LossConfig(), 0, "parts")
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


class Peer:
    """A PyTorch process that waits for work."""

    def __init__(self, process: subprocess.Popen[str], version: str) -> None:
        self.process, self.version = process, version


def start_peer(python: str, precision: str) -> Peer | None:
    """Starts the PyTorch side and waits until it has compiled."""
    command = [python, str(PEER), json.dumps(SHAPE), precision, str(os.cpu_count())]
    # The peer's directory must not shadow its packages, nor ours reach it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # A file, not a pipe: nobody reads a pipe while the peer compiles, and it may fill.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            return Peer(process, json.loads(line)["version"])
        process.wait()
        errors.seek(0)
        reason = (errors.read().strip() or "no output").splitlines()[-1]
    print(f"torch.compile skipped: {reason}")
    return None


def ask(peer: Peer, steps: int) -> dict[str, float]:
    assert peer.process.stdin is not None and peer.process.stdout is not None
    print(steps, file=peer.process.stdin, flush=True)
    return json.loads(peer.process.stdout.readline())


if __name__ == "__main__":
    main()
