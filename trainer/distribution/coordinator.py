# SPDX-License-Identifier: Apache-2.0
"""Asynchronous training: a coordinator hands steps to workers, servers hold weights.

Each step is one global batch on one worker: it reads the weights, divides by its own
number of targets, clips its own gradient and updates the servers without waiting for
other workers. With one worker that is the synchronous run, number for number; with
more, a gradient may be some steps old, and the run is not repeatable.

    coordinator   reads rows, schedules the steps of an inner loop, waits, saves
    worker        gradient of a batch                      any number may die and return
    server        its shards of weights and moments        a loss ends the run
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.step.gradients import Features
from trainer.step.step_metrics import StepMetrics
from trainer.step.train_step import ReplicaStep, TrainLoop, TrainState


class Coordinator:
    """Runs functions on the workers of a `ParameterServerStrategy`."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        """Connects to the workers; one coordinator per strategy."""
        self._strategy = strategy
        self._cluster = tf.distribute.coordinator.ClusterCoordinator(strategy)

    def map(
        self, function: Callable[..., Any], arguments: Iterable[Sequence[Any]]
    ) -> list[Any]:
        """Calls a replica function once for each of `arguments`, on any worker.

        A call whose worker died is made again on another one.

        Args:
            function: a `tf.function`, traced once.
            arguments: arrays and tensors; the same shapes in each.

        Returns:
            What each call gave, as arrays, in order.
        """
        pending = [self._cluster.schedule(function, args=each) for each in arguments]
        self._cluster.join()
        return [each.fetch() for each in pending]

    def on_replica(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `function` to run in replica context on whatever worker calls it."""

        @tf.function(autograph=False)
        def run(*arguments: Any) -> Any:
            return self._strategy.run(function, args=arguments)

        return run


def make_coordinated_loop(
    step: ReplicaStep, state: TrainState, coordinator: Coordinator
) -> TrainLoop:
    """Returns `train(features, num_steps)`, as `make_train_loop` does.

    It returns when all the steps are done. They are numbered when they are scheduled,
    so that rate and dropout follow the row order and not the workers' race.
    """

    def numbered(features: Features, number: tf.Tensor) -> StepMetrics[tf.Tensor]:
        return step(features, number)

    run = coordinator.on_replica(numbered)

    def train(
        features: Mapping[str, np.ndarray], num_steps: int
    ) -> StepMetrics[tf.Tensor]:
        first = int(tf.convert_to_tensor(state.optimizer.step).numpy())
        results = coordinator.map(
            run,
            [
                (
                    {name: tf.constant(x[i], tf.int32) for name, x in features.items()},
                    tf.constant(first + i, tf.int64),
                )
                for i in range(num_steps)
            ],
        )
        columns = zip(*results, strict=True)
        return StepMetrics(*(tf.constant(column, tf.float32) for column in columns))

    return train
