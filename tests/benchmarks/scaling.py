# SPDX-License-Identifier: Apache-2.0
"""Weak scaling: two workers of one core each against one worker of one core.

    python -m tests.benchmarks.scaling [--precision float32] [--rounds 3]

Every worker trains the 13.8 M parameter decoder of `train_step.py` on eight rows of its
of 256 tokens a step, pinned to a core of its own, and all-reduces 55 MB of gradients a
step through TensorFlow's ring on loopback. One worker and two take turns, so that both
meet the same machine; efficiency is the two together over twice the one.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time

from preprocessing.commands import CommandParser
from tests.benchmarks.train_step import SHAPE, random_rows


def main() -> None:
    parser = CommandParser("scaling.py", "Measure weak scaling over two workers.")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help="for its own children")
    flags = parser.parse_args()
    if flags.worker:
        print(json.dumps(work(flags.precision, flags.steps)), flush=True)
        os._exit(0)  # TensorFlow's server threads would keep the process
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("wanted two cores, found one")
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(flags.rounds):
        for count in speeds:
            speeds[count].append(measure(cores[:count], flags.precision, flags.steps))
    one, two = (statistics.median(speeds[count]) for count in (1, 2))
    print(f"{flags.precision}, tokens/s, median of {flags.rounds} rounds")
    print(f"one worker, one core       {one:8.0f}   {rounded(speeds[1])}")
    print(f"two workers, a core each   {two:8.0f}   {rounded(speeds[2])}")
    print(f"efficiency                 {two / (2 * one):8.1%}")


def rounded(speeds: list[float]) -> str:
    return ", ".join(f"{speed:.0f}" for speed in speeds)


def measure(cores: list[int], precision: str, steps: int) -> float:
    """Returns tokens per second of a worker on each of `cores`, all together."""
    ports = [free_port() for _ in cores]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    command = [sys.executable, "-m", "tests.benchmarks.scaling", "--worker"]
    command += ["--precision", precision, "--steps", str(steps)]
    workers = []
    for index, core in enumerate(cores):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": cluster, "task": task})
        workers.append(
            subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                env={**os.environ, "TF_CONFIG": config if len(cores) > 1 else ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    seconds = [json.loads(worker.communicate()[0]) for worker in workers]
    tokens = len(cores) * steps * SHAPE["batch"] * SHAPE["length"]
    return tokens / max(seconds)


def work(precision: str, steps: int) -> float:
    """Returns the seconds of `steps` steps of this worker, after two to warm up."""
    from tests.benchmarks.train_step import build_ours
    from trainer.strategies import make_strategy

    strategy = make_strategy(
        "multi_worker" if os.environ["TF_CONFIG"] else "one_device"
    )
    loop, _ = build_ours(precision, strategy)
    features = random_rows(steps)
    loop(features, 2).loss_sum.numpy()
    began = time.perf_counter()
    loop(features, steps).loss_sum.numpy()
    return time.perf_counter() - began


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


if __name__ == "__main__":
    main()
