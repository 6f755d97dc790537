# SPDX-License-Identifier: Apache-2.0
"""One optimizer update under any strategy, and the compiled loop that runs many.

On each replica:   sums of loss, weight and gradients over its micro-batches
Between replicas:  one packed all-reduce (SUM) of weight, loss and gradients
Everywhere equal:  divide by the global weight, global norm, verdict, clip
On each device:    update
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.compute.compilation import Compilation
from trainer.compute.merge_call import call_merged
from trainer.models.functional import WeightPlace, trained_places, weight_places
from trainer.models.language_model import LanguageModel
from trainer.optimizers.optimizer import Factors, Optimizer, OptimizerConfig
from trainer.step.gradients import Features, LocalSums, Seeds
from trainer.step.guard import GradientGuard, GuardConfig, Remembered, StepVerdict
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig
from trainer.step.model_with_values import ModelWithValues
from trainer.step.step_metrics import StepMetrics

TrainLoop = Callable[[Mapping[str, np.ndarray], int], StepMetrics[tf.Tensor]]


@dataclass(frozen=True)
class TrainState:
    """Model, optimizer and gradient guard; made in the strategy's scope.

    Attributes:
        model: what is trained.
        places: the model's weights.
        optimizer: of the weights that are trained, with its state.
        guard: which steps are skipped.
    """

    model: LanguageModel
    places: Sequence[WeightPlace]
    optimizer: Optimizer
    guard: GradientGuard

    @property
    def variables(self) -> list[Any]:
        """The weights' variables."""
        return [place.variable for place in self.places]

    @property
    def trained(self) -> list[Any]:
        """The variables of the weights that are trained."""
        return [place.variable for place in trained_places(self.places)]

    @property
    def evaluated(self) -> ModelWithValues:
        """The model to evaluate: with the averages of its weights, if they are kept.

        A weight that is not trained has none and stands for itself.
        """
        variables = self.variables
        if self.optimizer.averages:
            averages = iter(self.optimizer.averages)
            variables = [
                next(averages) if place.trained else place.variable
                for place in self.places
            ]
        return ModelWithValues(self.model, self.places, variables)


class ReplicaStep:
    """One replica's part of one step, to be called in replica context."""

    def __init__(
        self,
        state: TrainState,
        strategy: tf.distribute.Strategy,
        layout: Layout,
        loss: LossConfig,
        seed: int,
        compilation: Compilation,
        usual_segments: int | None = None,
    ) -> None:
        """Fixes the step.

        Args:
            state: what it trains.
            strategy: whose replicas share a global batch of `layout`.
            layout: how a full global batch is spread.
            loss: what is added to the cross-entropy.
            seed: of dropout.
            compilation: what of it XLA compiles.
            usual_segments: see `LocalSums`.
        """
        self._state, self._strategy = state, strategy
        self._layout, self._seed = layout, seed
        self._local = LocalSums(
            state.model, state.places, layout, loss, compilation, usual_segments
        )
        self._settle = compilation.alone(self._settled)
        self._update = compilation.together(self._update_all)

    def __call__(
        self, features: Features, step: tf.Tensor | None = None
    ) -> StepMetrics[tf.Tensor]:
        """Trains on the replica's rows of one step.

        Args:
            features: of those rows, as `unpack_rows` takes them.
            step: int64, the step's number from 0; None is the optimizer's counter,
                which several asynchronous workers would share.
        """
        guard, optimizer = self._state.guard, self._state.optimizer
        now = tf.convert_to_tensor(optimizer.step) if step is None else step
        skipped, before = tf.convert_to_tensor(optimizer.skipped), guard.remembered()
        sums = self.global_sums(features, now, before.loss_scale)
        metrics, factors, verdict = self._settle(sums, now, skipped, before)
        self._merge(self._update, (sums[2:], factors, verdict))
        return metrics

    def _settled(
        self,
        sums: list[tf.Tensor],
        now: tf.Tensor,
        skipped: tf.Tensor,
        before: Remembered,
    ) -> tuple[StepMetrics[tf.Tensor], Factors, StepVerdict]:
        """Returns a step's metrics, the scalars of its update, and whether to skip it.

        All of it are scalars: on a GPU that is one launch, compiled, in place of some
        sixty, some of which would have the host wait for their results.
        """
        guard, optimizer = self._state.guard, self._state.optimizer
        weight_sum, loss_sum, *gradients = sums
        scale, rate = before.loss_scale, optimizer.learning_rate(now)
        gradient_scale = 1.0 / (tf.maximum(weight_sum, 1.0) * scale)
        norm = tf.linalg.global_norm(gradients) * gradient_scale
        verdict = guard.judge(loss_sum, weight_sum, norm, before)
        clip = optimizer.config.clip_norm
        if clip:
            # Divided by the larger of the two: exact, and no epsilon for a norm of 0.
            gradient_scale *= clip / tf.maximum(norm, clip)
        factors = optimizer.factors(
            verdict.accepted, gradient_scale, rate, now, skipped
        )
        metrics = StepMetrics(loss_sum, weight_sum, norm, rate, verdict.code, scale)
        return metrics, factors, verdict

    def global_sums(
        self, features: Features, step: tf.Tensor, loss_scale: tf.Tensor
    ) -> list[tf.Tensor]:
        """Returns [weight, loss, *gradients] summed over the global batch.

        The one collective of a step is here, outside every loop and condition.

        Args:
            features: of the replica's rows, as `unpack_rows` takes them.
            step: int64, the step's number from 0.
            loss_scale: float32, what gradients come times.
        """
        state = self._state
        context = tf.distribute.get_replica_context()
        # int32 so that it lies in host memory on a GPU, as sizes and indices do.
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        rows = features["tokens"].shape[0]
        seeds = Seeds(
            dropout=self._dropout_seed(step),
            first_row=replica * rows,
            loss_scale=loss_scale if state.guard.scales else None,
        )
        values = [tf.convert_to_tensor(v) for v in state.variables]
        sums = self._local(values, features, seeds)
        if self._layout.num_replicas == 1:
            return sums
        return context.all_reduce(tf.distribute.ReduceOp.SUM, sums)

    def _dropout_seed(self, step: tf.Tensor) -> tf.Tensor | None:
        if not self._state.model.config.dropout:
            return None
        seed = tf.constant(self._seed % 2**31, tf.int32)
        return tf.stack([seed, tf.cast(step, tf.int32)])

    def _update_all(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Sequence[tf.Tensor],
        factors: Factors,
        verdict: StepVerdict,
    ) -> None:
        state = self._state
        state.optimizer.update(strategy, state.trained, gradients, factors)
        state.guard.update(strategy, verdict)

    def _merge(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Runs `function(strategy, *arguments)` once for all replicas."""
        call_merged(self._strategy, function, arguments)


def make_train_loop(step: ReplicaStep, strategy: tf.distribute.Strategy) -> TrainLoop:
    """Returns a function that runs many steps in one compiled call.

    Args:
        step: one replica's part of a step.
        strategy: whose replicas run it.

    Returns:
        `train(features, num_steps)`, with the features of rows as `unpack_rows` takes
        them, each `[steps, local batch, count]`, of which the first num_steps are
        used: the rows of this process's replicas. It returns at once; reading its
        `StepMetrics` waits for the steps. It is traced once for each batch size.
    """

    @tf.function(autograph=False)
    def run(features: Features, num_steps: tf.Tensor) -> StepMetrics[tf.Tensor]:
        return run_steps(step, strategy, features, num_steps)

    longest = 0

    def train(
        features: Mapping[str, np.ndarray], num_steps: int
    ) -> StepMetrics[tf.Tensor]:
        nonlocal longest
        longest = max(longest, len(features["tokens"]))
        # A shorter block than the longest is padded, so that it is not traced anew.
        placed = {
            name: spread_rows(strategy, _lengthen(values, longest), axis=1)
            for name, values in features.items()
        }
        return run(placed, tf.constant(num_steps))

    return train


def run_steps(
    step: ReplicaStep,
    strategy: tf.distribute.Strategy,
    features: Features,
    num_steps: tf.Tensor,
) -> StepMetrics[tf.Tensor]:
    """Runs the first `num_steps` steps of a block, inside a compiled function."""
    longest = strategy.experimental_local_results(features["tokens"])[0].shape[0]
    arrays = [
        tf.TensorArray(tf.float32, longest, element_shape=[])
        for _ in StepMetrics._fields
    ]

    def on_replica(features: Features, index: tf.Tensor) -> StepMetrics[tf.Tensor]:
        return step({name: values[index] for name, values in features.items()})

    def body(index: tf.Tensor, *arrays: tf.TensorArray) -> list:
        result = strategy.run(on_replica, args=(features, index))
        values = [strategy.experimental_local_results(x)[0] for x in result]
        written = [a.write(index, x) for a, x in zip(arrays, values, strict=True)]
        return [index + 1, *written]

    # With a limit TensorFlow has a GPU compute whether to go on, and the host wait for
    # it after every step: 5 % of one of the preset 125m.
    gpus = tf.config.list_physical_devices("GPU")
    _, *arrays = tf.while_loop(
        lambda index, *_: index < num_steps,
        body,
        [tf.constant(0), *arrays],
        maximum_iterations=None if gpus else longest,
    )
    return StepMetrics(*(array.stack()[:num_steps] for array in arrays))


def make_train_state(
    model: LanguageModel,
    optimizer: OptimizerConfig,
    guard: GuardConfig,
    total_steps: int,
) -> TrainState:
    """Makes what a step trains; call it inside `strategy.scope()`.

    Args:
        model: made in the same scope.
        optimizer: how its weights are updated.
        guard: which steps are skipped.
        total_steps: steps of the whole run.
    """
    places = weight_places(model)
    trained = trained_places(places)
    updates = Optimizer(
        [place.variable for place in trained],
        [place.weight for place in trained],
        optimizer,
        total_steps,
    )
    compute = model.compute_dtype.name
    return TrainState(model, places, updates, GradientGuard(guard, compute))


def spread_rows(
    strategy: tf.distribute.Strategy, rows: np.ndarray, axis: int
) -> tf.distribute.DistributedValues:
    """Gives each local replica its contiguous slice of this process's rows."""
    local = len(strategy.extended.worker_devices)
    slices = np.split(rows, local, axis=axis)

    def place(context: Any) -> tf.Tensor:
        return tf.constant(slices[context.replica_id_in_sync_group % local], tf.int32)

    return strategy.experimental_distribute_values_from_function(place)


def _lengthen(block: np.ndarray, steps: int) -> np.ndarray:
    missing = steps - len(block)
    return np.pad(block, [(0, missing)] + [(0, 0)] * (block.ndim - 1))
