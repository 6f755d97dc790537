# SPDX-License-Identifier: Apache-2.0
"""Tells a run's numbers to files and to people; the chief's alone."""

import math
from collections.abc import Sequence

from preprocessing.foundation.commands import count_of
from trainer.loop.evaluate_rows import Evaluation
from trainer.loop.progress import ProgressLine
from trainer.loop.samples import Sample, markdown
from trainer.run.interval import Interval
from trainer.run.metrics import (
    EvaluationLine,
    MetricsFiles,
    SourceLine,
    Speed,
    training_line,
)


class Report:
    """Writes each line of metrics to the run's files and shows it."""

    def __init__(
        self, files: MetricsFiles, progress: ProgressLine, speed: Speed
    ) -> None:
        """Takes the files and progress line to write to, and how to compute speed."""
        self._files, self._progress, self._speed = files, progress, speed
        self._odd: dict[str, str] = {}

    @property
    def elapsed_seconds(self) -> float:
        """Time spent on the run up to now, in all invocations."""
        return self._progress.elapsed_seconds

    @property
    def not_finite(self) -> list[str]:
        """What of the last lines is not finite, in words."""
        return list(self._odd.values())

    def note(self, text: str) -> None:
        """Shows a sentence."""
        self._progress.note(text)

    def training(self, interval: Interval) -> None:
        """Tells what happened since the last line."""
        line = training_line(interval, self._speed)
        self._files.append(
            line,
            {
                "guard/skipped_updates": interval.skipped,
                "guard/loss_scale": interval.loss_scale,
            },
        )
        # No loss where all updates were spikes or overflows says nothing of the run.
        loss = 0.0 if line.loss is None and not _others(interval) else line.loss
        self._keep_odd(line.step, "loss", loss)
        self._progress.training(line, interval.seconds)
        if interval.skipped:
            self.note(_skips(interval))

    def evaluation(
        self, step: int, result: Evaluation, samples: Sequence[Sample]
    ) -> None:
        """Tells the result of an evaluation, and what the model wrote after it."""
        sources = {
            name: SourceLine(source.loss, source.bits_per_byte, source.targets)
            for name, source in result.sources.items()
        }
        line = EvaluationLine(step, result.loss, result.bits_per_byte, sources)
        # A line that is there says that the step is evaluated, so it comes first: a
        # process killed in between loses samples and never writes them twice.
        self._files.append(line)
        self._files.append_texts(step, [markdown(sample) for sample in samples])
        self._keep_odd(step, "validation loss", line.validation_loss)
        self._progress.evaluation(line)

    def _keep_odd(self, step: int, name: str, value: float | None) -> None:
        """Keeps what to say of a number at the end; None stands for NaN."""
        self._odd.pop(name, None)
        if value is None or not math.isfinite(value):
            self._odd[name] = f"no finite {name} at step {step:,}"

    def publish(self) -> None:
        """Uploads the files of a run in a bucket."""
        self._files.publish()

    def close(self) -> None:
        """Writes out what is buffered."""
        self._progress.close()
        self._files.close()


def _skips(interval: Interval) -> str:
    """Returns a sentence on the updates skipped since the last line, and why."""
    reasons = [
        (interval.spikes, "a gradient norm far beyond the last ones"),
        (
            interval.overflows,
            f"an overflow of float16 (the loss scale was {interval.loss_scale:,.0f})",
        ),
        (_others(interval), "a loss or gradient that was not finite, or no targets"),
    ]
    told = [f"{count} for {reason}" for count, reason in reasons if count]
    return (
        f"step {interval.step:,}: skipped {count_of(interval.skipped, 'update')} since "
        f"the last line, {', '.join(told)}"
    )


def _others(interval: Interval) -> int:
    """Returns the updates skipped that were neither spikes nor overflows."""
    return interval.skipped - interval.spikes - interval.overflows
