# SPDX-License-Identifier: Apache-2.0
"""The optimizer: one update of all weights from reduced, clipped gradients.

What a weight's update is stands in `trainer.optimizers.update_rules`; here each weight
is given its rule and its state. The state is a `tf.Module`, so a checkpoint names it by
attribute. An update runs in cross-replica context (see `trainer.step.train_step`) and
is skipped as a whole, state included, where the caller says so; step and schedule
advance all the same.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from preprocessing.foundation.commands import UsageError, suggest
from trainer.compute.float32 import check_below_one, check_range, check_zero_or_range
from trainer.compute.sharded_variables import shards_of, zeros_beside
from trainer.models.parts.weights import Role, Weight
from trainer.optimizers.schedules import SCHEDULES, decay_start, learning_rate
from trainer.optimizers.update_rules.adafactor import factored_update, unfactored_update
from trainer.optimizers.update_rules.adam import adam_update
from trainer.optimizers.update_rules.factors import Factors, bias_corrections
from trainer.optimizers.update_rules.lion import lion_update
from trainer.optimizers.update_rules.muon import muon_update
from trainer.optimizers.update_rules.sgd import momentum_update, sgd_update

OPTIMIZERS = ("adamw", "adam", "sgd", "adafactor", "lion", "muon")
# Their rules need a matrix whole; a parameter server may keep it in shards.
WHOLE_MATRIX = ("adafactor", "muon")
_DECAYING = ("adamw", "lion", "muon")
# Above the gradients whose squares are 0 in float32, so that no step is m / 0.
_LEAST_EPSILON = 1e-20
# Weights of a thousand times the rate still have activations that float32 holds.
_LARGEST_RATE, _LARGEST_DECAY = 1e3, 1e6


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights are updated.

    Attributes:
        name: "adamw" (Loshchilov and Hutter 2019, arXiv 1711.05101), "adam" (Kingma
            and Ba 2015, arXiv 1412.6980), "sgd", "adafactor" (whose rate is relative
            to the weights' size), "lion", or "muon" for the blocks' matrices and adamw
            for the rest. Each is described in its file of `optimizers/update_rules`.
        peak_learning_rate: the rate at the end of the warm-up.
        warmup_steps: updates of linear warm-up.
        schedule: "cosine" or "linear" to final_fraction at the run's last step, "wsd"
            (the peak until decay_steps before the end, then linear to
            final_fraction), "inverse_sqrt" or "constant".
        final_fraction: share of the peak that cosine, linear and wsd end at.
        decay_steps: updates of wsd's decay; None is a tenth of the run.
        weight_decay: of adamw, lion and muon, times the learning rate, on matrices
            alone: norm scales and biases do not decay. The others have none.
        decay_embeddings: whether embedding and output matrix decay too.
        clip_norm: largest global gradient norm; 0 turns clipping off.
        beta1: decay of adam's first moment, and lion's blend.
        beta2: decay of adam's second moment, 0.95 as GPT-3 (arXiv 2005.14165, appendix
            B), and of lion's momentum.
        epsilon: added to the root of adam's bias-corrected second moment.
        momentum: of sgd; 0 is plain and keeps no state.
        muon_momentum: of muon's matrices; 0.95 as Jordan's.
        ema_decay: of an exponential moving average of the weights, which starts at the
            initial weights; 0 keeps none. The decay of update t, from 0, is at most
            (1 + t) / (10 + t), so that a short run does not average what it began with.
    """

    name: str = "adamw"
    peak_learning_rate: float = 1e-3
    warmup_steps: int = 100
    schedule: str = "cosine"
    final_fraction: float = 0.1
    decay_steps: int | None = None
    weight_decay: float = 0.1
    decay_embeddings: bool = True
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    momentum: float = 0.0
    muon_momentum: float = 0.95
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for key, known in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
            value = getattr(self, key)
            if value not in known:
                raise UsageError(
                    f"wanted optimizer.{key} to be one of {', '.join(known)}, found "
                    f"{value!r}.{suggest(str(value), known)} Choose one"
                )
        for key, least in (("warmup_steps", 0), ("decay_steps", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise UsageError(
                    f"wanted optimizer.{key} of {least} or more, found {value}. "
                    "Raise it"
                )
        for key in ("beta1", "beta2", "momentum", "muon_momentum", "ema_decay"):
            check_below_one(f"optimizer.{key}", getattr(self, key))
        self._check_ranges()

    def _check_ranges(self) -> None:
        """Checks what a step would round to 0 or infinity, or blow a model up with."""
        rate, decay = self.peak_learning_rate, self.weight_decay
        check_range("optimizer.peak_learning_rate", rate, most=_LARGEST_RATE)
        check_range("optimizer.epsilon", self.epsilon, least=_LEAST_EPSILON)
        check_range("optimizer.final_fraction", self.final_fraction, least=0, most=1)
        check_zero_or_range("optimizer.clip_norm", self.clip_norm)
        check_zero_or_range("optimizer.weight_decay", decay, most=_LARGEST_DECAY)
        if self.name in _DECAYING and rate * decay > 1.0:
            raise UsageError(
                "wanted optimizer.weight_decay x optimizer.peak_learning_rate, the "
                f"share of a weight that an update takes off, of 1 or less, found "
                f"{decay:g} x {rate:g}. Lower one of them"
            )

    def check_fits(self, total_steps: int) -> None:
        """Checks that the schedule fits into a run.

        Raises:
            UsageError: warm-up and decay are longer than the run.
        """
        if self.schedule == "wsd":
            decay_start(total_steps, self.warmup_steps, self.decay_steps)

    def rate_of(self, step: tf.Tensor | int, total_steps: int) -> tf.Tensor:
        """Returns the rate of update number `step`, from 0, of a run of that length."""
        return learning_rate(
            step,
            peak=self.peak_learning_rate,
            warmup_steps=self.warmup_steps,
            schedule=self.schedule,
            final_fraction=self.final_fraction,
            decay_steps=self.decay_steps,
            total_steps=total_steps,
        )


@dataclass(frozen=True)
class Rule:
    """How one weight is updated.

    Attributes:
        slots: the shapes of its state, by the list of `Optimizer` that holds it.
        change: `change(weight, gradient, factors, *state)`, the state in their order.
    """

    slots: Mapping[str, Sequence[int]]
    change: Callable[..., None]


def rule_of(config: OptimizerConfig, weight: Weight, shape: Sequence[int]) -> Rule:
    """Returns the rule of one weight.

    Args:
        config: how weights are updated.
        weight: what it is for.
        shape: its shape.
    """
    one = {"first_moments": shape}
    decay = _weight_decay(config, weight)
    if config.name == "sgd":
        if config.momentum:
            return Rule(one, momentum_update)
        return Rule({}, sgd_update)
    if config.name == "lion":
        return Rule(one, partial(lion_update, weight_decay=decay))
    if config.name == "adafactor":
        if len(shape) < 2:
            return Rule({"second_moments": shape}, unfactored_update)
        rows, columns = shape[:-1], [*shape[:-2], shape[-1]]
        return Rule({"row_moments": rows, "column_moments": columns}, factored_update)
    if config.name == "muon" and weight.role is Role.MATRIX:
        widths = weight.widths_of(shape)
        return Rule(one, partial(muon_update, widths=widths, weight_decay=decay))
    two = {"first_moments": shape, "second_moments": shape}
    change = partial(adam_update, weight_decay=decay, epsilon=config.epsilon)
    return Rule(two, change)


def state_size(
    config: OptimizerConfig, weights: Iterable[tuple[Weight, Sequence[int]]]
) -> int:
    """Returns the scalars of an optimizer's state, averages included.

    Args:
        config: how weights are updated.
        weights: what each trained weight is for, and its shape.
    """
    weights = list(weights)
    slots = [
        slot
        for weight, shape in weights
        for slot in rule_of(config, weight, shape).slots.values()
    ]
    averages = [shape for _, shape in weights] if config.ema_decay else []
    return sum(math.prod(shape) for shape in (*slots, *averages))


class Optimizer(tf.Module):
    """Counters and state of a run, and the update that advances them.

    Each list holds the state of those weights whose rule has it, in their order.

    Attributes:
        step: int64, updates asked for, skipped ones included.
        skipped: int64, updates that the gradient guard skipped.
        first_moments: of adam; the momentum of sgd, lion and muon.
        second_moments: of adam; of adafactor's weights that are no matrices.
        row_moments: of adafactor's matrices, second moments averaged over each row.
        column_moments: likewise over each column.
        averages: moving averages of all weights, or none.
    """

    def __init__(
        self,
        variables: Sequence[Any],
        weights: Sequence[Weight],
        config: OptimizerConfig,
        total_steps: int,
    ) -> None:
        """Makes fresh state; call it inside `strategy.scope()`.

        Args:
            variables: the trained weights; a parameter server may keep one in shards.
            weights: what each is for.
            config: how they are updated.
            total_steps: where the schedule ends.

        Raises:
            UsageError: the schedule does not fit into the run.
        """
        super().__init__()
        config.check_fits(total_steps)
        self.config, self.total_steps = config, total_steps
        self.step = _counter("step")
        self.skipped = _counter("skipped")
        self.first_moments: list[Any] = []
        self.second_moments: list[Any] = []
        self.row_moments: list[Any] = []
        self.column_moments: list[Any] = []
        self.averages: list[Any] = []
        rules = [
            rule_of(config, weight, variable.shape.as_list())
            for weight, variable in zip(weights, variables, strict=True)
        ]
        for rule, variable in zip(rules, variables, strict=True):
            for slot, shape in rule.slots.items():
                getattr(self, slot).append(_made(variable, slot, shape))
        if config.ema_decay:
            self.averages += [_copied(variable) for variable in variables]
        self._rules = rules

    def learning_rate(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of update number `step`, int64, from 0."""
        return self.config.rate_of(step, self.total_steps)

    def factors(
        self,
        accepted: tf.Tensor,
        gradient_scale: tf.Tensor,
        rate: tf.Tensor,
        step: tf.Tensor,
        skipped: tf.Tensor,
    ) -> Factors:
        """Returns the scalars of an update; reads no variable, so XLA may compile it.

        Args:
            accepted: bool, whether weights and state change at all.
            gradient_scale: what the summed gradients are multiplied by; where the
                update is skipped it may be infinite or NaN.
            rate: the learning rate, if they do.
            step: int64, the update's number from 0.
            skipped: int64, updates skipped before this one.
        """
        config = self.config
        updates = step - skipped + 1
        count = tf.cast(updates, tf.float32)
        muon = config.name == "muon"
        momentum = config.muon_momentum if muon else config.momentum
        average = tf.minimum(config.ema_decay, count / (9.0 + count))
        # A decay rate of 1 leaves a moment exactly as it is.
        return Factors(
            gradient_scale=tf.where(accepted, gradient_scale, 0.0),
            rate=tf.where(accepted, rate, 0.0),
            betas=tf.where(accepted, [config.beta1, config.beta2], [1.0, 1.0]),
            corrections=bias_corrections([config.beta1, config.beta2], updates),
            momentum=tf.where(accepted, momentum, 1.0),
            square_decay=tf.where(accepted, 1.0 - tf.pow(count, -0.8), 1.0),
            average_share=tf.where(accepted, 1.0 - average, 0.0),
            skipped=tf.cast(~accepted, tf.int64),
        )

    def update(
        self,
        strategy: tf.distribute.Strategy,
        variables: Sequence[Any],
        gradients: Sequence[tf.Tensor],
        factors: Factors,
    ) -> None:
        """Updates every weight once, in cross-replica context.

        Args:
            strategy: the strategy that owns the weights.
            variables: the weights the state was made for, in the same order.
            gradients: one per weight, whole, summed over the batch and equal on all
                replicas; finite, unless the update is skipped.
            factors: what `factors` returned, equal on all replicas.
        """
        lists = {
            slot: iter(getattr(self, slot))
            for rule in self._rules
            for slot in rule.slots
        }
        for rule, variable, gradient in zip(
            self._rules, variables, gradients, strict=True
        ):
            state = [next(lists[slot]) for slot in rule.slots]
            for shard, rows, *slots in _shardwise(variable, gradient, state):
                arguments = (rows, factors, *slots)
                _on_each_device(strategy, shard, rule.change, arguments)
        if self.averages:
            self._follow(strategy, variables, factors.average_share)
        _on_each_device(strategy, self.step, _add, (1,))
        _on_each_device(strategy, self.skipped, _add, (factors.skipped,))

    def _follow(
        self,
        strategy: tf.distribute.Strategy,
        variables: Sequence[Any],
        share: tf.Tensor,
    ) -> None:
        """Moves the averages towards the weights."""
        for average, variable in zip(self.averages, variables, strict=True):
            for old, new in zip(shards_of(average), shards_of(variable), strict=True):
                _on_each_device(strategy, old, _approach, (new, share))


def _weight_decay(config: OptimizerConfig, weight: Weight) -> float:
    """Returns the weight decay of one weight."""
    decays = weight.role is Role.MATRIX or (weight.is_table and config.decay_embeddings)
    return config.weight_decay if config.name in _DECAYING and decays else 0.0


def _shardwise(
    variable: Any, gradient: tf.Tensor, state: Sequence[Any]
) -> Iterable[tuple[Any, ...]]:
    """Returns (shard, its rows of the gradient, its shards of the state) of each."""
    shards = shards_of(variable)
    rows = [shard.shape[0] for shard in shards] if len(shards) > 1 else []
    gradients = tf.split(gradient, rows) if rows else [gradient]
    return zip(shards, gradients, *map(shards_of, state), strict=True)


def _add(variable: tf.Variable, amount: tf.Tensor) -> None:
    variable.assign_add(tf.cast(amount, variable.dtype), read_value=False)


def _approach(average: tf.Variable, weight: tf.Variable, share: tf.Tensor) -> None:
    average.assign_add(share * (weight - average), read_value=False)


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


def _made(variable: Any, name: str, shape: Sequence[int]) -> Any:
    """Makes a slot of zeros: beside the weight where it has the weight's shape."""
    if list(shape) == variable.shape.as_list():
        return zeros_beside(variable, name)
    return tf.Variable(tf.zeros(shape, variable.dtype), trainable=False, name=name)


def _copied(variable: Any) -> Any:
    average = zeros_beside(variable, "average")
    for new, old in zip(shards_of(average), shards_of(variable), strict=True):
        new.assign(old)
    return average
