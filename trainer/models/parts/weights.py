# SPDX-License-Identifier: Apache-2.0
"""What each weight is for, said where it is made.

How a weight is cast, decayed, made orthogonal or counted follows from its role, never
from the name of the attribute that holds it:

    embedding   rows are looked up; where it is tied, it is the output matrix as well
    position    rows are looked up by position
    matrix      of a layer: enters products, in the compute type alone
    output      turns hidden states into logits
    norm        scales of a normalisation, one for each column
    bias        is added

                      embedding   position   matrix   output   norm   bias
    compute type          -          -          x        -       -      -
    weight decay          x*         x*         x        x*      -      -   *
    Muon                  -          -          x        -       -      -

    * decay_embeddings
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Role(enum.Enum):
    """What a weight does in a model."""

    EMBEDDING = "embedding"
    POSITION = "position"
    MATRIX = "matrix"
    OUTPUT = "output"
    NORM = "norm"
    BIAS = "bias"


@dataclass(frozen=True)
class Weight:
    """What a weight is for.

    Attributes:
        role: what it does.
        widths: columns of each matrix that a matrix holds side by side, as queries,
            keys and values are in one product; empty where it is one alone.
        active: share of it that a token is computed with, below 1 where each token
            chooses among experts.
    """

    role: Role
    widths: tuple[int, ...] = ()
    active: float = 1.0

    def check(self, shape: Sequence[int]) -> None:
        """Checks a weight of `shape` against what is said of it.

        Raises:
            ValueError: a matrix without columns, or widths that are not its columns.
        """
        if self.role is Role.MATRIX and len(shape) < 2:
            raise ValueError(f"wanted a matrix, found the shape {list(shape)}")
        if self.widths and (sum(self.widths) != shape[-1] or min(self.widths) < 1):
            raise ValueError(
                f"wanted widths that sum to {shape[-1]} columns, found {self.widths}"
            )

    def widths_of(self, shape: Sequence[int]) -> list[int]:
        """Returns the columns of each matrix held, of a weight of `shape`."""
        return list(self.widths) or [shape[-1]]

    @property
    def is_table(self) -> bool:
        """Whether it has a row for each id or position."""
        return self.role in (Role.EMBEDDING, Role.POSITION, Role.OUTPUT)


def declare(variable: Any, weight: Weight) -> Any:
    """Marks a variable with what it is for, and returns it.

    Raises:
        ValueError: it cannot be that.
    """
    weight.check(variable.shape.as_list())
    # On the variable itself: strategies wrap it, and paths are no identity.
    variable.declared_weight = weight
    return variable


def declared(variable: Any, path: str) -> Weight:
    """Returns what a weight said it is for; `path` is how errors call it.

    Raises:
        ValueError: it never did.
    """
    weight = getattr(variable, "declared_weight", None)
    if not isinstance(weight, Weight):
        raise ValueError(
            f"wanted to know what the weight {path} is for, found no role. Make it "
            "with an Initializer (trainer/models/parts/layers.py)"
        )
    return weight
