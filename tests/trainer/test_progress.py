# SPDX-License-Identifier: Apache-2.0
"""The progress of training, on a terminal and elsewhere."""

import io

from trainer.metrics import EvaluationLine, TrainingLine
from trainer.progress import ProgressLine


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def line(step, mfu=0.46):
    return TrainingLine(step, 1.73125, 1e-3, 0.5, 8410.4, mfu, 0.011)


def test_elsewhere_each_line_stays():
    out = io.StringIO()
    progress = ProgressLine(0, 4000, 0.0, out)
    progress.evaluation(EvaluationLine(1000, 1.5, 2.3114))
    progress.training(line(1200), 10.0)
    progress.close()
    first, second = out.getvalue().splitlines()
    assert first == "step 1,000: validation loss 1.5000, 2.3114 bits per byte"
    assert second.startswith(
        "step 1,200/4,000  loss 1.7312  2.311 bits/byte  8,410 tokens/s  mfu 46%  "
        "wait 1%  "
    )
    assert second.endswith(" left")


def test_an_unknown_peak_is_said_to_be_unknown():
    out = io.StringIO()
    ProgressLine(0, 4000, 0.0, out).training(line(10, mfu=None), 1.0)
    assert "mfu unknown" in out.getvalue()


def test_a_terminals_line_renews_itself_and_is_ended_before_anything_else():
    out = Terminal()
    progress = ProgressLine(0, 4000, 0.0, out)
    progress.training(line(10), 1.0)
    progress.training(line(20), 1.0)
    assert out.getvalue().count("\n") == 0
    assert out.getvalue().count("\r") == 2
    progress.close()
    progress.close()
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().endswith("left\n")
