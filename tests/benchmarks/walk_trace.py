# SPDX-License-Identifier: Apache-2.0
"""Writes down which modules a walk passes, in a process of any checkout.

`walks.py` has every process of a command run this file before anything else; it imports
nothing of ours. WALK_TRACE names a JSON file: the checkout's `root`, its `rooms`, where
to write (`out`), the `walks` as {name: [functions that begin it, functions it does not
enter]}, and `marks`, hex of bytes that tell the document that is followed.

A line is written once for each walk, module and way: `runs`, a function of the module
was called on the walk; `gives`, one returned or yielded what holds a mark.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

_DEEPEST = 5


class Trace:
    """A profiling function of the interpreter, for all threads of this process."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._root, self._out = f"{told['root']}/", f"{told['out']}/{os.getpid()}"
        self._rooms = tuple(f"{self._root}{room}/" for room in told["rooms"])
        walks = told["walks"].items()
        self._begin = {name: walk for walk, (names, _) in walks for name in names}
        self._apart = {name for _, (_, names) in walks for name in names}
        self._marks = [bytes.fromhex(mark) for mark in told["marks"]]
        self._written: set[tuple[str, str, str]] = set()
        self._local = threading.local()

    def __call__(self, frame: FrameType, event: str, value: object) -> None:
        """Takes note of a call or a return; a generator's steps are such as well."""
        path, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if event not in ("call", "return") or not path.startswith(self._rooms):
            return
        # Which walk each function that begins one, or is not entered, stands in.
        stack = self._local.__dict__.setdefault("stack", [])
        bounds = name in self._begin or name in self._apart
        if event == "call":
            outside = not stack or stack[-1] is None
            if not outside or name in self._begin:
                self._write(stack[-1] if not outside else self._begin[name], path)
            if bounds:
                stack.append(self._begin.get(name))
            return
        if stack and stack[-1] is not None:
            self._judge(stack[-1], path, value)
        if bounds and stack:
            stack.pop()

    def _judge(self, walk: str, path: str, value: object) -> None:
        # What looks at values may call functions of ours.
        if (walk, path, "gives") in self._written or hasattr(self._local, "busy"):
            return
        self._local.busy = True
        if self._holds(value, 0):
            self._write(walk, path, "gives")
        del self._local.busy

    def _holds(self, value: Any, depth: int) -> bool:
        """Tells whether a value holds a mark: text, bytes, arrays, a nest of them."""
        if isinstance(value, str):
            value = value.encode(errors="replace")
        if isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
            return any(mark in data for mark in self._marks)
        if depth == _DEEPEST:
            return False
        library = type(value).__module__.partition(".")[0]
        if library == "numpy" and hasattr(value, "tobytes"):
            inner = value.tolist() if value.dtype == object else value.tobytes()
        elif library == "pyarrow" and hasattr(value, "to_pylist"):
            inner = value.to_pylist()
        elif isinstance(value, Mapping):
            inner = list(value.values())
        elif hasattr(value, "__dataclass_fields__"):
            inner = [getattr(value, name, None) for name in value.__dataclass_fields__]
        else:
            inner = value
        if isinstance(inner, bytes):
            return self._holds(inner, depth)
        if not isinstance(inner, list | tuple):
            return False
        return any(self._holds(each, depth + 1) for each in inner)

    def _write(self, walk: str, path: str, way: str = "runs") -> None:
        if (walk, path, way) not in self._written:
            self._written.add((walk, path, way))
            # At once: commands end their processes without a last word.
            with open(self._out, "a", encoding="utf-8") as file:
                file.write(f"{walk}\t{way}\t{path.removeprefix(self._root)}\n")


if __name__ == "sitecustomize":
    with open(os.environ["WALK_TRACE"], encoding="utf-8") as source:
        trace = Trace(json.load(source))
    threading.setprofile(trace)
    sys.setprofile(trace)
