# SPDX-License-Identifier: Apache-2.0
"""The flags that say how a process's devices are cut and how they talk.

Apart from `trainer.distribution.devices`, so that reading flags does not load
TensorFlow.
"""

import argparse
from dataclasses import dataclass

from preprocessing.foundation.commands import CommandParser, UsageError, suggest

COLLECTIVES = ("auto", "ring", "nccl")


@dataclass(frozen=True)
class DeviceOptions:
    """How a process's devices are cut into logical ones, and how workers talk.

    Attributes:
        logical_cpus: devices that the CPU is split into, where there is no GPU.
        logical_gpus: devices that each GPU is cut into. They share its arithmetic, so
            that more of them try a strategy out and gain no speed.
        collectives: how workers sum over each other: "ring" is TensorFlow's own, over
            gRPC, "nccl" NVIDIA's library, which refuses two ranks on one GPU, and
            "auto" is nccl on GPUs that are not cut and ring on all else.
    """

    logical_cpus: int = 1
    logical_gpus: int = 1
    collectives: str = "auto"

    def __post_init__(self) -> None:
        for name in ("logical_cpus", "logical_gpus"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"wanted --{name} of 1 or more, found {getattr(self, name)}. "
                    "Raise it"
                )
        if self.collectives not in COLLECTIVES:
            raise UsageError(
                f"wanted --collectives to be one of {', '.join(COLLECTIVES)}, found "
                f"{self.collectives!r}.{suggest(self.collectives, COLLECTIVES)} "
                "Choose one"
            )

    def check(self, gpus: int) -> None:
        """Checks that the devices at hand can be cut and can talk that way.

        Args:
            gpus: physical ones that this process sees.

        Raises:
            UsageError: they cannot.
        """
        if self.logical_gpus > 1 and not gpus:
            raise UsageError(
                f"wanted a GPU to cut for --logical_gpus {self.logical_gpus}, found "
                "none. Use --logical_cpus, or ask quern-doctor why"
            )
        if self.collectives == "nccl" and (not gpus or self.logical_gpus > 1):
            found = "logical GPUs, which share one" if gpus else "no GPU"
            raise UsageError(
                f"wanted a GPU for each replica for --collectives nccl, found {found}. "
                "Leave it at auto"
            )

    def local_replicas(self, gpus: int) -> int:
        """Returns the devices a process's mirrored replicas take: `gpus` physical."""
        return gpus * self.logical_gpus or self.logical_cpus

    def sharing(self, gpus: int) -> int:
        """Returns how many replicas share the memory of one physical device."""
        return self.logical_gpus if gpus else self.logical_cpus

    def uses_nccl(self, gpus: int) -> bool:
        """Returns whether workers sum over each other with NCCL."""
        whole = gpus > 0 and self.logical_gpus == 1
        return whole if self.collectives == "auto" else self.collectives == "nccl"


def add_device_flags(parser: CommandParser) -> None:
    """Gives a command the flags that `device_options` reads."""
    add = parser.add_argument
    add(
        "--logical_cpus",
        type=int,
        default=1,
        help="devices to split the CPU into, for strategies without GPUs",
    )
    add(
        "--logical_gpus",
        type=int,
        default=1,
        help="devices to cut each GPU into, to try mirrored out on one",
    )
    add(
        "--collectives",
        default="auto",
        help="how workers sum gradients: auto, ring, nccl (auto is nccl on whole GPUs; "
        "workers that share a GPU need ring)",
    )


def device_options(flags: argparse.Namespace) -> DeviceOptions:
    """Returns what the flags of `add_device_flags` say.

    Raises:
        UsageError: a number is below 1, or a name unknown.
    """
    return DeviceOptions(flags.logical_cpus, flags.logical_gpus, flags.collectives)
