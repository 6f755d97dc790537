# SPDX-License-Identifier: Apache-2.0
"""Weak scaling: two workers of one core each against one worker of one core.

    python -m tests.benchmarks.scaling [--precision float32] [--turns 9]

Every worker trains the 13.8 M parameter decoder of `train_step.py` on eight rows of
256 tokens a step, pinned to a core of its own, and all-reduces 55 MB of gradients a
step through TensorFlow's ring on loopback. One worker and two take turns, so that both
meet the same machine (`turns.py`); efficiency is the two together over twice the one.
"""

import json
import os
import subprocess
import sys
import time

from preprocessing.foundation.commands import CommandParser
from tests.benchmarks.train_step import SHAPE, random_rows
from tests.benchmarks.turns import LEAST_TURNS, in_turns, spread
from trainer.distribution.local_ports import lend_ports


def main() -> None:
    parser = CommandParser("scaling.py", "Measure weak scaling over two workers.")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least")
    parser.add_argument("--worker", action="store_true", help="for its own children")
    flags = parser.parse_args()
    if flags.worker:
        print(json.dumps(work(flags.precision, flags.steps)), flush=True)
        os._exit(0)  # TensorFlow's server threads would keep the process
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("wanted two cores, found one")

    def speed(count: int) -> float:
        return measure(cores[:count], flags.precision, flags.steps)

    found = in_turns(lambda: speed(2), lambda: 2 * speed(1), flags.turns)
    one = [both / 2 for both in found.theirs]
    print(f"{flags.precision}, tokens/s")
    print(f"one worker, one core       {spread(one)}")
    print(f"two workers, a core each   {spread(found.ours)}")
    print(f"two workers / twice one worker: {found}")


def measure(cores: list[int], precision: str, steps: int) -> float:
    """Returns tokens per second of a worker on each of `cores`, all together."""
    ports = lend_ports(len(cores))
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
    from trainer.distribution.strategies import make_strategy

    strategy = make_strategy(
        "multi_worker" if os.environ["TF_CONFIG"] else "one_device"
    )
    loop, _ = build_ours(precision, strategy)
    features = random_rows(steps)
    loop(features, 2).loss_sum.numpy()
    began = time.perf_counter()
    loop(features, steps).loss_sum.numpy()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
