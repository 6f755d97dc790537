# SPDX-License-Identifier: Apache-2.0
"""Processes on the GPU and on the CPU of one machine, for this folder's tests.

TensorFlow runs in processes of their own: some see the GPU, the others none. With
QUERN_GPU_TESTS_ON=cpu all of them run on the CPU, a rehearsal that tries the tests and
says nothing of a GPU.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REHEARSED = os.environ.get("QUERN_GPU_TESTS_ON") == "cpu"
TWO = "logical_cpus" if REHEARSED else "logical_gpus"
# What none of them is near, and what hangs does not get past.
_LONGEST_SECONDS = 240.0
_COUNT = """
import tensorflow as tf
print(len(tf.config.list_physical_devices("GPU")), end="")
"""


@dataclass(frozen=True)
class Running:
    """A process that was started, and where it writes its messages."""

    process: subprocess.Popen
    log: Path

    def messages(self) -> str:
        """Returns the end of what it wrote."""
        return self.log.read_text(errors="replace")[-3000:]

    def finish(self) -> str:
        """Waits for its end, which must be a good one; returns its output."""
        try:
            self.process.wait(_LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.returncode == 0, self.messages()
        return self.log.read_text(errors="replace")

    def wait_for(self, path: Path) -> None:
        """Waits until the process has written a file."""
        end = time.monotonic() + _LONGEST_SECONDS
        while not path.exists() and time.monotonic() < end:
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        assert path.exists(), self.messages()

    def kill(self) -> None:
        """Kills it, as `kill -9` does."""
        self.process.kill()
        self.process.wait()


def count_gpus() -> int:
    """Returns the GPUs TensorFlow sees; it is not asked where there is no driver."""
    if REHEARSED:
        return 1
    if not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()):
        return 0
    asked = subprocess.run(
        [sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False
    )
    return int(asked.stdout) if asked.stdout.isdecimal() else 0


def start(
    log: Path, module: str, *arguments: str, gpu: bool = True, **variables: str
) -> Running:
    """Starts `python -m module` on the GPU, or with none in sight.

    Several processes share the card, so none takes its memory whole. Products are in
    float32, where the libraries would take TF32.
    """
    visible = {} if gpu and not REHEARSED else {"CUDA_VISIBLE_DEVICES": "-1"}
    environment = {
        **os.environ,
        "TF_CONFIG": "",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "NVIDIA_TF32_OVERRIDE": "0",
        **visible,
        **variables,
    }
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Running(process, log)
