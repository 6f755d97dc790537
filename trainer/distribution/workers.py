# SPDX-License-Identifier: Apache-2.0
"""The processes of one run: which this is, and what they must agree on.

Every process has to take the same branches, or a collective waits for ever. What only
one of them can know (a signal, a clock, a file) is therefore summed over all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.distribution.coordinator import Coordinator


@dataclass(frozen=True)
class Workers:
    """This process among those of a strategy.

    Attributes:
        strategy: what they share.
        index: this process's number; 0 is the chief, who writes files.
        count: how many there are.
        coordinator: hands steps to the workers of parameter servers; None under
            every other strategy. Those workers serve, and are not counted here.
    """

    strategy: tf.distribute.Strategy
    index: int
    count: int
    coordinator: Coordinator | None = None

    @property
    def chief(self) -> bool:
        """Whether this process writes the run's files."""
        return self.index == 0

    @property
    def clustered(self) -> bool:
        """Whether other processes have a part in this run."""
        return self.count > 1 or self.coordinator is not None

    def total(self, value: int) -> int:
        """Returns the sum of every process's `value`; all of them must call it."""
        return self.totals([value])[0]

    def totals(self, values: Sequence[int]) -> list[int]:
        """Returns the sums of every process's `values`; all of them must call it."""
        if self.count == 1:
            return list(values)
        replicas = self.strategy.num_replicas_in_sync // self.count
        sums = self._sum(tf.constant(list(values), tf.int64)).numpy()
        return [int(each) // replicas for each in sums]

    def chiefs(self, value: int) -> int:
        """Returns the chief's `value`; all of them must call it."""
        return self.total(value if self.chief else 0)

    def chiefs_words(self, words: str) -> str:
        """Returns the chief's `words`; all of them must call it."""
        data = words.encode()
        length = self.chiefs(len(data))
        values = list(data) if self.chief else [0] * length
        return bytes(self.totals(values)).decode() if length else ""

    def agree(self, value: int, what: str) -> None:
        """Checks that every process has the same `value`.

        Raises:
            UsageError: they differ; it is raised in all of them.
        """
        chiefs = self.chiefs(value)
        if self.total(int(value != chiefs)):
            raise UsageError(
                f"wanted all {self.count} workers to agree on {what}, this one found "
                f"{value}, the chief {chiefs}. Give every worker the same --run on a "
                "shared file system"
            )

    @tf.function(autograph=False)
    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        def on_replica(value: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The identity puts the value on the replica's device, which the
            # collective asks for.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

        result = self.strategy.run(on_replica, args=(value,))
        return self.strategy.experimental_local_results(result)[0]


def workers_of(strategy: tf.distribute.Strategy) -> Workers:
    """Returns this process's place among those that share `strategy`."""
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return Workers(strategy, 0, 1, Coordinator(strategy))
    replicas: list[int] = []

    def note(context: tf.distribute.experimental.ValueContext) -> np.ndarray:
        replicas.append(context.replica_id_in_sync_group)
        return np.zeros(())

    strategy.experimental_distribute_values_from_function(note)
    local = len(replicas)
    return Workers(
        strategy, replicas[0] // local, strategy.num_replicas_in_sync // local
    )
