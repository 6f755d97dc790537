# SPDX-License-Identifier: Apache-2.0
"""Reads a SavedModel's ops and names what a stock TensorFlow Serving could not run.

Allowed are the ops of TensorFlow's core with a kernel for CPUs, and the SentencePiece
ops of tensorflow_text, unchanged since the 2.12.1 that TensorFlow Serving 2.14 to 2.19
link.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from preprocessing.foundation.protocol_buffers import read
from trainer.machine.tensorflow_messages import SavedModel, as_dict

TEXT_OPS = frozenset(
    {"SentencepieceOp", "SentencepieceTokenizeOp", "SentencepieceVocabSizeOp"}
)
PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"})
_MUST_COMPILE = "_XlaMustCompile"


@dataclass(frozen=True)
class Node:
    """One op of a graph: its kind, device string, and the functions it refers to."""

    op: str
    device: str
    must_compile: bool
    calls: frozenset[str]


@dataclass(frozen=True)
class SavedGraph:
    """The ops of a SavedModel: the main graph and every function of its library."""

    nodes: tuple[Node, ...]
    functions: dict[str, tuple[Node, ...]]
    compiled: frozenset[str]

    def all_nodes(self) -> list[Node]:
        """Returns the nodes of the main graph and of every function."""
        return [*self.nodes, *(n for body in self.functions.values() for n in body)]


def read_graph(saved_model: bytes) -> SavedGraph:
    """Parses the bytes of `saved_model.pb`, which holds one graph.

    Raises:
        ValueError: they are no SavedModel.
    """
    graphs = [meta.graph_def for meta in read(SavedModel, saved_model).meta_graphs]
    functions: dict[str, tuple[Node, ...]] = {}
    compiled = set()
    for function in (each for graph in graphs for each in graph.library.function):
        name = function.signature.name
        functions[name] = tuple(_node(node) for node in function.node_def)
        if _must_compile(as_dict(function.attr)):
            compiled.add(name)
    nodes = tuple(_node(node) for graph in graphs for node in graph.node)
    return SavedGraph(nodes, functions, frozenset(compiled))


def lint(
    graph: SavedGraph,
    core_ops: frozenset[str],
    has_cpu_kernel: Callable[[str], bool],
) -> list[str]:
    """Returns one complaint per reason a stock TensorFlow Serving would fail."""
    nodes = graph.all_nodes()
    ops = {node.op for node in nodes} - set(graph.functions)
    complaints = [f"op {op} calls back into Python" for op in sorted(ops & PYTHON_OPS)]
    for op in sorted(ops - PYTHON_OPS):
        if op not in core_ops | TEXT_OPS:
            complaints.append(
                f"op {op} is neither in TensorFlow's core nor one of "
                f"{', '.join(sorted(TEXT_OPS))}"
            )
        elif op in core_ops and not has_cpu_kernel(op):
            complaints.append(f"op {op} has no kernel for CPUs")
    # TensorFlow itself pins the ops that restore variables to a CPU: every server has.
    devices = {node.device for node in nodes if "CPU" not in node.device} - {""}
    complaints += [f"an op is pinned to the device {name}" for name in sorted(devices)]
    compiled = graph.compiled & reachable(graph)
    complaints += [f"function {name} requires XLA" for name in sorted(compiled)]
    if any(node.must_compile for node in nodes):
        complaints.append("a call requires XLA")
    return complaints


def reachable(graph: SavedGraph) -> frozenset[str]:
    """Returns the functions that the main graph's signatures can reach."""
    waiting = [name for node in graph.nodes for name in node.calls]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in graph.functions:
            continue
        seen.add(name)
        waiting += [call for node in graph.functions[name] for call in node.calls]
    return frozenset(seen)


def _node(node: Any) -> Node:
    attributes = as_dict(node.attr)
    calls = {node.op}
    for value in attributes.values():
        named = [value.func] if value.HasField("func") else []
        calls |= {function.name for function in (*named, *value.list.func)}
    return Node(node.op, node.device, _must_compile(attributes), frozenset(calls))


def _must_compile(attributes: dict[str, Any]) -> bool:
    return _MUST_COMPILE in attributes and attributes[_MUST_COMPILE].b
