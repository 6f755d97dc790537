# SPDX-License-Identifier: Apache-2.0
"""Saves on many devices and restores on one, for `test_checkpoint_writer.py`.

    python -m tests.trainer.run.checkpoints_case replicas|pieces DIRECTORY

Two replicas, or two parameter servers with a table in pieces. It fails where one does
not restore what the other saved, or what TensorFlow itself saved of it.
"""

import os
import sys

import numpy as np
import tensorflow as tf

from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.local_ports import lend_ports
from trainer.distribution.strategies import make_strategy
from trainer.run import checkpoints
from trainer.run.checkpoint_writer import CheckpointWriter
from trainer.run.checkpoints import State
from trainer.run.position import Position


class Weights(tf.Module):
    """A table that servers keep in pieces, a scale and a counter."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        self.table = tf.Variable(random.normal(size=[5, 3]).astype(np.float32))
        self.layers = [tf.Module()]
        self.layers[0].scale = tf.Variable(tf.fill([3], float(seed)))
        self.counter = tf.Variable(
            np.int64(seed),
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def values(self) -> list[list[float]]:
        """Returns every value, on whatever devices it lies."""
        variables = (self.table, self.layers[0].scale, self.counter)
        return [np.array(tf.convert_to_tensor(v)).tolist() for v in variables]


def servers() -> tf.distribute.Strategy:
    """Returns a strategy of two parameter servers, which run in this process."""
    ports = iter(lend_ports(3))
    jobs = {"worker": 1, "ps": 2}
    cluster = tf.train.ClusterSpec(
        {job: [f"localhost:{next(ports)}" for _ in range(n)] for job, n in jobs.items()}
    )
    for job, count in jobs.items():
        for index in range(count):
            tf.distribute.Server(cluster, job, index, protocol="grpc")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, rpc_layer="grpc"
    )
    partitioner = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    return tf.distribute.ParameterServerStrategy(resolver, partitioner)


def main() -> None:
    kind, directory = sys.argv[1:]
    two = DeviceOptions(logical_cpus=2)
    many = make_strategy("mirrored", two) if kind == "replicas" else servers()
    strategies = {kind: many, "one device": tf.distribute.get_strategy()}
    modules = {}
    for seed, (name, strategy) in enumerate(strategies.items(), 1):
        with strategy.scope():
            modules[name] = Weights(seed)
    parts = "values" if kind == "replicas" else "variables"
    assert len(getattr(modules[kind].table, parts)) == 2
    for saved, other in [(kind, "one device"), ("one device", kind), (kind, kind)]:
        run = os.path.join(directory, f"{saved} to {other}")
        os.mkdir(run)
        writer = CheckpointWriter(run, {"model": modules[saved]}, lambda steps: steps)
        writer.save(State(Position(5), "hash", 0))
        writer.close()
        with strategies[other].scope():
            restored = Weights(9)
        checkpoints.restore(run, 5, {"model": restored})
        assert restored.values() == modules[saved].values(), (saved, other)
        for local in strategies[other].experimental_local_results(restored.counter):
            assert int(local) == int(tf.convert_to_tensor(modules[saved].counter))
        prefix = os.path.join(checkpoints.step_directory(run, 5), "weights")
        stored = tf.train.list_variables(prefix)
        tf.train.Checkpoint(model=modules[saved]).write(prefix)
        assert tf.train.list_variables(prefix) == stored
        checkpoints.restore(run, 5, {"model": modules[other]})
        assert modules[other].values() == modules[saved].values(), (saved, other)


if __name__ == "__main__":
    main()
