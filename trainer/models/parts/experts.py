# SPDX-License-Identifier: Apache-2.0
"""Gated feed-forward layers of which each token chooses a few (mixture of experts).

    p = softmax(x W), in float32             of all E experts
    y = sum of p_e down_e(act(gate_e x) * up_e x) over the K likeliest e

Shazeer et al. 2017, arXiv 1701.06538, as in Mixtral (Jiang et al. 2024, arXiv
2401.04088): every chosen expert computes every token that is sent to it, none is
dropped, so that no token's result depends on another's. The shares p enter before the
second product, where the pass that gates is made anyway.

Shape suffixes are those of `layers.py` and `grouped_products.py`; E experts, K of them
chosen by a token, F columns of an expert.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from trainer.compute.fusion import compiled_whole, fused
from trainer.models.parts.activations import activated, activated_and_slope
from trainer.models.parts.grouped_products import group_rows
from trainer.models.parts.layers import Initializer, dimensions, residual_stddev
from trainer.models.parts.weights import Role, Weight

# GPT-2's: the first shares are near 1 / E, and all experts are chosen.
_ROUTER_STDDEV = 0.02


@dataclass(frozen=True)
class ExpertsSizes:
    """What a layer of experts is made of.

    Attributes:
        width: D, of the residual stream.
        inner: F, columns between an expert's products.
        depth: layers of the model, which initial weights follow from.
        experts: E, how many there are.
        chosen: K, how many a token is sent to.
        activation: one of `activations.py`.
        normalise: whether the shares of the chosen are made to sum to 1.
        balance_loss: weight of `balance`.
        z_loss: weight of the squared log of the softmax's denominator (Zoph et al.
            2022, arXiv 2202.08906).
    """

    width: int
    inner: int
    depth: int
    experts: int
    chosen: int
    activation: str = "silu"
    normalise: bool = True
    balance_loss: float = 0.0
    z_loss: float = 0.0


class Experts(tf.Module):
    """Gated feed-forward layers, and the router that chooses among them."""

    def __init__(self, sizes: ExpertsSizes, initializer: Initializer) -> None:
        super().__init__()
        self._sizes = sizes
        experts, width, inner = sizes.experts, sizes.width, sizes.inner
        share = sizes.chosen / experts
        self.router = initializer.normal(
            "router", [width, experts], _ROUTER_STDDEV, Weight(Role.MATRIX)
        )
        self.gate_up = initializer.normal(
            "gate_up",
            [experts, width, 2 * inner],
            width**-0.5,
            Weight(Role.MATRIX, widths=(inner, inner), active=share),
        )
        self.down = initializer.normal(
            "down",
            [experts, inner, width],
            residual_stddev(inner, sizes.depth),
            Weight(Role.MATRIX, active=share),
        )

    def __call__(
        self, x_ND: tf.Tensor, counted_BT: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Maps `[positions, d_model]` to the same shape and type.

        Args:
            x_ND: input.
            counted_BT: bool, which positions are not padding; None asks for no
                penalty.

        Returns:
            The result; float32 `[N]`, what each position adds to what is minimised,
            or None.
        """
        sizes = self._sizes
        product_NE = tf.matmul(x_ND, tf.cast(self.router, x_ND.dtype))
        logits_NE = tf.cast(product_NE, tf.float32)
        shares_NE = tf.nn.softmax(logits_NE)
        _, chosen_NK = tf.math.top_k(tf.stop_gradient(shares_NE), sizes.chosen)
        shares_NK = _shares_of(shares_NE, chosen_NK)
        if sizes.normalise:
            shares_NK /= tf.reduce_sum(shares_NK, axis=-1, keepdims=True)
        gate_up, down = (tf.cast(w, x_ND.dtype) for w in (self.gate_up, self.down))
        y_ND = _mixed(x_ND, shares_NK, chosen_NK, gate_up, down, sizes.activation)
        if counted_BT is None:
            return y_ND, None
        penalty_N = tf.zeros([])
        if sizes.balance_loss:
            each_N = balance(shares_NE, chosen_NK, counted_BT)
            penalty_N += sizes.balance_loss * each_N
        if sizes.z_loss:
            lse_N = tf.reduce_logsumexp(logits_NE, axis=-1)
            penalty_N += sizes.z_loss * tf.square(lse_N)
        return y_ND, penalty_N


def balance(
    shares_NE: tf.Tensor, chosen_NK: tf.Tensor, counted_BT: tf.Tensor
) -> tf.Tensor:
    """Returns E * sum_e f_e p_e of each position, float32 `[N]`.

    p_e is the position's share of expert e, and f_e how often a position of its row
    chose e, which has no gradient. Where all experts are chosen alike it is K. The mean
    over a row is what Fedus et al. 2021 (arXiv 2101.03961, equations 4 to 6) take of a
    batch, as transformers' `load_balancing_loss_func` does of a batch of that row and
    one layer. Rows are not split, so sums over them do not depend on how they are
    spread over micro-batches and replicas; a batch's own f_e would.

    Args:
        shares_NE: softmax of the router.
        chosen_NK: experts that each position chose.
        counted_BT: bool, which positions are not padding.
    """
    experts = shares_NE.shape[1]
    counts_BT = tf.cast(counted_BT, tf.float32)
    ones_NK = tf.repeat(tf.reshape(counts_BT, [-1, 1]), chosen_NK.shape[1], axis=1)
    size = [*dimensions(counted_BT), experts]
    choices_BTE = tf.reshape(_spread(ones_NK, chosen_NK, experts), size)
    counted_B1 = tf.reduce_sum(counts_BT, axis=1, keepdims=True)
    often_BE = tf.reduce_sum(choices_BTE, axis=1) / tf.maximum(counted_B1, 1.0)
    shares_BTE = tf.reshape(shares_NE, size)
    each_BT = tf.reduce_sum(shares_BTE * often_BE[:, None, :], axis=-1)
    return tf.reshape(experts * each_BT, [-1])


def _shares_of(shares_NE: tf.Tensor, chosen_NK: tf.Tensor) -> tf.Tensor:
    """Picks the shares of the chosen experts: `[N, K]`."""

    @tf.custom_gradient
    def run(
        shares_NE: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream_NK: tf.Tensor) -> tf.Tensor:
            return _spread(upstream_NK, chosen_NK, shares_NE.shape[1])

        return tf.gather(shares_NE, chosen_NK, batch_dims=1), gradient

    return run(shares_NE)


def _spread(values_NK: tf.Tensor, chosen_NK: tf.Tensor, experts: int) -> tf.Tensor:
    """Puts a value for each choice where its expert stands: `[N, E]`, else 0."""
    if compiled_whole():
        # XLA would leave its loop for a scatter.
        here_NKE = chosen_NK[:, :, None] == tf.range(experts)
        return tf.reduce_sum(tf.where(here_NKE, values_NK[:, :, None], 0.0), axis=1)
    positions, chosen = dimensions(chosen_NK)
    rows_NK = tf.repeat(tf.range(positions)[:, None], chosen, axis=1)
    places_NK2 = tf.stack([rows_NK, chosen_NK], axis=-1)
    return tf.scatter_nd(places_NK2, values_NK, [positions, experts])


def _mixed(
    x_ND: tf.Tensor,
    shares_NK: tf.Tensor,
    chosen_NK: tf.Tensor,
    gate_up_ED2F: tf.Tensor,
    down_EFD: tf.Tensor,
    name: str,
) -> tf.Tensor:
    """Returns the sum of what the chosen experts make of each position, `[N, D]`.

    The gradient keeps the first products alone, and costs four products to the
    forward pass's two; TensorFlow's own would pad every slice to all rows again.
    """
    positions, chosen = dimensions(chosen_NK)
    groups = group_rows(tf.reshape(chosen_NK, [-1]), gate_up_ED2F.shape[0])
    sources_R = groups.chosen // chosen

    def summed(y_RD: tf.Tensor) -> tf.Tensor:
        y_MD = tf.gather(y_RD, groups.places)
        return _sum_of_choices(tf.reshape(y_MD, [positions, chosen, y_RD.shape[1]]))

    @tf.custom_gradient
    def run(
        x_ND: tf.Tensor,
        shares_NK: tf.Tensor,
        gate_up_ED2F: tf.Tensor,
        down_EFD: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        shares_R = groups.grouped(tf.reshape(shares_NK, [-1]))
        both_R2F = groups.products(tf.gather(x_ND, sources_R), gate_up_ED2F)

        def gradient(upstream_ND: tf.Tensor) -> list[tf.Tensor]:
            upstream_RD = tf.gather(upstream_ND, sources_R)
            into_RF = groups.products(upstream_RD, down_EFD, transpose=True)
            into_both_R2F, mixed_RF, into_shares_R = _gate_gradient(
                both_R2F, shares_R, into_RF, name
            )
            into_shares_M = tf.gather(into_shares_R, groups.places)
            x_RD = tf.gather(x_ND, sources_R)
            return [
                summed(groups.products(into_both_R2F, gate_up_ED2F, transpose=True)),
                tf.reshape(into_shares_M, [positions, chosen]),
                groups.matrix_gradients(x_RD, into_both_R2F),
                groups.matrix_gradients(mixed_RF, upstream_RD),
            ]

        mixed_RF = _gate(both_R2F, shares_R, name)
        return summed(groups.products(mixed_RF, down_EFD)), gradient

    return run(x_ND, shares_NK, gate_up_ED2F, down_EFD)


@fused
def _sum_of_choices(y_NKD: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_sum(tf.cast(y_NKD, tf.float32), axis=1), y_NKD.dtype)


@fused
def _gate(both_R2F: tf.Tensor, shares_R: tf.Tensor, name: str) -> tf.Tensor:
    """Returns share * act(gate) * up, computed in float32."""
    gate, up = (tf.cast(x, tf.float32) for x in tf.split(both_R2F, 2, axis=-1))
    return tf.cast(shares_R[:, None] * activated(gate, name) * up, both_R2F.dtype)


@fused
def _gate_gradient(
    both_R2F: tf.Tensor, shares_R: tf.Tensor, upstream_RF: tf.Tensor, name: str
) -> list[tf.Tensor]:
    """Returns the gradient of `both`, the result again, and the shares' gradient."""
    gate, up = (tf.cast(x, tf.float32) for x in tf.split(both_R2F, 2, axis=-1))
    value, slope = activated_and_slope(gate, name)
    upstream = tf.cast(upstream_RF, tf.float32)
    value_up, weighted = value * up, shares_R[:, None] * upstream
    into_both = tf.concat([weighted * up * slope, weighted * value], axis=-1)
    return [
        tf.cast(into_both, both_R2F.dtype),
        tf.cast(shares_R[:, None] * value_up, both_R2F.dtype),
        tf.reduce_sum(upstream * value_up, axis=-1),
    ]
