# SPDX-License-Identifier: Apache-2.0
"""How published tensors lie in a weight: each is a view of it.

A weight here may hold several published tensors: queries, keys and values side by
side, a gate beside what it gates, all experts of a layer. A `TensorPart` names one of
them and says which view of the weight has its numbers in its order. Reading fills the
view and writing copies it, so that one is the inverse of the other whatever the view.

PyTorch's linear layers keep `[out, in]`, the weights here `[in, out]`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

View = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TensorPart:
    """A published tensor within a weight.

    Attributes:
        name: the tensor's.
        view: gives, of the weight, the numbers of the tensor in its order.
        folded: leading axes of the view that are one axis of the tensor.
    """

    name: str
    view: View
    folded: int = 1

    def shape(self, weight: Sequence[int]) -> tuple[int, ...]:
        """Returns the tensor's shape, of a weight of that shape."""
        # A view of one number is as good, and takes no memory.
        seen = self.view(np.broadcast_to(np.float32(0), weight)).shape
        return (math.prod(seen[: self.folded]), *seen[self.folded :])


# The published tensors of each weight, by its path (`functional.py`).
Table = Mapping[str, Sequence[TensorPart]]


def same(name: str) -> list[TensorPart]:
    """Returns the tensor that is the weight as it is."""
    return [TensorPart(name, _itself)]


def transposed(name: str) -> list[TensorPart]:
    """Returns the tensor that is a matrix the other way round."""
    return [TensorPart(name, np.transpose)]


def columns(names: Sequence[str], widths: Sequence[int]) -> list[TensorPart]:
    """Returns tensors `[width, in]` of the columns of a weight `[in, sum of widths]`.

    Or vectors, of the entries of one.
    """
    ends = np.cumsum(widths).tolist()
    starts = [0, *ends[:-1]]
    return [
        TensorPart(name, partial(_columns, start=start, end=end))
        for name, start, end in zip(names, starts, ends, strict=True)
    ]


def interleaved(name: str, parts: int, heads: int) -> list[TensorPart]:
    """Returns the tensor whose rows are each head's parts, one head after another.

    The weight has them part by part: `[in, parts * heads * head_dim]`, or a vector.
    """
    view = partial(_interleaved, parts=parts, heads=heads)
    return [TensorPart(name, view, folded=3)]


def stacked(layers: Sequence[Sequence[TensorPart]]) -> list[TensorPart]:
    """Returns the tensors of weights that are one behind another in a longer one."""
    return [
        TensorPart(
            piece.name, partial(_one_of, index=index, view=piece.view), piece.folded
        )
        for index, pieces in enumerate(layers)
        for piece in pieces
    ]


def _itself(weight: np.ndarray) -> np.ndarray:
    return weight


def _columns(weight: np.ndarray, start: int, end: int) -> np.ndarray:
    return weight[..., start:end].T


def _interleaved(weight: np.ndarray, parts: int, heads: int) -> np.ndarray:
    split = weight.reshape(*weight.shape[:-1], parts, heads, -1)
    return np.moveaxis(split, (-2, -3, -1), (0, 1, 2))


def _one_of(weight: np.ndarray, index: int, view: View) -> np.ndarray:
    return view(weight[index])
