# SPDX-License-Identifier: Apache-2.0
"""Sums of loss and gradients over the rows of one replica: what devices do alone.

There is no collective in here, so XLA may compile all of it, and the weights come in
as tensors, so it does not matter where their variables lie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import tensorflow as tf

from trainer.compute.compilation import Compilation
from trainer.compute.lanes import side_by_side
from trainer.data.batch import Batch, unpack_rows
from trainer.models.functional import WeightPlace, called_with
from trainer.models.language_model import LanguageModel, PenalisedModel
from trainer.models.parts.weights import Role
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig, training_loss

Features = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class Seeds:
    """The seed of dropout masks, and the loss scale.

    Attributes:
        dropout: int32 `[2]` naming (seed, step); None without dropout.
        first_row: int32, the replica's first row in the global batch.
        loss_scale: float32, what the loss is multiplied by; None for 1.
    """

    dropout: tf.Tensor | None
    first_row: tf.Tensor
    loss_scale: tf.Tensor | None


class LocalSums:
    """Sums over a replica's micro-batches: `[weight, loss, *gradients]`."""

    def __init__(
        self,
        model: LanguageModel,
        places: Sequence[WeightPlace],
        layout: Layout,
        loss: LossConfig,
        compilation: Compilation,
        usual_segments: int | None = None,
    ) -> None:
        """Fixes the computation.

        Args:
            model: the model.
            places: its weights; gradients are taken for those that are trained.
            layout: how a full global batch is spread.
            loss: what is added to the cross-entropy.
            compilation: what of it XLA compiles.
            usual_segments: segments of a row, padding counted as one, that hardly any
                micro-batch has more of on average. Attention in one kernel costs time
                and memory for every segment that there might be, so those that do not
                have more go through a function of their own. None is one function
                for all.
        """
        self._model, self._places = model, places
        self._trained = [at for at, place in enumerate(places) if place.trained]
        self._layout, self._loss = layout, loss
        self._usual = usual_segments
        self._run = compilation.alone(partial(self._accumulate, None))
        self._run_usual = compilation.alone(partial(self._accumulate, usual_segments))

    def __call__(
        self, values: Sequence[tf.Tensor], features: Features, seeds: Seeds
    ) -> list[tf.Tensor]:
        """Returns float32 sums: weight, loss, and one gradient per trained weight.

        Args:
            values: the weights, in the order of `places`.
            features: of the replica's rows of one step, as `unpack_rows` takes them.
            seeds: what dropout follows from. Gradients come times its loss scale.
        """
        arguments = (
            list(values),
            dict(features),
            seeds.dropout,
            seeds.first_row,
            seeds.loss_scale,
        )
        lengths = features["segment_lengths"]
        sums: list[tf.Tensor]
        usual = self._usual
        if usual is None or usual > lengths.shape[1]:
            sums = self._run(*arguments)
        else:
            # The host decides, before the device has anything to do, and compiles a
            # function when it is first needed.
            sums = tf.cond(
                self._all_have_at_most(usual, lengths),
                lambda: self._run_usual(*arguments),
                lambda: self._run(*arguments),
            )
        return sums

    def _all_have_at_most(self, usual: int, lengths: tf.Tensor) -> tf.Tensor:
        """Tells whether no micro-batch has more segments than that many a row."""
        size = self._layout.micro_batch_size
        with tf.device("/device:CPU:0"):
            used_R = tf.reduce_sum(tf.cast(lengths > 0, tf.int32), axis=1)
            most = tf.reduce_max(tf.reduce_sum(tf.reshape(used_R + 1, [-1, size]), 1))
            return most <= usual * size

    def _accumulate(
        self,
        max_segments: int | None,
        values: list[tf.Tensor],
        features: dict[str, tf.Tensor],
        dropout: tf.Tensor | None,
        first_row: tf.Tensor,
        loss_scale: tf.Tensor | None,
    ) -> list[tf.Tensor]:
        values = self._in_compute_type(values)
        size = self._layout.micro_batch_size
        layout = self._layout.of_step(features["tokens"].shape[0])

        # One index picks a micro-batch: XLA refuses slices of unknown bounds.
        split = {
            name: tf.reshape(x, [layout.accumulation, size, x.shape[1]])
            for name, x in features.items()
        }

        def micro_batch(index: tf.Tensor) -> list[tf.Tensor]:
            def lane(features: dict[str, tf.Tensor], start: int) -> list[tf.Tensor]:
                batch = unpack_rows(features)
                if max_segments is not None:
                    batch = batch._replace(max_segments=max_segments)
                numbers = tf.range(start, start + size // layout.lanes)
                rows = first_row + index * size + numbers
                return self._gradients(values, batch, rows, dropout, loss_scale)

            chosen = {name: x[index] for name, x in split.items()}
            return side_by_side(lane, chosen, layout.lanes)

        if layout.accumulation == 1:
            return micro_batch(tf.constant(0))

        def body(index: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
            new = micro_batch(index)
            return [index + 1, *(a + b for a, b in zip(sums, new, strict=True))]

        trained = [tf.zeros(values[at].shape) for at in self._trained]
        zeros = [tf.zeros([]), tf.zeros([]), *trained]
        _, *sums = tf.while_loop(
            lambda index, *_: index < layout.accumulation,
            body,
            [tf.constant(0), *zeros],
            # Side by side, micro-batches would save no memory: a global batch of 32 in
            # fours took 1,420 MiB in place of 814.
            parallel_iterations=1,
            maximum_iterations=layout.accumulation,
        )
        return sums

    def _in_compute_type(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Casts the matrices to the type of products, as models would.

        Here it is done once for all micro-batches and lanes, and the gradients come in
        that type too: they are widened where they are added up, not before in a pass
        of their own.
        """
        dtype = self._model.compute_dtype
        return [
            tf.cast(value, dtype) if place.weight.role is Role.MATRIX else value
            for place, value in zip(self._places, values, strict=True)
        ]

    def _gradients(
        self,
        values: list[tf.Tensor],
        batch: Batch,
        rows: tf.Tensor,
        dropout: tf.Tensor | None,
        loss_scale: tf.Tensor | None,
    ) -> list[tf.Tensor]:
        """Returns the sums of one lane of a micro-batch, gradients as `values` are."""
        trained = [values[at] for at in self._trained]
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            called_with(self._places, values),
        ):
            tape.watch(trained)
            hidden, penalty = self._read(batch, rows, dropout)
            objective, loss_sum, weight = training_loss(
                self._model,
                hidden,
                batch.targets,
                batch.weights,
                self._loss,
                loss_scale,
                penalty,
            )
        return [weight, loss_sum, *tape.gradient(objective, trained)]

    def _read(
        self, batch: Batch, rows: tf.Tensor, dropout: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns hidden states, and the model's own penalty if it has one."""
        penalises = self._model.config.penalises
        model = cast(PenalisedModel, self._model)
        read: Any = model.with_penalty if penalises else self._model
        result = read(
            batch.inputs,
            batch.segment_ids,
            batch.positions,
            prefix=batch.prefix,
            max_segments=batch.max_segments,
            dropout_seed=dropout,
            rows=rows,
        )
        return result if penalises else (result, None)
