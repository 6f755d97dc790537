# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny decoder under one strategy, for `test_strategies_agree.py`.

    python -m … STRATEGY DEVICES CASES SPLIT… OUTPUT

Devices are `DeviceOptions`: `logical_cpus=2,collectives=ring`. A split is a micro-batch
size; `8x2` is that in two lanes, `8/parts` with parts compiled by XLA. Writes, of each,
the losses and gradient norms of 50 steps of each case named
(`sgd,dropout`), and the mean gradients of the first batch.
"""

import dataclasses
import json
import os
import sys

import numpy as np
import tensorflow as tf

from trainer.compute.compilation import Compilation
from trainer.distribution.agreement import SERVER
from trainer.distribution.coordinator import make_coordinated_loop
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.rendezvous import meet_coordinator, read_cluster
from trainer.distribution.servers import serve, serves
from trainer.distribution.strategies import make_strategy
from trainer.distribution.workers import Workers, workers_of
from trainer.machine.interruption import StopRequest
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.step.guard import GuardConfig
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig
from trainer.step.train_step import (
    ReplicaStep,
    TrainState,
    make_train_loop,
    make_train_state,
    spread_rows,
)

STEPS, BATCH, LENGTH, VOCAB = 50, 8, 24, 32
CLIP_NORM = 0.05
MODEL = DecoderConfig(num_layers=1, d_model=64, num_heads=4, num_kv_heads=2, ffn_dim=96)
ADAMW = OptimizerConfig(peak_learning_rate=1e-3, warmup_steps=5, clip_norm=CLIP_NORM)
SGD = OptimizerConfig(
    name="sgd",
    peak_learning_rate=0.1,
    warmup_steps=0,
    schedule="constant",
    clip_norm=0.0,
)
# What dropout and AdamW agree on together they agree on alone: the others are drills.
CASES = {"sgd": (SGD, 0.0), "dropout": (ADAMW, 0.1), "adamw": (ADAMW, 0.0)}


def rows() -> dict[str, np.ndarray]:
    """Returns counting sequences; the batch's first half has far fewer real tokens."""
    random = np.random.default_rng(0)
    start = random.integers(0, VOCAB, [STEPS, BATCH, 1])
    tokens = (start + np.arange(LENGTH + 1)) % VOCAB
    lengths = np.zeros([STEPS, BATCH, 4], np.int32)
    half = BATCH // 2
    lengths[:, :half, 0] = random.integers(2, 8, [STEPS, half])
    lengths[:, half:, 0] = random.integers(10, 16, [STEPS, half])
    lengths[:, half:, 1] = random.integers(5, 10, [STEPS, half])
    return {"tokens": tokens.astype(np.int32), "segment_lengths": lengths}


def main() -> None:
    strategy_name, devices, cases, *splits, output = sys.argv[1:]
    # Of no effect on a CPU; on a GPU products are in float32 throughout.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    cluster = read_cluster()
    if cluster is not None and serves(cluster):
        meet_coordinator(cluster, 60.0, {SERVER: "true"})
        serve(cluster, StopRequest(None))
        os._exit(0)
    # So small that two servers share the matrices of this tiny model.
    strategy = make_strategy(strategy_name, read_devices(devices), min_shard_bytes=1024)
    workers = workers_of(strategy)
    first, count = local_rows()
    features = {name: x[:, first : first + count] for name, x in rows().items()}
    results = {}
    for split in splits:
        micro, lanes, xla = read_split(split)
        for name in cases.split(","):
            config, dropout = CASES[name]
            state, step = make_step(
                workers.strategy, micro, config, dropout, xla, lanes=lanes
            )
            if f"gradient-{split}" not in results and workers.coordinator is None:
                gradient = first_gradients(workers.strategy, step, features)
                results[f"gradient-{split}"] = gradient
            metrics = make_loop(workers, state, step)(features, STEPS)
            loss = metrics.loss_sum.numpy() / metrics.weight_sum.numpy()
            results[f"loss-{name}-{split}"] = loss
            results[f"norm-{name}-{split}"] = metrics.gradient_norm.numpy()
    np.savez(output, **results)
    # TensorFlow's threads of a cluster would keep the process.
    os._exit(0)


def read_devices(text: str) -> DeviceOptions:
    """Returns the options that `KEY=VALUE,…` names."""
    pairs = dict(pair.split("=") for pair in text.split(",") if pair)
    collectives = pairs.pop("collectives", "auto")
    counts = {name: int(count) for name, count in pairs.items()}
    return DeviceOptions(**counts, collectives=collectives)


def read_split(split: str) -> tuple[int, int, str]:
    """Returns micro-batch size, lanes and what XLA compiles."""
    sizes, _, xla = split.partition("/")
    micro, _, lanes = sizes.partition("x")
    return int(micro), int(lanes or 1), xla or "none"


def make_step(
    strategy: tf.distribute.Strategy,
    micro: int,
    config: OptimizerConfig,
    dropout: float = 0.0,
    xla: str = "none",
    compute: str = "float32",
    lanes: int = 1,
) -> tuple[TrainState, ReplicaStep]:
    """Returns a fresh train state and its step."""
    with strategy.scope():
        model = build_model(
            dataclasses.replace(MODEL, dropout=dropout),
            VOCAB,
            PrecisionConfig(compute=compute),
            seed=0,
        )
        state = make_train_state(model, config, GuardConfig(), STEPS)
    layout = Layout(BATCH, micro, strategy.num_replicas_in_sync, lanes)
    step = ReplicaStep(state, strategy, layout, LossConfig(), 0, Compilation(xla))
    return state, step


def make_loop(workers: Workers, state: TrainState, step: ReplicaStep):
    if workers.coordinator is None:
        return make_train_loop(step, workers.strategy)
    return make_coordinated_loop(step, state, workers.coordinator)


def local_rows() -> tuple[int, int]:
    """Returns (first, count) of this process's rows in a global batch."""
    config = json.loads(os.environ.get("TF_CONFIG") or "null")
    if config is None or "ps" in config["cluster"]:
        return 0, BATCH
    count = BATCH // len(config["cluster"]["worker"])
    return config["task"]["index"] * count, count


def first_gradients(
    strategy: tf.distribute.Strategy,
    step: ReplicaStep,
    features: dict[str, np.ndarray],
) -> np.ndarray:
    """Returns the mean gradients of the first global batch, one after another."""
    placed = {n: spread_rows(strategy, x[0], axis=0) for n, x in features.items()}

    @tf.function(autograph=False)
    def run(rows: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        first, unscaled = tf.constant(0, tf.int64), tf.constant(1.0)
        return strategy.run(step.global_sums, args=(rows, first, unscaled))

    sums = [strategy.experimental_local_results(x)[0].numpy() for x in run(placed)]
    return np.concatenate([g.ravel() for g in sums[2:]]) / sums[0]


if __name__ == "__main__":
    main()
