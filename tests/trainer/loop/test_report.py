# SPDX-License-Identifier: Apache-2.0
"""What a run tells people, as sentences."""

import io
import math

import pytest

from trainer.loop.evaluate_rows import Evaluation
from trainer.loop.progress import ProgressLine
from trainer.loop.report import Report
from trainer.run.interval import Interval
from trainer.run.metrics import MetricsFiles, Speed


@pytest.fixture
def told(tmp_path) -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def report(tmp_path, told) -> Report:
    progress = ProgressLine(0, 100, 0.0, told)
    return Report(MetricsFiles(str(tmp_path), 0), progress, Speed(64, 1e6, None))


@pytest.mark.parametrize(
    ("skipped", "words"),
    [(1, "skipped 1 update since"), (2, "skipped 2 updates since")],
)
def test_skipped_updates_are_told_in_grammar(report, told, skipped, words):
    interval = Interval(10, 3.0, 1.0, 0.5, seconds=1.0, skipped=skipped, spikes=skipped)
    report.training(interval)
    assert words in told.getvalue()


def test_only_what_the_last_lines_hold_makes_a_run_not_finite(report):
    report.training(Interval(10, seconds=1.0, skipped=3, spikes=3))
    assert report.not_finite == []
    report.training(Interval(20, seconds=1.0, skipped=3))
    report.evaluation(20, Evaluation(math.nan, 10, 10), [])
    assert report.not_finite == [
        "no finite loss at step 20",
        "no finite validation loss at step 20",
    ]
    report.training(Interval(30, 3.0, 1.0, seconds=1.0))
    report.evaluation(30, Evaluation(3.0, 10, 10), [])
    assert report.not_finite == []
