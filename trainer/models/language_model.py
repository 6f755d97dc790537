# SPDX-License-Identifier: Apache-2.0
"""What every model family promises, and how a family is described.

A family is one file: a configuration derived from `ModelConfig`, and the model that it
builds. What only the family knows is asked of these two, here and nowhere else; see
`trainer/models/model.py` for how a configuration names its family.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import tensorflow as tf

from preprocessing.foundation.commands import UsageError, suggest
from trainer.compute.float32 import check_below_one, check_range
from trainer.models.parts.layers import Initializer

# What stays is scaled by 1 / (1 - rate), in float16 too, whose largest is 65,504.
_LARGEST_DROPOUT = 0.999
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelConfig(abc.ABC):
    """The shape of a language model; each family adds keys of its own.

    Attributes:
        family: "decoder", "recurrent", or the configuration class of a family of your
            own as `my_package.module:Config`.
        dropout: rate of the family's dropout; 0 turns it off.
        reads: features of rows that the family takes into account, beside the ids and
            where segments begin: "prefix_lengths" if it sees a prefix whole.
        vocab_size: ids that the model has, the tokenizer's or more; None means the
            tokenizer's.
    """

    family: str
    dropout: float = 0.0
    vocab_size: int | None = None
    reads: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_below_one("model.dropout", self.dropout)
        check_range("model.dropout", self.dropout, 0.0, _LARGEST_DROPOUT)
        if self.vocab_size is not None:
            self.check_positive("vocab_size")

    @abc.abstractmethod
    def build(
        self, vocab_size: int, precision: "PrecisionConfig", initializer: Initializer
    ) -> "LanguageModel":
        """Builds a model of this shape with fresh weights.

        Args:
            vocab_size: number of ids.
            precision: compute and parameter types.
            initializer: makes the weights.
        """

    @property
    def bends_logits_at(self) -> float | None:
        """C of c tanh(logit / c), which logits are; None where they are not capped."""
        return None

    @property
    def penalises(self) -> bool:
        """Whether it adds to what is minimised; the model is a `PenalisedModel`."""
        return False

    def check_length(self, sequence_length: int) -> None:
        """Checks that the model can read rows of that many inputs.

        Raises:
            UsageError: it has fewer positions.
        """
        return

    def ids(self, num_ids: int) -> int:
        """Returns how many ids the model has.

        Args:
            num_ids: the tokenizer's.

        Raises:
            UsageError: it has fewer than that.
        """
        if self.vocab_size is None:
            return num_ids
        if self.vocab_size < num_ids:
            raise UsageError(
                f"wanted model.vocab_size of {num_ids:,} or more, as the tokenizer "
                f"has, found {self.vocab_size:,}. Raise it, or prepare the data with "
                "the model's own tokenizer"
            )
        return self.vocab_size

    def remark(self, compute: tf.DType, rows: "RowShape") -> str | None:
        """Says by what such rows are computed where this is traced, if it was chosen.

        Args:
            compute: the type of matrix products.
            rows: what is known of the rows.
        """
        return None

    def check_positive(self, *names: str) -> None:
        """Raises `UsageError` unless the attributes of these names are 1 or more."""
        for name in names:
            if getattr(self, name) < 1:
                raise UsageError(
                    f"wanted model.{name} of 1 or more, found {getattr(self, name)}. "
                    "Raise it"
                )

    def check_one_of(self, name: str, allowed: Sequence[str]) -> None:
        """Raises `UsageError` unless the attribute of this name is one of `allowed`."""
        value = getattr(self, name)
        if value not in allowed:
            raise UsageError(
                f"wanted model.{name} to be one of {', '.join(allowed)}, found "
                f"{value!r}.{suggest(str(value), allowed)} Choose one"
            )


@dataclass(frozen=True)
class RowShape:
    """What is known of rows before any is read.

    Attributes:
        length: inputs of a row; None if unknown.
        max_segments: most segments of a row, padding counted as one; None if unknown.
        prefixes: whether there are inputs that their whole segment sees.
    """

    length: int | None
    max_segments: int | None
    prefixes: bool


@dataclass(frozen=True)
class PrecisionConfig:
    """The types a model computes in and keeps its parameters in.

    Attributes:
        compute: "float32", "bfloat16" or "float16", the type of matrix products.
            Norms, softmax and loss are float32 in all. float16 holds nothing above
            65,504 and loses gradients below 6e-8, so its loss has to be scaled.
        params: "float32": updates smaller than 1/256 of a weight vanish in bfloat16.
    """

    compute: str = "float32"
    params: str = "float32"

    def __post_init__(self) -> None:
        if self.compute not in COMPUTE_DTYPES:
            raise UsageError(
                f"wanted precision.compute to be one of {', '.join(COMPUTE_DTYPES)}, "
                f"found {self.compute!r}. Choose one"
            )
        if self.params != "float32":
            raise UsageError(
                f"wanted precision.params float32, found {self.params!r}. Keep float32 "
                "and set precision.compute to bfloat16"
            )


class LanguageModel(Protocol):
    """A language model: a `tf.Module` with these methods and properties.

    Segment ids count from 1 within a row; 0 is padding. Attention and recurrent state
    never cross from one segment into another. Weights are made by an `Initializer`
    and say what they are for; those of the role `MATRIX` are read in `compute_dtype`
    alone, so that tensors of that type may stand in their place; what is looked up in a
    table is cast to float32, so that a table may be narrower as well.
    """

    config: ModelConfig
    vocab_size: int
    compute_dtype: tf.DType

    def __call__(
        self,
        tokens: tf.Tensor,
        segment_ids: tf.Tensor,
        positions: tf.Tensor,
        *,
        prefix: tf.Tensor | None = None,
        max_segments: int | None = None,
        dropout_seed: tf.Tensor | None = None,
        rows: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the last hidden states of packed rows.

        Args:
            tokens: ids, int32 `[batch, length]`.
            segment_ids: int32 `[batch, length]`, 0 for padding.
            positions: int32 `[batch, length]`, from 0 in each segment.
            prefix: bool `[batch, length]`, tokens that their whole segment may see;
                None without any. The decoder's alone.
            max_segments: most segments of a row, padding counted as one, which the
                rows' format fixes; None if unknown. No result depends on it.
            dropout_seed: int32 `[2]` naming (seed, step); None turns dropout off.
            rows: int32 `[batch]`, the row's number in the global batch, so that a
                row's dropout does not depend on the replica it falls to. Required
                with dropout_seed.

        Returns:
            Hidden states `[batch, length, d_model]` in the compute type.
        """

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Turns hidden `[..., d_model]` into float32 logits `[..., vocab_size]`."""

    def output_weights(self) -> tf.Variable:
        """Returns the output matrix `[vocab_size, d_model]`."""

    def initial_state(self, batch: tf.Tensor, capacity: int | tf.Tensor) -> Any:
        """Returns an empty decoding state for `capacity` positions, a nest of tensors.

        Treat the nest as opaque: its layout is the family's own. The first axis of
        each tensor is the rows'.
        """

    def with_capacity(self, state: Any, capacity: int | tf.Tensor) -> Any:
        """Returns a state of the same rows for `capacity` positions, more or fewer.

        What rows hold of the positions below that stays. A nest of zeros in which
        every size that is open (None) but the rows' is 1 counts as an empty state.
        """

    def decode(
        self,
        tokens: tf.Tensor,
        state: Any,
        positions: tf.Tensor,
        lengths: tf.Tensor,
        *,
        owned: bool = False,
    ) -> tuple[tf.Tensor, Any]:
        """Continues each row by `lengths` tokens, reading and extending its state.

        A whole prompt, a piece of one and a single token are the same call, and each
        row stands where it stands. A row at position 0 begins anew, whatever its state
        held; a row of length 0 keeps its state.

        Args:
            tokens: ids, int32 `[batch, length]`, padded on the right with any id; any
                size may be dynamic.
            state: what `initial_state` or the last call returned.
            positions: int32 `[batch]`, tokens of each row already in its state.
            lengths: int32 `[batch]`, tokens of each row to read now; `positions +
                lengths` may not pass the capacity.
            owned: whether the state may be lost by it, as one of `owned_state` that
                nobody reads again: then nothing of it has to be copied.

        Returns:
            Hidden states `[batch, length, d_model]` (meaningless from `lengths` on),
            and the next state.
        """

    def context(self, sequence_length: int) -> int | None:
        """Returns how many positions decoding may use; None is any number.

        Args:
            sequence_length: inputs of the rows that the model is trained on.
        """

    def flops_per_token(self, sequence_length: int) -> float:
        """Floating-point operations to train on one token, forward and backward.

        Weights count as far as a token is computed with them (`Weight.active`).
        """

    def activation_bytes(self, rows: int, sequence_length: int) -> int:
        """Returns the bytes that a forward pass keeps for the backward pass.

        Without logits and what is made of them. Called of a model without values.
        """


def owned_state(state: Any) -> Any:
    """Returns a copy of a decoding state that nothing else refers to."""
    # Not tf.identity, which copies nothing; and as TensorFlow counts it as stateful, no
    # two of these are made one by its optimizer.
    return tf.nest.map_structure(lambda each: tf.raw_ops.DeepCopy(x=each), state)


class PenalisedModel(LanguageModel, Protocol):
    """A language model that adds a penalty to what is minimised."""

    def with_penalty(
        self,
        tokens: tf.Tensor,
        segment_ids: tf.Tensor,
        positions: tf.Tensor,
        *,
        prefix: tf.Tensor | None = None,
        max_segments: int | None = None,
        dropout_seed: tf.Tensor | None = None,
        rows: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes hidden states and a penalty; arguments are those of a call.

        Returns:
            What a call returns; float32 `[batch, length]`, what each position adds to
            the loss of its target. It may depend on the row, and on nothing outside:
            weighed like the cross-entropy, sums of it are then the same however rows
            are spread over replicas and micro-batches.
        """
