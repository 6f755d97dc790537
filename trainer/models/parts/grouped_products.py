# SPDX-License-Identifier: Apache-2.0
"""Products of rows with the one of several matrices that each row chose.

Rows are put in the order of their matrices, so that each matrix has its rows side by
side. Two ways, equal to rounding; the work of both follows from the rows and hardly
from the number of matrices E:

    slices   one product for each matrix with as many rows as chose it. The sizes are
             known when it runs, which XLA does not allow.
    blocks   where XLA compiles the whole. Each matrix's rows are filled up to blocks of
             B, and one batched product takes every block with its matrix. There are
             M / B + E blocks for M rows, whoever chose what: B at most M / (4 E), so a
             quarter more rows than there are, and a copy of a matrix for each block:
             five to nine of every matrix up to 16,384 rows a matrix.

Forward and backward of 2,048 positions through two layers of width 256, in processor
time on 2 cores beside one feed-forward layer with as many products (M = 2,048 K):

                  8 experts of 512, K = 2   64 of 128, K = 8
    slices        1.13 (bfloat16: 1.25)     1.29 (1.9)
    blocks        1.43                      1.9

Shape suffixes: M rows that choose, R rows as they are grouped (M, or more in blocks),
G blocks, B rows of a block, I and O columns that a matrix takes and gives.
"""

from typing import NamedTuple, TypeVar

import tensorflow as tf

from trainer.compute.fusion import compiled_whole
from trainer.models.parts.layers import dimensions

# Filled up, a block costs products of up to its rows, and a copy of its matrix to read
# and to write, as much as products of some 300 rows on an H100 by its peaks.
_MOST_ROWS, _LEAST_ROWS = 2048, 8

Size = TypeVar("Size", int, tf.Tensor)


class Groups(NamedTuple):
    """Rows in the order of the matrices they chose.

    Attributes:
        chosen: which of the M rows each grouped row is; any where it is filled up.
        places: where each of the M rows lies among the grouped.
        real: bool, false where a block is filled up; None where none is.
        counts: rows of each matrix, of slices.
        matrices: matrix of each block, of blocks; None of slices.
    """

    chosen: tf.Tensor
    places: tf.Tensor
    real: tf.Tensor | None
    counts: tf.Tensor
    matrices: tf.Tensor | None

    def grouped(self, values_M: tf.Tensor) -> tf.Tensor:
        """Brings a value of each row into order; it is 0 where a block is filled up."""
        values_R = tf.gather(values_M, self.chosen)
        if self.real is None:
            return values_R
        return tf.where(self.real, values_R, tf.zeros([], values_R.dtype))

    def products(
        self, x_RI: tf.Tensor, matrices_EIO: tf.Tensor, transpose: bool = False
    ) -> tf.Tensor:
        """Multiplies each grouped row by its matrix: `[R, O]`.

        Args:
            x_RI: grouped rows.
            matrices_EIO: matrices, of the same type.
            transpose: whether they are `[E, O, I]`.
        """
        if self.matrices is not None:
            x_GBI = self._blocks(x_RI)
            matrices_GIO = tf.gather(matrices_EIO, self.matrices)
            y_GBO = tf.matmul(x_GBI, matrices_GIO, transpose_b=transpose)
            return tf.reshape(y_GBO, [-1, y_GBO.shape[-1]])
        # Both lists are views: neither rows nor matrices are copied.
        pairs = zip(self._slices(x_RI), tf.unstack(matrices_EIO), strict=True)
        y_RO = tf.concat([tf.matmul(*p, transpose_b=transpose) for p in pairs], axis=0)
        y_RO.set_shape([x_RI.shape[0], matrices_EIO.shape[1 if transpose else 2]])
        return y_RO

    def matrix_gradients(self, x_RI: tf.Tensor, upstream_RO: tf.Tensor) -> tf.Tensor:
        """Returns the gradient of the matrices of `products`: `[E, I, O]`.

        Args:
            x_RI: what was multiplied.
            upstream_RO: gradient of the products, 0 where a block is filled up.
        """
        if self.matrices is None:
            pairs = zip(self._slices(x_RI), self._slices(upstream_RO), strict=True)
            return tf.stack([tf.matmul(*pair, transpose_a=True) for pair in pairs])
        each_GIO = tf.matmul(
            self._blocks(x_RI), self._blocks(upstream_RO), transpose_a=True
        )
        # A product, not a scattered sum: its order is the same in every run.
        owners_GE = tf.one_hot(
            self.matrices, self.counts.shape[0], dtype=each_GIO.dtype
        )
        return tf.einsum("ge,gio->eio", owners_GE, each_GIO)

    def _slices(self, x_RI: tf.Tensor) -> list[tf.Tensor]:
        return tf.split(x_RI, self.counts, num=self.counts.shape[0])

    def _blocks(self, x_RI: tf.Tensor) -> tf.Tensor:
        count = dimensions(self.matrices)[0]
        rows, width = dimensions(x_RI)
        return tf.reshape(x_RI, [count, rows // count, width])


def group_rows(choices_M: tf.Tensor, matrices: int) -> Groups:
    """Puts rows in the order of the matrices they chose, equal ones in their own.

    Args:
        choices_M: int32, matrix of each row.
        matrices: E, how many there are.
    """
    order_M = tf.argsort(choices_M, stable=True)
    ranks_M = tf.math.invert_permutation(order_M)
    every_E = tf.range(matrices)
    ends_E = tf.searchsorted(tf.gather(choices_M, order_M), every_E, side="right")
    starts_E = tf.concat([[0], ends_E[:-1]], axis=0)
    counts_E = ends_E - starts_E
    counts_E.set_shape([matrices])
    if not compiled_whole():
        return Groups(order_M, ranks_M, None, counts_E, None)
    total = dimensions(choices_M)[0]
    rows = block_rows(choices_M.shape[0], matrices)
    count = count_blocks(total, rows, matrices)
    last_E = tf.cumsum(-(-counts_E // rows))
    first_E = tf.concat([[0], last_E[:-1]], axis=0)
    # Blocks that no matrix needs are the last one's, and filled up from end to end.
    matrices_G = tf.searchsorted(last_E, tf.range(count), side="right")
    matrices_G = tf.minimum(matrices_G, matrices - 1)
    shift_E = first_E * rows - starts_E
    owners_R = tf.repeat(matrices_G, rows)
    ranks_R = tf.range(count * rows) - tf.gather(shift_E, owners_R)
    return Groups(
        chosen=tf.gather(order_M, tf.minimum(ranks_R, total - 1)),
        places=ranks_M + tf.gather(shift_E, choices_M),
        real=ranks_R < tf.gather(ends_E, owners_R),
        counts=counts_E,
        matrices=matrices_G,
    )


def block_rows(rows: int | None, matrices: int) -> int:
    """Returns the rows of a block: a power of two.

    Args:
        rows: that choose; None if unknown.
        matrices: that they choose from.
    """
    if rows is None:
        return _LEAST_ROWS
    size = _LEAST_ROWS
    while size < _MOST_ROWS and 2 * size * 4 * matrices <= rows:
        size *= 2
    return size


def count_blocks(rows: Size, size: int, matrices: int) -> Size:
    """Returns how many blocks hold rows, whichever matrices they choose.

    Args:
        rows: that choose.
        size: rows of a block.
        matrices: that they choose from.
    """
    return rows // size + matrices
