# SPDX-License-Identifier: Apache-2.0
"""The train step on a GPU beside compiled PyTorch: tokens per second, memory, MFU.

    python -m tests.benchmarks.train_step_gpu [--peer_python PYTHON] [--profile DIR]

The presets 14m, 125m and 350m at a length of 2,048 in bfloat16, one GPU, random ids.
Ours is the loop that `quern-train` runs, by the preset's configuration and `--set`;
PyTorch's is the same decoder under `torch.compile` with fused attention, bfloat16
autocast and fused AdamW, plain causal whatever `--documents` says. Both sides take
turns (`turns.py`), compilation counts on neither, and both are counted by one formula
(`utilisation.py`). Each size is a process of its own, so that one which fails, or takes
too long, leaves the others their memory and their time.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from preprocessing.foundation.commands import CommandParser, run
from tests.benchmarks.turns import LEAST_TURNS

PRESETS = ("14m", "125m", "350m")
VOCABULARY = {"14m": 8192, "tiny": 512}
ROWS = {"350m": 8, "tiny": 4}
# Beyond --time_limit, for the turn or the profile that is under way.
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Size:
    """What one child measures.

    Attributes:
        preset: the model, by its name.
        vocabulary: number of ids.
        rows: of a batch.
        length: positions of a row.
        documents: of a row, of equal length.
        steps: of a turn, all in one call.
        turns: at least.
        seconds: after which no further turn begins.
        pairs: `--set` of ours.
        device: "gpu" or "cpu".
        peer_python: PyTorch's interpreter; "" is none.
        peer_attention: "flash" or "cudnn".
        apart: whether ours compiles only when PyTorch is done with it.
        profile: directory; None profiles nothing.
    """

    preset: str
    vocabulary: int
    rows: int
    length: int
    documents: int
    steps: int
    turns: int
    seconds: float
    pairs: tuple[str, ...]
    device: str
    peer_python: str
    peer_attention: str
    apart: bool
    profile: str | None

    @property
    def name(self) -> str:
        """How lines call it."""
        return f"{self.preset}, {self.rows} rows of {self.length:,}"


def main(arguments: Sequence[str]) -> None:
    """Measures every size and batch, each in a child.

    Raises:
        UsageError: a flag is refused.
        SystemExit: with status 2, a child refused what it was asked for; with 1, one
            failed, and the others were measured.
    """
    # Children outlive a process that a signal ends at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    measured = [measure(size) for size in sizes(arguments)]
    if not all(measured):
        raise SystemExit(1)


def sizes(arguments: Sequence[str]) -> list[Size]:
    """Reads the flags; the smallest size is measured first."""
    parser = CommandParser("train_step_gpu.py", "Measure the train step on a GPU.")
    add = parser.add_argument
    add("--preset", nargs="+", default=None, help="tiny, 14m, 125m, 350m, …")
    add("--batch", "--batches", nargs="+", type=int, help="rows; several in turn")
    add("--length", type=int, help="positions of a row (default: 2048; cpu: 128)")
    add("--documents", type=int, default=1, help="of a row")
    add("--steps", type=int, default=10, help="of a turn, in one call")
    add("--turns", type=int, default=LEAST_TURNS, help="at least")
    add("--time_limit", type=float, default=110.0, help="seconds a size may take")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes ours")
    add("--device", choices=("gpu", "cpu"), default="gpu", help="cpu only tries it")
    add("--peer_python", default=sys.executable, help="with PyTorch; '' for none")
    add("--peer_attention", choices=("flash", "cudnn"), default="flash")
    add("--apart", action="store_true", help="do not compile both sides at once")
    add("--profile", metavar="DIR", help="profile one more call of ours")
    flags = parser.parse_args(arguments)
    tried = flags.device == "cpu"
    return [
        Size(
            preset=preset,
            vocabulary=VOCABULARY.get(preset, 32_000),
            rows=rows,
            length=flags.length or (128 if tried else 2048),
            documents=flags.documents,
            steps=flags.steps,
            turns=flags.turns,
            seconds=flags.time_limit,
            pairs=tuple(flags.set),
            device=flags.device,
            peer_python=flags.peer_python,
            peer_attention=flags.peer_attention,
            apart=flags.apart,
            profile=flags.profile,
        )
        for preset in flags.preset or (["tiny"] if tried else PRESETS)
        for rows in flags.batch or [ROWS.get(preset, 16)]
    ]


def measure(size: Size) -> bool:
    """Has a child measure one size; tells whether it did, and says so where not.

    Raises:
        SystemExit: the child refused what it was asked for, and said why.
    """
    module = "tests.benchmarks.gpu.train_step_gpu_size"
    until = time.monotonic() + size.seconds
    command = [sys.executable, "-m", module, json.dumps(asdict(size)), str(until)]
    # Errors reach this process as exceptions; libraries that are missing are told by
    # `quern-doctor`.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    # In a group of its own, to which its peer belongs as well.
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        status = child.wait(size.seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{size.name}: ended, it took too long", flush=True)
        return False
    finally:
        end_group(child)
    if status == 2:
        raise SystemExit(status)
    if status:
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        print(f"{size.name}: failed, its process ended with {how}", flush=True)
    return status == 0


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ends a child and what it started; nothing where they have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    run(main)
