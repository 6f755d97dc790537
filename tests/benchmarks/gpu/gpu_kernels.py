# SPDX-License-Identifier: Apache-2.0
"""The kernels of a GPU by the time they took, out of a profile of TensorFlow's.

Reads the protocol buffer that the profiler writes (`*.xplane.pb`) and nothing else: no
TensorBoard and none of its plugins. Of a GPU's plane the lines named "Stream #…" are
what its streams did; other lines say the same again by operation or by step.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

_STREAM = "Stream #"
_COPY = re.compile(r"Mem(cpy|set)", re.IGNORECASE)
_NUMBER = re.compile(r"([._]\d+)+$")
_PICO = 1e-12
_SHOWN = 5


@dataclass(frozen=True)
class Kernel:
    """All launches of a kernel, or of kernels alike.

    Attributes:
        name: as the profile calls it.
        launches: how often it ran.
        seconds: of all launches together.
    """

    name: str
    launches: int
    seconds: float


@dataclass(frozen=True)
class GpuTime:
    """What a GPU did.

    Attributes:
        kernels: the longest first; no copies.
        kernel_seconds: of all kernels together.
        busy_seconds: in which a kernel or a copy ran; streams that run at the same
            time count once.
    """

    kernels: tuple[Kernel, ...]
    kernel_seconds: float
    busy_seconds: float


def read_profile(directory: str | Path) -> Any:
    """Returns the newest profile below `directory`, an `XSpace`.

    Raises:
        FileNotFoundError: there is none.
    """
    files = Path(directory).rglob("*.xplane.pb")
    newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise FileNotFoundError(f"wanted a profile in {directory}, found none")
    return xplane_pb2.XSpace.FromString(newest.read_bytes())


def gpu_time(space: Any, device: str = "GPU:0") -> GpuTime:
    """Returns what one GPU did during a profile.

    Args:
        space: an `XSpace`.
        device: how the name of its plane ends.
    """
    seconds: dict[str, float] = defaultdict(float)
    launches: dict[str, int] = defaultdict(int)
    spans = []
    for name, start, end in _stream_events(space, device):
        spans.append((start, end))
        if not _COPY.match(name):
            seconds[name] += (end - start) * _PICO
            launches[name] += 1
    kernels = [Kernel(name, launches[name], seconds[name]) for name in seconds]
    return GpuTime(
        _longest_first(kernels), sum(seconds.values()), _covered(spans) * _PICO
    )


def families(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    """Joins kernels whose names differ in the numbers at their end, as XLA's do."""
    joined: dict[str, Kernel] = {}
    for kernel in kernels:
        name = _NUMBER.sub("", kernel.name)
        seen = joined.get(name, Kernel(name, 0, 0.0))
        joined[name] = Kernel(
            name,
            seen.launches + kernel.launches,
            seen.seconds + kernel.seconds,
        )
    return _longest_first(joined.values())


def _longest_first(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    return tuple(sorted(kernels, key=lambda kernel: (-kernel.seconds, kernel.name)))


def _stream_events(space: Any, device: str) -> Iterator[tuple[str, int, int]]:
    """Yields (name, start, end) of what streams did, in picoseconds."""
    for plane in space.planes:
        if not plane.name.endswith(device):
            continue
        for line in plane.lines:
            if not line.name.startswith(_STREAM):
                continue
            for event in line.events:
                start = line.timestamp_ns * 1000 + event.offset_ps
                name = plane.event_metadata[event.metadata_id].name
                yield name, start, start + event.duration_ps


def _covered(spans: Iterable[tuple[int, int]]) -> float:
    """Returns how much of a line spans cover, where they overlap once."""
    covered, until = 0.0, -float("inf")
    for start, end in sorted(spans):
        covered += max(0, end - max(start, until))
        until = max(until, end)
    return covered


def print_profile(call: Callable[[], object], directory: Path) -> None:
    """Profiles a call, which waits for its work, and prints the longest kernels.

    All of them are then in `kernels.tsv` in the directory, beside the profile.
    """
    with tf.profiler.experimental.Profile(str(directory)):
        began = time.perf_counter()
        call()
        wall = time.perf_counter() - began
    space = read_profile(directory)
    found = gpu_time(space)
    lines = [f"{k.seconds:.9f}\t{k.launches}\t{k.name}\n" for k in found.kernels]
    table = "seconds\tlaunches\tname\n" + "".join(lines)
    (directory / "kernels.tsv").write_text(table)
    if not found.kernels:
        planes = [f"{p.name} ({len(p.lines)} lines)" for p in space.planes]
        print(f"no kernels in the profile, which holds {', '.join(planes)}")
        return
    print(
        f"one call under the profiler: {1000 * wall:.1f} ms, GPU busy "
        f"{found.busy_seconds / wall:.1%}, in kernels {found.kernel_seconds / wall:.1%}"
    )
    print_kernels("longest kernels", found.kernels, wall)
    print_kernels("longest kinds of kernels", families(found.kernels), wall)


def print_kernels(title: str, kernels: Sequence[Kernel], wall: float) -> None:
    """Prints the first kernels, with their share of a call of `wall` seconds."""
    print(f"{title}, share of the call, ms, launches:")
    for kernel in kernels[:_SHOWN]:
        print(
            f"  {kernel.seconds / wall:6.1%}{1000 * kernel.seconds:10.2f}"
            f"{kernel.launches:7,}  {kernel.name[:100]}"
        )
