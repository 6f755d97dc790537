# SPDX-License-Identifier: Apache-2.0
"""Ops that a stock TensorFlow Serving could not run are named."""

from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry

from trainer.release.op_lint import TEXT_OPS, lint, read_graph

SPEC = [tf.TensorSpec([None], tf.float32, name="x")]


class Served(tf.Module):
    """A module with one function to serve, `body`, around a variable."""

    def __init__(self, body, jit_compile=False) -> None:
        super().__init__()
        self.weight = tf.Variable(2.0)
        inner = tf.function(body, autograph=False, jit_compile=jit_compile)

        @tf.function(input_signature=SPEC, autograph=False)
        def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": inner(x) * self.weight}

        self.serve = serve


def has_cpu_kernel(op: str) -> bool:
    found = kernels.get_registered_kernels_for_op(op).kernel
    return any(kernel.device_type in ("CPU", "DEFAULT") for kernel in found)


def complaints(directory: Path, module: Served) -> list[str]:
    tf.saved_model.save(module, str(directory), {"serving_default": module.serve})
    graph = read_graph((directory / "saved_model.pb").read_bytes())
    known = {node.op for node in graph.all_nodes()} - TEXT_OPS
    core = frozenset(op for op in known if op_def_registry.get(op) is not None)
    return lint(graph, core, has_cpu_kernel)


def test_an_ordinary_graph_has_nothing_to_complain_of(tmp_path):
    assert complaints(tmp_path, Served(lambda x: tf.nn.softmax(x))) == []


@pytest.mark.smoke
def test_a_call_into_python_is_found_inside_a_function(tmp_path):
    module = Served(lambda x: tf.numpy_function(lambda v: v, [x], tf.float32))
    assert any(
        "calls back into Python" in line for line in complaints(tmp_path, module)
    )


def test_a_function_that_must_be_compiled_is_found(tmp_path):
    found = complaints(tmp_path, Served(lambda x: x * 2, jit_compile=True))
    assert any("requires XLA" in line for line in found)


def test_an_op_pinned_to_a_gpu_is_found(tmp_path):
    def body(x: tf.Tensor) -> tf.Tensor:
        with tf.device("/GPU:0"):
            return x * 2

    assert complaints(tmp_path, Served(body)) == [
        "an op is pinned to the device /device:GPU:0"
    ]


def test_an_op_outside_of_the_core_and_one_without_a_cpu_kernel_are_found(tmp_path):
    module = Served(lambda x: tf.nn.softmax(x))
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.serve})
    graph = read_graph((tmp_path / "saved_model.pb").read_bytes())
    core = frozenset(node.op for node in graph.all_nodes()) - {"Softmax"}
    assert any("op Softmax is neither" in c for c in lint(graph, core, lambda op: True))
    found = lint(graph, core | {"Softmax"}, lambda op: op != "Softmax")
    assert found == ["op Softmax has no kernel for CPUs"]
