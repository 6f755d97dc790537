# SPDX-License-Identifier: Apache-2.0
"""Tells a run's numbers to files and to people; the chief's alone."""

from trainer.evaluation import Evaluation
from trainer.loop import Interval
from trainer.metrics import (
    EvaluationLine,
    MetricsFiles,
    SourceLine,
    Speed,
    training_line,
)
from trainer.progress import ProgressLine


class Report:
    """Writes each line of metrics to the run's files and shows it."""

    def __init__(
        self, files: MetricsFiles, progress: ProgressLine, speed: Speed
    ) -> None:
        """Takes what it writes to, and how speed is reckoned."""
        self._files, self._progress, self._speed = files, progress, speed

    def note(self, text: str) -> None:
        """Shows a sentence."""
        self._progress.note(text)

    def training(self, interval: Interval) -> None:
        """Tells what happened since the last line."""
        line = training_line(interval, self._speed)
        self._files.append(line)
        self._progress.training(line)
        if interval.skipped:
            self.note(
                f"step {interval.step:,}: {interval.skipped} updates skipped since the "
                "last line, their loss or gradient was not finite"
            )

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Tells the result of an evaluation."""
        sources = {
            name: SourceLine(source.loss, source.bits_per_byte, source.targets)
            for name, source in result.sources.items()
        }
        line = EvaluationLine(step, result.loss, result.bits_per_byte, sources)
        self._files.append(line)
        self._progress.evaluation(line)

    def publish(self) -> None:
        """Uploads the files of a run in a bucket."""
        self._files.publish()

    def close(self) -> None:
        """Writes out what is buffered."""
        self._progress.close()
        self._files.close()
