# SPDX-License-Identifier: Apache-2.0
"""Runs of `quern-train` for this folder's tests: started, and read when over."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.gpu.machine import Running, start
from tests.trainer.small_runs import small_run

STEPS = 60
# A small rate: what rounds otherwise stays near, where a large one lets it grow.
_OFTEN = (
    f"loop.total_steps={STEPS}",
    "loop.log_every=2",
    "loop.steps_per_loop=2",
    "loop.save_every=10",
    "loop.keep_last=9",
    "optimizer.peak_learning_rate=1e-3",
)
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


@dataclass(frozen=True)
class ExactRun:
    """A run's directory, and how its processes compute."""

    directory: Path
    dataset: Path
    deterministic: bool = False

    def start(
        self, *pairs: str, gpu: bool = True, flags: Sequence[str] = ()
    ) -> Running:
        """Starts it, or goes on with it.

        Args:
            pairs: keys of the configuration.
            gpu: whether the process sees the GPU.
            flags: more of `quern-train`.
        """
        kind = "deterministic" if self.deterministic else "free"
        variables = {}
        if self.deterministic:
            given = os.environ.get("XLA_FLAGS", "")
            variables["XLA_FLAGS"] = f"{given} {_DETERMINISTIC}".strip()
        return start(
            self.directory.with_suffix(".log"),
            "tests.gpu.exact_run",
            *(kind, *small_run(self.dataset, self.directory, *_OFTEN, *pairs), *flags),
            gpu=gpu,
            **variables,
        )

    def saved(self, step: int) -> Path:
        """Returns the file that is there once the checkpoint of a step is whole."""
        from trainer.run.checkpoint_files import STATE_NAME, step_directory

        return Path(step_directory(str(self.directory), step)) / STATE_NAME

    def losses(self) -> np.ndarray:
        """Returns the losses of its lines of metrics."""
        from trainer.run.metrics import read_lines

        lines = read_lines(str(self.directory / "metrics.jsonl"))
        return np.array([line["loss"] for line in lines if "loss" in line])

    def weights(self) -> dict[str, np.ndarray]:
        """Returns every stored value of the last checkpoint, optimizer included."""
        import tensorflow as tf

        from trainer.run.checkpoint_files import step_directory

        directory = step_directory(str(self.directory), STEPS)
        reader = tf.train.load_checkpoint(os.path.join(directory, "weights"))
        names = [name for name in reader.get_variable_to_shape_map() if "/." in name]
        return {name: reader.get_tensor(name) for name in names}
