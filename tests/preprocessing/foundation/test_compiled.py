# SPDX-License-Identifier: Apache-2.0
"""A loop is compiled once on a machine, however many processes want it at once."""

import json
import os
import subprocess
import sys

import pytest

# Starts when it is told to, and says how many loops it compiled and how many it read.
_WORKER = """
import json, sys
import numpy as np
from preprocessing.foundation import utf8_space
sys.stdin.read()
data = np.frombuffer("a b\u3000 c ".encode(), np.uint8)
ends = [utf8_space.trim_space(data, start, 9) for start in range(3)]
assert ends == [8, 8, 8], ends
loops = [each for each in vars(utf8_space).values() if hasattr(each, "stats")]
count = lambda what: sum(sum(getattr(each.stats, what).values()) for each in loops)
print(json.dumps([count("cache_misses"), count("cache_hits")]))
"""


@pytest.mark.slow
def test_of_processes_that_want_a_loop_at_once_one_compiles_it(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=pipe, stdout=pipe, env=environment
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.stdin.close()
    counted = [json.loads(worker.stdout.read()) for worker in workers]
    for worker in workers:
        assert worker.wait() == 0
        worker.stdout.close()
    # The loop and the one that it calls; who reads the first has no need of the second.
    assert sorted(counted) == [[0, 1], [0, 1], [2, 0]], (
        "workers that start together compile the same loops side by side: numba no "
        "longer compiles through `Dispatcher.compile`: see its module, compiled.py"
    )
