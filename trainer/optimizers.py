# SPDX-License-Identifier: Apache-2.0
"""AdamW, Adam and SGD: one update of all weights from reduced, clipped gradients.

The state is a `tf.Module`, so a checkpoint names it by attribute. An update runs in
cross-replica context (see `trainer.train_step`) and is skipped as a whole, moments
included, where the caller says so; step and schedule advance all the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from preprocessing.commands import UsageError, suggest
from trainer.schedules import SCHEDULES, learning_rate

OPTIMIZERS = ("adamw", "adam", "sgd")


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights are updated.

    Attributes:
        name: "adamw" (Loshchilov and Hutter 2019, arXiv 1711.05101), "adam" (Kingma
            and Ba 2015, arXiv 1412.6980) or "sgd" (plain, no momentum).
        peak_learning_rate: the rate at the end of the warm-up.
        warmup_steps: updates of linear warm-up.
        schedule: "cosine" to final_fraction at the run's last step, or "constant".
        final_fraction: share of the peak that cosine ends at.
        weight_decay: of adamw, times the learning rate, on matrices alone: norm scales
            and biases do not decay. Adam and SGD have none.
        clip_norm: largest global gradient norm; 0 turns clipping off.
        beta1: decay of the first moment.
        beta2: decay of the second moment; 0.95 as GPT-3 (arXiv 2005.14165, appendix B).
        epsilon: added to the root of the bias-corrected second moment.
    """

    name: str = "adamw"
    peak_learning_rate: float = 1e-3
    warmup_steps: int = 100
    schedule: str = "cosine"
    final_fraction: float = 0.1
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for key, known in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
            value = getattr(self, key)
            if value not in known:
                raise UsageError(
                    f"wanted optimizer.{key} to be one of {', '.join(known)}, found "
                    f"{value!r}.{suggest(str(value), known)} Choose one"
                )
        for key in ("warmup_steps", "weight_decay", "clip_norm", "final_fraction"):
            if getattr(self, key) < 0:
                raise UsageError(
                    f"wanted optimizer.{key} of 0 or more, found {getattr(self, key)}. "
                    "Raise it"
                )
        for key in ("peak_learning_rate", "epsilon"):
            if not getattr(self, key) > 0:
                raise UsageError(
                    f"wanted optimizer.{key} above 0, found {getattr(self, key)}. "
                    "Raise it"
                )
        for key in ("beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                raise UsageError(
                    f"wanted optimizer.{key} in [0, 1), found {getattr(self, key)}. "
                    "Lower it"
                )


class Factors(NamedTuple):
    """The scalars of one update.

    Attributes:
        rate: float32, the learning rate, 0 for a skipped update.
        betas: float32 `[2]`, the decay of both moments, 1 for a skipped update.
        powers: float32 `[2]`, beta1^t and beta2^t, t counting the updates not skipped.
        skipped: int64, 1 for a skipped update, else 0.
    """

    rate: tf.Tensor
    betas: tf.Tensor
    powers: tf.Tensor
    skipped: tf.Tensor


class Optimizer(tf.Module):
    """Counters and moments of a run, and the update that advances them.

    Attributes:
        step: int64, updates asked for, skipped ones included.
        skipped: int64, updates skipped because a gradient was not finite.
        first_moments: one per weight, in the order of the weights; empty for SGD.
        second_moments: likewise.
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        config: OptimizerConfig,
        total_steps: int,
    ) -> None:
        """Makes fresh state for `variables`; call it inside `strategy.scope()`."""
        super().__init__()
        self.config, self.total_steps = config, total_steps
        self.step = _counter("step")
        self.skipped = _counter("skipped")
        moments = [] if config.name == "sgd" else variables
        self.first_moments = [_zeros("first_moment", v) for v in moments]
        self.second_moments = [_zeros("second_moment", v) for v in moments]

    def learning_rate(self) -> tf.Tensor:
        """Returns the rate of the next update."""
        config = self.config
        return learning_rate(
            tf.convert_to_tensor(self.step),
            peak=config.peak_learning_rate,
            warmup_steps=config.warmup_steps,
            schedule=config.schedule,
            final_fraction=config.final_fraction,
            total_steps=self.total_steps,
        )

    def factors(self, accepted: tf.Tensor) -> Factors:
        """Returns what the next update multiplies by; for use in replica context.

        Args:
            accepted: bool, whether weights and moments change at all.
        """
        config = self.config
        count = tf.cast(self.step - self.skipped + 1, tf.float32)
        # A decay rate of 1 leaves a moment exactly as it is.
        return Factors(
            rate=tf.where(accepted, self.learning_rate(), 0.0),
            betas=tf.where(accepted, [config.beta1, config.beta2], [1.0, 1.0]),
            powers=tf.pow([config.beta1, config.beta2], count),
            skipped=tf.cast(~accepted, tf.int64),
        )

    def update(
        self,
        strategy: tf.distribute.Strategy,
        variables: Sequence[tf.Variable],
        gradients: Sequence[tf.Tensor],
        factors: Factors,
    ) -> None:
        """Updates every weight once, in cross-replica context.

        Args:
            strategy: the strategy that owns the weights.
            variables: the weights the state was made for, in the same order.
            gradients: one per weight, equal on all replicas and finite.
            factors: what `factors` returned, equal on all replicas.
        """
        if self.config.name == "sgd":
            for variable, gradient in zip(variables, gradients, strict=True):
                _on_each_device(strategy, variable, _descend, (gradient, factors.rate))
        else:
            self._update_adam(strategy, variables, gradients, factors)
        _on_each_device(strategy, self.step, _add, (1,))
        _on_each_device(strategy, self.skipped, _add, (factors.skipped,))

    def _update_adam(
        self,
        strategy: tf.distribute.Strategy,
        variables: Sequence[tf.Variable],
        gradients: Sequence[tf.Tensor],
        factors: Factors,
    ) -> None:
        config = self.config
        decay = config.weight_decay if config.name == "adamw" else 0.0
        for variable, first, second, gradient in zip(
            variables,
            self.first_moments,
            self.second_moments,
            gradients,
            strict=True,
        ):
            change = partial(
                adam_update,
                weight_decay=decay if variable.shape.rank > 1 else 0.0,
                epsilon=config.epsilon,
            )
            scalars = (factors.rate, factors.betas, factors.powers)
            _on_each_device(
                strategy, variable, change, (gradient, first, second, *scalars)
            )


def adam_update(
    variable: tf.Variable,
    gradient: tf.Tensor,
    first: tf.Variable,
    second: tf.Variable,
    rate: tf.Tensor,
    betas: tf.Tensor,
    powers: tf.Tensor,
    *,
    weight_decay: float,
    epsilon: float,
) -> None:
    """Applies Algorithm 2 of AdamW (arXiv 1711.05101) to one variable.

        w <- w - rate * weight_decay * w
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        w <- w - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

    TensorFlow's kernel does the last three in one pass over memory (written as ten
    operations they took 8 % of a step). It wants the second form of Adam's section 2,
    whose epsilon is ours times sqrt(1 - beta2^t).

    Args:
        variable: w.
        gradient: g.
        first: m.
        second: v.
        rate: float32 scalar.
        betas: float32 `[2]`.
        powers: float32 `[2]`, beta1^t and beta2^t at this update's t, from 1.
        weight_decay: share of the rate taken off the weight.
        epsilon: keeps the quotient finite.
    """
    if weight_decay:
        variable.assign(variable * (1.0 - rate * weight_decay), read_value=False)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=first.handle,
        v=second.handle,
        beta1_power=powers[0],
        beta2_power=powers[1],
        lr=rate,
        beta1=betas[0],
        beta2=betas[1],
        epsilon=epsilon * tf.sqrt(1.0 - powers[1]),
        grad=gradient,
    )


def _descend(variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor) -> None:
    variable.assign_sub(rate * gradient, read_value=False)


def _add(variable: tf.Variable, amount: tf.Tensor) -> None:
    variable.assign_add(tf.cast(amount, variable.dtype), read_value=False)


def _on_each_device(
    strategy: tf.distribute.Strategy,
    variable: tf.Variable,
    change: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Runs `change(variable, *arguments)` on every device's copy of the variable."""
    strategy.extended.update(variable, change, args=arguments, group=False)


def _counter(name: str) -> tf.Variable:
    return tf.Variable(
        tf.zeros([], tf.int64),
        trainable=False,
        name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def _zeros(name: str, like: tf.Variable) -> tf.Variable:
    return tf.Variable(tf.zeros(like.shape, like.dtype), trainable=False, name=name)
