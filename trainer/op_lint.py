# SPDX-License-Identifier: Apache-2.0
"""Reads a SavedModel's ops and names what a stock TensorFlow Serving could not run.

Allowed are the ops of TensorFlow's core with a kernel for CPUs, and the SentencePiece
ops of tensorflow_text, unchanged since the 2.12.1 that TensorFlow Serving 2.14 to 2.19
link. Field numbers are those of saved_model.proto, meta_graph.proto, graph.proto,
function.proto and node_def.proto.
"""

from collections.abc import Callable
from dataclasses import dataclass

from trainer import wire

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
    """Parses the bytes of `saved_model.pb`."""
    graph = wire.last_bytes(wire.last_bytes(saved_model, 2), 2)
    functions: dict[str, tuple[Node, ...]] = {}
    compiled = set()
    for function in wire.all_of(wire.last_bytes(graph, 2), 1):
        name = wire.last_bytes(wire.last_bytes(function, 1), 1).decode()
        functions[name] = tuple(_node(node) for node in wire.all_of(function, 3))
        if _is_true(wire.entries(function, 5).get(_MUST_COMPILE, b"")):
            compiled.add(name)
    nodes = tuple(_node(node) for node in wire.all_of(graph, 1))
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


def _node(data: bytes) -> Node:
    op = wire.last_bytes(data, 2).decode()
    attributes = wire.entries(data, 5)
    calls = {op}
    for value in attributes.values():
        calls |= _function_names(value)
    return Node(
        op=op,
        device=wire.last_bytes(data, 4).decode(),
        must_compile=_is_true(attributes.get(_MUST_COMPILE, b"")),
        calls=frozenset(calls),
    )


def _function_names(value: bytes) -> set[str]:
    """Returns the functions an AttrValue names: `func` (10) or `list.func` (1.9)."""
    names = set()
    for number, content in wire.fields(value):
        if number == 10:
            names.add(wire.last_bytes(bytes(content), 1).decode())
        elif number == 1:
            for function in wire.all_of(bytes(content), 9):
                names.add(wire.last_bytes(function, 1).decode())
    return names


def _is_true(value: bytes) -> bool:
    """Tells whether an AttrValue holds `b: true` (field 5)."""
    return any(number == 5 and content for number, content in wire.fields(value))
