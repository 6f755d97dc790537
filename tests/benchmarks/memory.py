# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a training step at growing lengths, attention in full and in chunks.

    python -m tests.benchmarks.memory [--longest 8192]

One row a step through the 13.8 M parameter decoder of `train_step.py`, float32, each
case in a process of its own: how far its resident memory rises above what it is before
the first step, with weights and moments there already.
"""

import json
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np

from preprocessing.foundation.commands import CommandParser

CASES = {
    "full": {"attention": "full"},
    "chunked": {"attention": "chunked"},
    "chunked, remat": {"attention": "chunked", "remat": "full"},
}
# In full, 8,192 would need more than 24 GB.
LONGEST_IN_FULL = 4096


def main() -> None:
    parser = CommandParser("memory.py", "Measure the memory of a step by length.")
    parser.add_argument("--longest", type=int, default=8192)
    parser.add_argument("--case", nargs=2, help="for its own children")
    flags = parser.parse_args()
    if flags.case:
        print(json.dumps(rise(flags.case[0], int(flags.case[1]))), flush=True)
        return
    lengths = [n for n in (1024, 2048, 4096, 8192) if n <= flags.longest]
    print("MiB above the start" + "".join(f"{n:>9,}" for n in lengths))
    for case in CASES:
        cells = [measured(case, length) for length in lengths]
        print(f"{case:19}" + "".join(f"{cell:>9}" for cell in cells), flush=True)


def measured(case: str, length: int) -> str:
    """Returns MiB of one case, measured in a child."""
    if case == "full" and length > LONGEST_IN_FULL:
        return "-"
    command = [sys.executable, "-m", "tests.benchmarks.memory"]
    done = subprocess.run(
        [*command, "--case", case, str(length)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return f"{json.loads(done.stdout) / (1 << 20):,.0f}"


def rise(case: str, length: int) -> int:
    """Returns the bytes that two steps raise this process's peak by."""
    from tests.benchmarks.train_step import SHAPE, build_ours, model_config
    from trainer.distribution.strategies import make_strategy

    config = replace(model_config(), **CASES[case])
    loop, _ = build_ours("float32", make_strategy("one_device"), config, batch=1)
    tokens = np.random.default_rng(0).integers(
        0, SHAPE["vocab_size"], (2, 1, length + 1), np.int32
    )
    features = {"tokens": tokens, "segment_lengths": np.full([2, 1, 1], length + 1)}
    before = resident()
    loop(features, 2).loss_sum.numpy()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
