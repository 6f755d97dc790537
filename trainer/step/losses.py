# SPDX-License-Identifier: Apache-2.0
"""The training loss, as a sum and a weight until one division by the global weight.

Logits are never held for a whole batch: positions pass through the output matrix in
chunks. Since all that comes after a chunk's logits is a sum, their gradient is known as
soon as they are, and both its products are made at once; the backward pass only scales.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.compute.float32 import check_below_one, check_zero_or_range
from trainer.compute.fusion import compiled, fused, max_of, sum_of
from trainer.models.language_model import LanguageModel

# Ten million times PaLM's: the gradient of nothing else is left by then.
_LARGEST_Z_LOSS = 1e3


@dataclass(frozen=True)
class LossConfig:
    """What is minimised; what is reported is the cross-entropy alone.

    Attributes:
        label_smoothing: share of the target spread evenly over the vocabulary
            (Szegedy et al. 2016, arXiv 1512.00567, section 7).
        z_loss: weight of the squared log of the softmax's denominator, which keeps
            logits from drifting (PaLM, Chowdhery et al. 2022: 1e-4).
        chunk: positions whose logits are held at once.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    chunk: int = 1024

    def __post_init__(self) -> None:
        check_below_one("loss.label_smoothing", self.label_smoothing)
        if self.z_loss < 0.0:
            raise UsageError(
                f"wanted loss.z_loss of 0 or more, found {self.z_loss}. Raise it"
            )
        check_zero_or_range("loss.z_loss", self.z_loss, most=_LARGEST_Z_LOSS)
        if self.chunk < 1:
            raise UsageError(
                f"wanted loss.chunk of 1 or more, found {self.chunk}. Raise it"
            )


def training_loss(
    model: LanguageModel,
    hidden: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    config: LossConfig,
    scale: tf.Tensor | None = None,
    penalty: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Sums what is minimised, and the cross-entropy of the next token.

        ce = log sum exp(logits) - logits[target]
        objective = scale * sum weights *
            ((1 - s) * ce + s * mean_v(ce_v) + z * lse^2 + penalty)

    with s the smoothing, ce_v the cross-entropy of id v and lse the log of the sum.

    Args:
        model: has the output matrix.
        hidden: `[batch, length, d_model]` in the compute type.
        targets: ids, int32 `[batch, length]`.
        weights: float32 `[batch, length]`, 0 where the target does not count.
        config: what is added to the cross-entropy.
        scale: float32, of float16's loss; None is 1. It meets the gradient of the
            logits while that is float32 still.
        penalty: float32 `[batch, length]`, the model's own; None for none.

    Returns:
        The objective, which alone has a gradient; the loss sum, in nats over the
        weighted targets; the sum of the weights: float32 scalars. The quotient of the
        last two over a whole batch, whatever it was split into, is the loss; the mean
        of quotients is not.
    """
    size = hidden.shape[-1]
    flat = tf.reshape(hidden, [-1, size])
    matrix = tf.convert_to_tensor(model.output_weights())
    factors = tf.reshape(weights, [-1])
    factor = tf.constant(1.0) if scale is None else scale
    cap = model.config.bends_logits_at
    objective, loss_sum = _fused(
        flat, matrix, tf.reshape(targets, [-1]), factors, factor, config, cap
    )
    if penalty is not None:
        objective += factor * tf.reduce_sum(weights * penalty)
    return objective, loss_sum, tf.reduce_sum(weights)


def target_nats(
    model: LanguageModel,
    hidden: tf.Tensor,
    targets: tf.Tensor,
    chunk: int = LossConfig.chunk,
) -> tf.Tensor:
    """Returns the cross-entropy of each target, float32 `[batch x length]`.

    Arguments are those of `training_loss`; there is no gradient.
    """
    flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
    matrix = tf.convert_to_tensor(model.output_weights())
    ids = tf.reshape(targets, [-1])

    def nats(hidden: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        product = tf.matmul(hidden, tf.cast(matrix, hidden.dtype), transpose_b=True)
        logits, _ = _capped(product, model.config.bends_logits_at)
        return token_nats(logits, ids)[0]

    positions = flat.shape[0]
    if positions is None or positions <= chunk:
        return nats(flat, ids)
    (hidden_CND, ids_CN), _ = _in_chunks([flat, ids], positions, chunk)
    per_chunk = tf.map_fn(
        lambda each: nats(*each),
        (hidden_CND, ids_CN),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )
    return tf.reshape(per_chunk, [-1])[:positions]


def _fused(
    hidden: tf.Tensor,
    matrix: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    scale: tf.Tensor,
    config: LossConfig,
    cap: float | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (objective, loss_sum) of positions `[N, D]`."""

    @tf.custom_gradient
    def sums(
        hidden: tf.Tensor, matrix: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
        objective, loss_sum, into_hidden, into_matrix = _sums_and_gradients(
            hidden, matrix, targets, weights, scale, config, cap
        )

        def gradient(upstream: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # 1 where the objective is what is differentiated: then nothing is rounded.
            return into_hidden * tf.cast(upstream, into_hidden.dtype), (
                into_matrix * upstream
            )

        return (objective, loss_sum), gradient

    return sums(hidden, matrix)


def _sums_and_gradients(
    hidden: tf.Tensor,
    matrix: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    scale: tf.Tensor,
    config: LossConfig,
    cap: float | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns objective, loss sum, and the objective's gradients, chunk after chunk.

    The gradient of the hidden states `[N, D]` is in their type, that of the matrix
    `[V, D]` in float32, in which chunks are added up.
    """
    positions = hidden.shape[0]
    cast = tf.cast(matrix, hidden.dtype)
    if positions <= config.chunk:
        objective, loss_sum, into_hidden, into_matrix = _chunk(
            hidden, targets, weights, cast, scale, config, cap
        )
        return objective, loss_sum, into_hidden, tf.cast(into_matrix, tf.float32)
    chunked, count = _in_chunks([hidden, targets, weights], positions, config.chunk)
    rows = tf.TensorArray(
        hidden.dtype, count, element_shape=[config.chunk, hidden.shape[1]]
    )

    def body(
        index: tf.Tensor,
        objective: tf.Tensor,
        loss_sum: tf.Tensor,
        into_matrix: tf.Tensor,
        rows: tf.TensorArray,
    ) -> list:
        one, two, three = (x[index] for x in chunked)
        more, more_loss, into_hidden, more_into_matrix = _chunk(
            one, two, three, cast, scale, config, cap
        )
        return [
            index + 1,
            objective + more,
            loss_sum + more_loss,
            into_matrix + tf.cast(more_into_matrix, tf.float32),
            rows.write(index, into_hidden),
        ]

    zero = tf.zeros([])
    start = [tf.constant(0), zero, zero, tf.zeros(matrix.shape), rows]
    _, objective, loss_sum, into_matrix, rows = tf.while_loop(
        lambda index, *_: index < count,
        body,
        start,
        # One after another: side by side they would hold their logits together.
        parallel_iterations=1,
        maximum_iterations=count,
    )
    into_hidden = tf.reshape(rows.stack(), [-1, hidden.shape[1]])[:positions]
    return objective, loss_sum, into_hidden, into_matrix


def _chunk(
    hidden: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    matrix: tf.Tensor,
    scale: tf.Tensor,
    config: LossConfig,
    cap: float | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns objective, loss sum and both gradients of `[C, D]` positions."""
    logits = tf.matmul(hidden, matrix, transpose_b=True)
    smoothing, z_loss = config.label_smoothing, config.z_loss
    objective, loss_sum, down = _descent(
        logits, targets, weights, scale, smoothing, z_loss, cap
    )
    into_hidden = tf.matmul(down, matrix)
    return objective, loss_sum, into_hidden, tf.matmul(down, hidden, transpose_a=True)


@fused
def _descent(
    product: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    scale: tf.Tensor,
    smoothing: float,
    z_loss: float,
    cap: float | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns objective, loss sum, and the logits' gradient `[C, V]` in their type.

    d objective / d logits = slope * softmax - weight * (smoothed target)

    all times 1 - tanh(product / cap)^2 where logits are capped.
    """
    logits, steep = _capped(product, cap)
    nats, shares = token_nats(logits, targets)
    loss_sum = tf.reduce_sum(nats * weights)
    each, slope = nats, weights
    if smoothing or z_loss:
        chosen = tf.gather(logits, targets, batch_dims=1)
        lse = nats + chosen
        even = lse - tf.reduce_mean(logits, axis=-1)
        each = (1.0 - smoothing) * nats + smoothing * even
        each += z_loss * tf.square(lse)
        slope = weights * (1.0 + 2.0 * z_loss * lse)
    objective = tf.reduce_sum(each * weights) * scale
    down = shares * (slope * scale)[:, None]
    if smoothing:
        down -= (weights * (scale * smoothing / product.shape[1]))[:, None]
    amounts = weights * (scale * (1.0 - smoothing))
    down = _less_at(targets, down, amounts)
    if steep is not None:
        down *= steep
    return objective, loss_sum, tf.cast(down, product.dtype)


def _capped(
    product: tf.Tensor, cap: float | None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns float32 logits of what the output matrix gave, and their slope in it.

    With a cap c they are c tanh(product / c); without one the slope is 1, as None.
    """
    logits = tf.cast(product, tf.float32)
    if cap is None:
        return logits, None
    bent = tf.tanh(logits / cap)
    return cap * bent, 1.0 - tf.square(bent)


def _less_at(ids: tf.Tensor, rows: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """Subtracts amounts `[C]` from one id `[C]` each of rows `[C, V]`."""
    if compiled():
        # XLA would leave its loop for a scatter, and write all rows before it.
        here = tf.range(rows.shape[1]) == ids[:, None]
        return rows - tf.where(here, amounts[:, None], 0.0)
    places = tf.stack([tf.range(tf.shape(ids)[0]), ids], axis=1)
    return tf.tensor_scatter_nd_sub(rows, places, amounts)


def token_nats(logits: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns -log softmax(logits)[target] `[N]`, and the softmax `[N, V]`.

    Equal to `tf.nn.sparse_softmax_cross_entropy_with_logits`, whose CPU kernel took
    65 ms of processor time on 2,048 x 8,192 logits, a tenth of a bfloat16 step; this
    form rests on oneDNN's softmax and took 18. The log of the sum comes from the
    likeliest id, whose probability cannot underflow.

    Args:
        logits: float32 `[N, V]`.
        targets: int32 `[N]`.
    """
    top = max_of(logits, -1)
    # The difference of logits first: beside a logit of 1,000 float32 keeps no nats
    # below 6e-5, and a likely target has fewer.
    behind = top[:, 0] - tf.gather(logits, targets, batch_dims=1)
    if compiled():
        powers = tf.exp(logits - top)
        total = sum_of(powers, -1)
        return behind + tf.math.log(total[:, 0]), powers / total
    shares = tf.nn.softmax(logits)
    return behind - tf.math.log(tf.reduce_max(shares, axis=-1)), shares


def _in_chunks(
    tensors: list[tf.Tensor], positions: int, chunk: int
) -> tuple[list[tf.Tensor], int]:
    """Returns tensors `[N, …]` as `[chunks, chunk, …]`, padded with zeros, and chunks.

    A padded position has weight 0.
    """
    count = -(-positions // chunk)
    missing = count * chunk - positions
    padded = [
        tf.pad(x, [[0, missing]] + [[0, 0]] * (x.shape.rank - 1)) for x in tensors
    ]
    return [tf.reshape(x, [count, chunk, *x.shape[1:]]) for x in padded], count
