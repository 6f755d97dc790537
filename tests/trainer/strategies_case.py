# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny decoder under one strategy, for `test_strategies_agree.py`.

    python -m tests.trainer.strategies_case STRATEGY LOGICAL_CPUS MICRO_BATCH… OUTPUT

Writes, per micro-batch size, the losses and gradient norms of 50 steps of clipped
AdamW and of unclipped SGD, and the mean gradients of the first batch.
"""

import json
import os
import sys

import numpy as np
import tensorflow as tf

from trainer.models.model import (
    LanguageModel,
    ModelConfig,
    PrecisionConfig,
    build_model,
)
from trainer.optimizers import Optimizer, OptimizerConfig
from trainer.strategies import make_strategy
from trainer.train_step import Layout, global_sums, make_train_loop, spread_rows

STEPS, BATCH, LENGTH, VOCAB = 50, 8, 24, 32
CLIP_NORM = 0.05
MODEL = ModelConfig(num_layers=2, d_model=64, num_heads=4, num_kv_heads=2, ffn_dim=96)
OPTIMIZERS = {
    "adamw": OptimizerConfig(
        peak_learning_rate=1e-3, warmup_steps=5, clip_norm=CLIP_NORM
    ),
    "sgd": OptimizerConfig(
        name="sgd",
        peak_learning_rate=0.1,
        warmup_steps=0,
        schedule="constant",
        clip_norm=0.0,
    ),
}


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
    strategy_name, logical_cpus, *micro_sizes, output = sys.argv[1:]
    strategy = make_strategy(strategy_name, int(logical_cpus))
    first, count = local_rows()
    features = {name: x[:, first : first + count] for name, x in rows().items()}
    results = {}
    for micro in map(int, micro_sizes):
        for name, config in OPTIMIZERS.items():
            with strategy.scope():
                model = build_model(MODEL, VOCAB, PrecisionConfig(), seed=0)
                optimizer = Optimizer(model.trainable_variables, config, STEPS)
            if name == "adamw":
                gradient = first_gradients(strategy, model, micro, features)
                results[f"gradient-{micro}"] = gradient
            train = make_train_loop(
                model,
                optimizer,
                strategy,
                global_batch_size=BATCH,
                micro_batch_size=micro,
                seed=0,
            )
            metrics = train(features, STEPS)
            loss = metrics.loss_sum.numpy() / metrics.weight_sum.numpy()
            results[f"loss-{name}-{micro}"] = loss
            results[f"norm-{name}-{micro}"] = metrics.gradient_norm.numpy()
    np.savez(output, **results)


def local_rows() -> tuple[int, int]:
    """Returns (first, count) of this process's rows in a global batch."""
    config = json.loads(os.environ.get("TF_CONFIG") or "null")
    if config is None:
        return 0, BATCH
    count = BATCH // len(config["cluster"]["worker"])
    return config["task"]["index"] * count, count


def first_gradients(
    strategy: tf.distribute.Strategy,
    model: LanguageModel,
    micro: int,
    features: dict[str, np.ndarray],
) -> np.ndarray:
    """Returns the mean gradients of the first global batch, one after another."""
    layout = Layout(BATCH, micro, strategy.num_replicas_in_sync)
    variables = list(model.trainable_variables)
    placed = {n: spread_rows(strategy, x[0], axis=0) for n, x in features.items()}

    @tf.function(autograph=False)
    def run(rows: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        return strategy.run(
            lambda rows: global_sums(model, variables, layout, rows, None),
            args=(rows,),
        )

    sums = [strategy.experimental_local_results(x)[0].numpy() for x in run(placed)]
    return np.concatenate([g.ravel() for g in sums[2:]]) / sums[0]


if __name__ == "__main__":
    main()
