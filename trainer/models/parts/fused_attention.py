# SPDX-License-Identifier: Apache-2.0
"""Attention as one kernel of cuDNN: nothing of a score ever reaches memory.

TensorFlow has no operation for it, but XLA, which compiles whole steps on GPUs, hands a
custom call named `__cudnn$fmhaSoftmax` to cuDNN's flash attention, and one named
`__cudnn$fmhaSoftmaxBackward` to its gradient. Their operands, results and configuration
are those of XLA (xla/service/gpu/cublas_cudnn.h and backend_configs.proto, message
CudnnfMHABackendConfig).

Rows are packed: the segments of a batch lie one behind the other, and cuDNN is given
where each starts and how long it is, so that a query sees the keys of its own segment
up to itself and no time is spent on others. Shape suffixes are those of `attention.py`;
M is the most segments of a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from preprocessing.foundation import strict_json
from trainer.compute.fusion import compiled_whole
from trainer.models.parts.custom_call import custom_call
from trainer.models.parts.layers import dimensions

_TYPES = {tf.bfloat16: "BF16", tf.float16: "F16"}
# What packed rows and their gradient were run with; older chips and versions were not.
_LEAST_CAPABILITY = (9, 0)
_LEAST_TENSORFLOW = (2, 21)
_WIDEST_HEAD = 128
# cuDNN's log-sums take a float32 a query, head and possible segment of a row, used or
# not: with 128, a sixth of what a layer of the preset 125m keeps by its own estimate.
_MOST_SEGMENTS = 128


@dataclass(frozen=True)
class PackedSegments:
    """Where the segments of a batch lie, one behind the other.

    Attributes:
        lengths: int32 `[B, M]` in one sequence over all rows, 0 for those not used.
        starts: int32 `[B, M + 1]`, first position of each in the batch's `B * T`;
            `B * T` for those not used.
    """

    lengths: tf.Tensor
    starts: tf.Tensor


def fits(
    compute: tf.DType, head_dim: int, length: int | None, max_segments: int | None
) -> bool:
    """Tells whether cuDNN can attend in what is being traced.

    Args:
        compute: the type of queries, keys and values.
        head_dim: their width.
        length: of the rows; None if unknown.
        max_segments: most segments of a row, padding counted as one; None if unknown.
    """
    if length is None or max_segments is None:
        return False
    return (
        compiled_whole()
        and max_segments <= _MOST_SEGMENTS
        and compute in _TYPES
        and head_dim % 8 == 0
        and head_dim <= _WIDEST_HEAD
        and length % 2 == 0
        and gpu_has_fused_attention()
    )


def gpu_has_fused_attention() -> bool:
    """Tells whether every GPU of this process, and its TensorFlow, can."""
    version = tuple(int(x) for x in tf.__version__.split(".")[:2])
    gpus = tf.config.list_physical_devices("GPU")
    if version < _LEAST_TENSORFLOW or not gpus:
        return False
    details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
    return all(
        each.get("compute_capability", (0, 0)) >= _LEAST_CAPABILITY for each in details
    )


def pack_segments(ids_BT: tf.Tensor, max_segments: int) -> PackedSegments:
    """Finds the segments of rows, each a run of equal ids; padding is one too."""
    batch, length = dimensions(ids_BT)
    count, total = min(max_segments, length), batch * length
    first = tf.ones([batch, 1], tf.bool)
    begins_BT = tf.concat([first, ids_BT[:, 1:] != ids_BT[:, :-1]], axis=1)
    places = tf.where(tf.reshape(begins_BT, [-1]), tf.range(total), total)
    starts = tf.sort(places)[: batch * count]
    starts = tf.pad(starts, [[0, batch]], constant_values=total)
    lengths = starts[1:] - starts[:-1]
    return PackedSegments(
        tf.reshape(lengths[: batch * count], [batch, count]),
        tf.reshape(starts, [batch, count + 1]),
    )


def fused_attention(
    q_BTAH: tf.Tensor,
    k_BTKH: tf.Tensor,
    v_BTKH: tf.Tensor,
    segments: PackedSegments,
    platform: str = "CUDA",
) -> tf.Tensor:
    """Mixes the values each query may see; returns `[B, T, A, H]`.

    A query sees the keys of its own segment up to itself. The queries come scaled.
    Products are in the inputs' type, scores and their softmax float32. Shapes are
    static. It can be traced for any platform, and compiled where `fits` says so.
    """
    batch, length, heads, width = q_BTAH.shape
    kv_heads, count = k_BTKH.shape[2], segments.lengths.shape[1]
    places = [
        segments.lengths,
        segments.lengths,
        segments.starts * (heads * width),
        segments.starts * (kv_heads * width),
    ]
    scores = (batch, heads, length, length)

    @tf.custom_gradient
    def attend(
        q: tf.Tensor, k: tf.Tensor, v: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        mixed, log_sums = custom_call(
            "__cudnn$fmhaSoftmax",
            _configuration(scores, count, q.dtype, _FORWARD),
            [q, k, v, *places],
            [(q.shape, q.dtype), ((batch * count, heads, length), tf.float32)],
            platform,
        )

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            return custom_call(
                "__cudnn$fmhaSoftmaxBackward",
                _configuration(scores, count, q.dtype, _BACKWARD),
                [q, k, v, log_sums, upstream, mixed, *places],
                [(x.shape, x.dtype) for x in (q, k, v)],
                platform,
            )

        return mixed, gradient

    return attend(q_BTAH, k_BTKH, v_BTKH)


def _product(left: int, right: int, batch: Sequence[int]) -> dict[str, Any]:
    """Returns which axes of two `[B, T, heads, H]` or scores a product runs over."""
    return {
        "lhs_contracting_dimensions": [left],
        "rhs_contracting_dimensions": [right],
        "lhs_batch_dimensions": list(batch),
        "rhs_batch_dimensions": [0, 2],
    }


_ROWS, _SCORES = (0, 2), (0, 1)
_FORWARD = {
    "bmm1_dot_dimension_numbers": _product(3, 3, _ROWS),
    "bmm2_dot_dimension_numbers": _product(3, 1, _SCORES),
}
_BACKWARD = {
    "bmm1_grad_gemm1_dot_dimension_numbers": _product(2, 1, _SCORES),
    "bmm1_grad_gemm2_dot_dimension_numbers": _product(3, 1, _SCORES),
    "bmm2_grad_gemm1_dot_dimension_numbers": _product(2, 1, _SCORES),
    "bmm2_grad_gemm2_dot_dimension_numbers": _product(3, 3, _ROWS),
}


def _configuration(
    scores: Sequence[int], segments: int, dtype: tf.DType, products: dict[str, Any]
) -> str:
    """Returns XLA's description of the attention, as JSON."""
    described = {
        "algorithm": {
            "math_type": "TENSOR_OP_MATH",
            "tuning_knobs": {"17": "1", "24": "0"},
            "is_cudnn_frontend": True,
        },
        "fmha_scale": 1.0,
        "dropout_rate": 0.0,
        "seed": 0,
        "is_flash_attention": True,
        "mask_type": "CAUSAL",
        "sliding_window_length": 0,
        "max_seg_per_batch": segments,
        "intermediate_tensor_shape": {
            "element_type": _TYPES[dtype],
            "dimensions": list(scores),
            "layout": {"minor_to_major": [3, 2, 1, 0]},
            "is_dynamic_dimension": [False] * 4,
        },
        **products,
    }
    return strict_json.dumps({"cudnn_fmha_backend_config": described})
