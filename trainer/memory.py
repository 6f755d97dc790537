# SPDX-License-Identifier: Apache-2.0
"""How many bytes a run needs on a device, and how many the device has.

Known before anything is allocated, from shapes alone: the model is built in a graph
that is never run. Weights, gradients and optimizer state are on every device in full.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tensorflow as tf

from trainer.functional import WeightPlace, trained_places, weight_places
from trainer.models.language_model import LanguageModel, ModelConfig, PrecisionConfig
from trainer.models.model import build_model
from trainer.models.parameters import num_parameters, scalars
from trainer.optimizers import OptimizerConfig, state_size

_FLOAT32 = 4
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Version 1 writes a number near 2^63 where there is no limit.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Sketch:
    """A model whose weights have shapes and no values.

    Attributes:
        model: answers what costs it has; it cannot be called.
        places: its weights.
    """

    model: LanguageModel
    places: Sequence[WeightPlace]


@dataclass(frozen=True)
class MicroBatch:
    """What goes through a model at once, on one device.

    Attributes:
        rows: rows of it.
        sequence_length: inputs per row.
        loss_chunk: positions whose logits are held at once; None is all.
        accumulates: whether a step sums the gradients of several.
        lanes: slices of it that are computed at once.
    """

    rows: int
    sequence_length: int
    loss_chunk: int | None
    accumulates: bool
    lanes: int = 1


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step needs on each device.

    Attributes:
        weights: in float32.
        gradients: of what is trained, in float32: summed, and once more averaged and
            clipped; where micro-batches accumulate, also those of one, while they are
            added; and those of every lane but one.
        optimizer_state: moments and averages.
        activations: what a micro-batch keeps for its backward pass, and the logits.
    """

    weights: int
    gradients: int
    optimizer_state: int
    activations: int

    @property
    def total(self) -> int:
        """Their sum. TensorFlow itself takes another 0.5 GB of a process."""
        return self.weights + self.gradients + self.optimizer_state + self.activations


def sketch(config: ModelConfig, vocab_size: int, precision: PrecisionConfig) -> Sketch:
    """Builds a model without allocating its weights."""
    with tf.Graph().as_default():
        model = build_model(config, vocab_size, precision, seed=0)
        return Sketch(model, weight_places(model))


def estimate(
    sketched: Sketch,
    precision: PrecisionConfig,
    optimizer: OptimizerConfig,
    batch: MicroBatch,
) -> Memory:
    """Estimates what a training step needs on each device.

    It is a low estimate: of what a process on 2 CPU cores grew by, it was 0.94 with the
    14m preset at 256 tokens a row, 0.80 at 1,024, 0.88 at 4,096 (0.73 in bfloat16, 0.85
    with blocks computed again), and 0.68 with the recurrent one. What it refuses is
    unlikely to fit; what it lets pass may not. GPUs were not measured.

    Args:
        sketched: the model.
        precision: the types it computes in.
        optimizer: how its weights are updated.
        batch: what goes through it at once.
    """
    size, trained = sum(map(scalars, sketched.places)), num_parameters(sketched.model)
    compute = tf.as_dtype(precision.compute).size
    # A matrix product in another type than the weights' reads a copy of them.
    copies = size * compute if compute != _FLOAT32 else 0
    shapes = [
        (place.weight, place.variable.shape.as_list())
        for place in trained_places(sketched.places)
    ]
    return Memory(
        weights=_FLOAT32 * size + copies,
        gradients=(1 + batch.accumulates + batch.lanes) * _FLOAT32 * trained,
        optimizer_state=_FLOAT32 * state_size(optimizer, shapes),
        activations=_activations(sketched.model, batch),
    )


def device_memory() -> int | None:
    """Returns the bytes a process may use on its device, None if that is unknown.

    For GPUs it is the memory of the smallest; for a CPU, which all logical devices
    share, the machine's or what the process's control group is limited to.
    """
    if tf.config.list_physical_devices("GPU"):
        return gpu_memory("total")
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    limit = (
        control_group_limit(_MEMBERSHIP.read_text()) if _MEMBERSHIP.exists() else None
    )
    return min(pages * size, limit) if limit is not None else pages * size


def gpu_memory(which: Literal["total", "free"]) -> int | None:
    """Returns bytes of the smallest of the machine's GPUs, None if unknown."""
    command = [
        "nvidia-smi",
        f"--query-gpu=memory.{which}",
        "--format=csv,noheader,nounits",
    ]
    try:
        printed = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    sizes = [int(line) for line in printed.stdout.split() if line.isdigit()]
    return min(sizes) << 20 if sizes else None


def control_group_limit(membership: str, root: Path = _CGROUPS) -> int | None:
    """Returns the least memory limit of a process's control groups, None without one.

    Args:
        membership: what `/proc/PID/cgroup` says: lines of `number:controllers:path`.
            Inside a container the path may be the host's, and then only the root's
            own limit can be seen.
        root: where control groups are mounted.
    """
    limits = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            limits += _limit(folder / name)
            if folder == top:
                break
    return min(limits, default=None)


def _limit(path: Path) -> list[int]:
    """Returns the limit that a file states, if it is there and states one."""
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() and int(text) < _NO_LIMIT else []


def _activations(model: LanguageModel, batch: MicroBatch) -> int:
    """Returns the bytes of activations."""
    positions = batch.rows * batch.sequence_length
    held = positions if batch.loss_chunk is None else min(positions, batch.loss_chunk)
    # Logits, their softmax and their gradient.
    logits = 3 * _FLOAT32 * held * model.vocab_size
    return model.activation_bytes(batch.rows, batch.sequence_length) + logits
