# SPDX-License-Identifier: Apache-2.0
"""A process that does nothing any more is ended, and one that does is not."""

import os
import signal
import subprocess
import sys

import pytest

from trainer.machine.watchdog import HEARTBEAT, Watchdog

_STUCK = """
import time
from trainer.machine.watchdog import Watchdog
with Watchdog(1.5) as watchdog:
    for _ in range(20):
        time.sleep(0.1)
        watchdog.progress("step 7")
    print("alive", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_stuck_process_ends_with_a_line_on_what_it_did_last():
    done = subprocess.run(
        [sys.executable, "-c", _STUCK],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "alive\n"
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: wanted progress within 1.5 s")
    assert "after step 7" in last


_IN_NATIVE_CODE = """
import tensorflow as tf
from trainer.machine.interruption import stop_request
from trainer.machine.watchdog import Watchdog
queue = tf.queue.FIFOQueue(1, tf.int32)
with stop_request(None) as request, Watchdog(600.0, request.sent, 0.5) as watchdog:
    watchdog.progress("step 7")
    print("waiting", flush=True)
    queue.dequeue()
"""


@pytest.mark.slow
def test_a_process_that_waits_in_native_code_still_ends_on_a_signal():
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_NATIVE_CODE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    last = errors.splitlines()[-1]
    assert last.startswith("error: wanted to save and stop on SIGTERM")
    assert "after step 7" in last


@pytest.mark.parametrize("limit", [0.0, 100.0])
def test_progress_renews_the_heartbeat(tmp_path, monkeypatch, limit):
    beat = tmp_path / "beat"
    beat.touch()
    os.utime(beat, (1, 1))
    monkeypatch.setenv(HEARTBEAT, str(beat))
    with Watchdog(limit) as watchdog:
        os.utime(beat, (1, 1))
        watchdog.progress("a step")
        assert beat.stat().st_mtime > 1
        beat.unlink()
        watchdog.progress("another")  # the launcher is gone
