# SPDX-License-Identifier: Apache-2.0
"""One replica's gradient is not finite, for `test_replica_faults.py`.

    python -m tests.trainer.step.replica_fault_case STRATEGY LOGICAL_CPUS

Prints as JSON why the step was skipped and whether every replica kept every weight.
"""

import json
import sys

import numpy as np
import tensorflow as tf

from tests.trainer.distribution.strategies_case import BATCH, VOCAB, local_rows, rows
from trainer.compute.compilation import Compilation
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.strategies import make_strategy
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.step.guard import GuardConfig
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig
from trainer.step.train_step import ReplicaStep, make_train_loop, make_train_state

POISON = VOCAB - 1


def main() -> None:
    strategy = make_strategy(sys.argv[1], DeviceOptions(int(sys.argv[2])))
    shape = DecoderConfig(num_layers=1, d_model=16, num_heads=2, tie_embeddings=False)
    with strategy.scope():
        model = build_model(shape, VOCAB, PrecisionConfig(), seed=0)
        state = make_train_state(model, OptimizerConfig(), GuardConfig(), 10)
        table = model.vocabulary.embedding
        table.assign(tf.tensor_scatter_nd_update(table, [[POISON, 0]], [np.nan]))
    layout = Layout(BATCH, 2, strategy.num_replicas_in_sync)
    step = ReplicaStep(state, strategy, layout, LossConfig(), 0, Compilation.NONE)
    features = poisoned()
    first, count = local_rows()
    mine = {name: x[:, first : first + count] for name, x in features.items()}
    before = weights(strategy, model)
    metrics = make_train_loop(step, strategy)(mine, 1)
    kept = [
        bool(np.array_equal(old, new, equal_nan=True))
        for old, new in zip(before, weights(strategy, model), strict=True)
    ]
    print(json.dumps({"skipped": metrics.skipped.numpy().tolist(), "kept": all(kept)}))


def poisoned() -> dict[str, np.ndarray]:
    """Returns one step's rows, of which the last alone holds the poisoned id."""
    features = {name: x[:1].copy() for name, x in rows().items()}
    tokens = features["tokens"]
    tokens[tokens == POISON] = 0
    tokens[0, -1, 0] = POISON
    return features


def weights(strategy: tf.distribute.Strategy, model: tf.Module) -> list[np.ndarray]:
    """Returns every weight as each replica of this process holds it."""
    return [
        part.numpy()
        for variable in model.trainable_variables
        for part in strategy.experimental_local_results(variable)
    ]


if __name__ == "__main__":
    main()
