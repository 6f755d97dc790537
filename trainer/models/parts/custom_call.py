# SPDX-License-Identifier: Apache-2.0
"""A custom call of XLA inside a compiled function.

TensorFlow's own operation for them cannot say how results of several shapes are laid
out. So the call is written as a module of StableHLO, which `XlaCallModule` brings in.
"""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

# Shape and type of a result.
Result = tuple[Sequence[int], tf.DType]
# Of the modules that `XlaCallModule` reads; 9 is jax2tf's since 2023.
_VERSION = 9
_ELEMENTS = {
    tf.bfloat16: "bf16",
    tf.float16: "f16",
    tf.float32: "f32",
    tf.int32: "i32",
}


def custom_call(
    target: str,
    configuration: str,
    operands: Sequence[tf.Tensor],
    results: Sequence[Result],
    platform: str,
) -> list[tf.Tensor]:
    """Calls `target`, which gives `results` and then a workspace of its own size.

    Operands and results of rank 4 are `[B, T, heads, H]` here and in memory. The
    target calls its results `[B, heads, T, H]`, laid out with the heads inside time:
    the same bytes, so the transposition below costs nothing.

    Args:
        target: its name.
        configuration: JSON that it reads.
        operands: of static shapes.
        results: what it gives.
        platform: "CUDA", or another that XLA compiles for.
    """
    values: list[tf.Tensor] = gen_xla_ops.xla_call_module(
        operands,
        version=_VERSION,
        module=_module(target, configuration, operands, results),
        Sout=[shape for shape, _ in results],
        Tout=[dtype for _, dtype in results],
        platforms=[platform],
    )
    return values


def _module(
    target: str,
    configuration: str,
    operands: Sequence[tf.Tensor],
    results: Sequence[Result],
) -> str:
    """Returns the module's text."""
    names = ", ".join(f"%a{i}" for i in range(len(operands)))
    taken = [_type(x.shape, x.dtype) for x in operands]
    inputs = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(taken))
    made = [_type(_as_made(shape), dtype) for shape, dtype in results]
    given = [_type(shape, dtype) for shape, dtype in results]
    escaped = configuration.replace('"', "\\22")
    attributes = (
        f'api_version = 2 : i32, backend_config = "{escaped}", '
        f"operand_layouts = [{', '.join(_row_major(x.shape) for x in operands)}], "
        f"result_layouts = [{', '.join([*map(_layout, results), _row_major([0])])}]"
    )
    lines = [
        f"%r:{len(results) + 1} = stablehlo.custom_call @{target}({names}) "
        f"{{{attributes}}} : ({', '.join(taken)}) -> "
        f"({', '.join([*made, 'tensor<0xui8>'])})"
    ]
    outputs = []
    for i, (shape, _) in enumerate(results):
        outputs.append(f"%o{i}" if len(shape) == 4 else f"%r#{i}")
        if len(shape) == 4:
            lines.append(
                f"%o{i} = stablehlo.transpose %r#{i}, dims = [0, 2, 1, 3] : "
                f"({made[i]}) -> {given[i]}"
            )
    lines.append(f"return {', '.join(outputs)} : {', '.join(given)}")
    body = "\n".join(lines)
    signature = f"@main({inputs}) -> ({', '.join(given)})"
    return f"module {{ func.func public {signature} {{\n{body}\n}} }}"


def _type(shape: Sequence[int], dtype: tf.DType) -> str:
    return f"tensor<{'x'.join([*map(str, shape), _ELEMENTS[dtype]])}>"


def _as_made(shape: Sequence[int]) -> Sequence[int]:
    """Returns the shape that the target gives a result."""
    if len(shape) != 4:
        return shape
    batch, length, heads, width = shape
    return batch, heads, length, width


def _layout(result: Result) -> str:
    """Returns the layout of a result as the target gives it."""
    shape, _ = result
    return _axes([3, 1, 2, 0]) if len(shape) == 4 else _row_major(shape)


def _row_major(shape: Sequence[int]) -> str:
    return _axes([*range(len(shape))][::-1])


def _axes(minor_to_major: list[int]) -> str:
    return f"dense<{minor_to_major}> : tensor<{len(minor_to_major)}xindex>"
