# SPDX-License-Identifier: Apache-2.0
"""What is compared between runs: their curves, their best numbers, their differences.

A line of metrics has no clock, so the training time of a step follows from the tokens
and the tokens per second of the lines up to it: compilation is in a process's first
line; evaluations and what a killed process did in vain are in none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from trainer.run.config import may_change
from trainer.run.metrics import read_lines
from trainer.run.overrides import flattened
from trainer.run.run_directory import METRICS_NAME, is_run, read_run

# About 1/50 of a curve is averaged into each of its points.
_SMOOTHED_PARTS = 50


@dataclass(frozen=True)
class Curve:
    """A number over the steps of a run.

    Attributes:
        steps: int64 `[points]`, ascending.
        values: float64 `[points]`, all finite.
    """

    steps: np.ndarray
    values: np.ndarray

    @property
    def smoothed(self) -> np.ndarray:
        """The exponential average over the points so far, float64 `[points]`.

        Without the bias towards a first value (Adam's correction, Kingma and Ba 2015,
        arXiv 1412.6980).
        """
        kept = 1.0 - 1.0 / max(1.0, len(self.values) / _SMOOTHED_PARTS)
        total = weight = 0.0
        smooth = np.empty(len(self.values))
        for index, value in enumerate(self.values):
            total, weight = kept * total + value, kept * weight + 1.0
            smooth[index] = total / weight
        return smooth


@dataclass(frozen=True)
class RunCurves:
    """The curves of one run.

    Attributes:
        name: the shortest end of its path that no other run has.
        settings: its configuration and its dataset's hash by key.
        loss: of training, in nats per token.
        validation: the same of the validation split.
        bits: bits per byte of the validation split.
        speed: tokens per second.
        mfu: share of the devices' peak.
        lines: int64 `[lines]`, steps of its lines of training metrics.
        tokens: int64 `[lines]`, tokens trained on up to each.
        seconds: float64 `[lines]`, training time up to each.
    """

    name: str
    settings: Mapping[str, Any]
    loss: Curve
    validation: Curve
    bits: Curve
    speed: Curve
    mfu: Curve
    lines: np.ndarray
    tokens: np.ndarray
    seconds: np.ndarray

    def tokens_at(self, steps: np.ndarray) -> np.ndarray:
        """Returns the tokens trained on up to each step, between lines by rule of 3."""
        return self._between(steps, self.tokens)

    def seconds_at(self, steps: np.ndarray) -> np.ndarray:
        """Returns the training time up to each step, in seconds."""
        return self._between(steps, self.seconds)

    def _between(self, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.interp(steps, [0, *self.lines], [0, *values])


def read_curves(runs: Sequence[str]) -> list[RunCurves]:
    """Reads runs, local or in buckets, in the order given.

    Raises:
        UsageError: one is named twice, is not a run or has no metrics yet.
    """
    for index, run in enumerate(runs):
        if run.rstrip("/") in [other.rstrip("/") for other in runs[:index]]:
            raise UsageError(f"wanted different runs, found {run} twice. Drop one")
    return [_read(run, name) for run, name in zip(runs, short_names(runs), strict=True)]


def short_names(paths: Sequence[str]) -> list[str]:
    """Returns the shortest end of each path, in whole parts, that no other one has."""
    parts = [path.rstrip("/").split("/") for path in paths]
    names = []
    for index, own in enumerate(parts):
        others = parts[:index] + parts[index + 1 :]
        length = 1
        while length < len(own) and any(o[-length:] == own[-length:] for o in others):
            length += 1
        names.append("/".join(own[-length:]))
    return names


def differing(runs: Sequence[RunCurves]) -> dict[str, list[str]]:
    """Returns the settings that are not alike in all runs: a text per run by key.

    Keys that a resume may change decide no number, but for `loop.total_steps`.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    kept = [key for key in keys if key == "loop.total_steps" or not may_change(key)]
    table = {
        key: [strict_json.dumps(run.settings.get(key)).strip('"') for run in runs]
        for key in kept
    }
    return {key: texts for key, texts in table.items() if len(set(texts)) > 1}


def _read(run: str, name: str) -> RunCurves:
    if not is_run(run):
        raise UsageError(
            f"wanted a run's directory at {run}, found no config.json there. Name what "
            "quern-train wrote as --run"
        )
    files = read_run(run)
    lines = read_lines(storage.join(run, METRICS_NAME))
    training = [line for line in lines if "tokens_per_second" in line]
    if not training:
        raise UsageError(
            f"wanted lines of training in {storage.join(run, METRICS_NAME)}, found "
            "none. Wait for the first one (loop.log_every) or leave the run out"
        )
    steps = np.array([line["step"] for line in training], np.int64)
    config = files.config
    rows = [config.data.batch_schedule.rows_before(int(step)) for step in steps]
    tokens = np.array(rows, np.int64) * config.sequence_length
    speeds = np.array([line["tokens_per_second"] for line in training])
    return RunCurves(
        name=name,
        settings={**flattened(config), "dataset": files.dataset_hash[:12]},
        loss=_curve(lines, "loss"),
        validation=_curve(lines, "validation_loss"),
        bits=_curve(lines, "bits_per_byte"),
        speed=_curve(lines, "tokens_per_second"),
        mfu=_curve(lines, "mfu"),
        lines=steps,
        tokens=tokens,
        seconds=np.cumsum(np.diff(tokens, prepend=0) / speeds),
    )


def _curve(lines: Sequence[Mapping[str, Any]], key: str) -> Curve:
    """Returns the lines that know a number; where it was unknown there is no point."""
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    steps = np.array([step for step, _ in points], np.int64)
    return Curve(steps, np.array([value for _, value in points], np.float64))
