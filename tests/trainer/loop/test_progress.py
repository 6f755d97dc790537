# SPDX-License-Identifier: Apache-2.0
"""The progress of training, on a terminal and elsewhere."""

import io

from trainer.loop.progress import ProgressLine
from trainer.run.metrics import EvaluationLine, TrainingLine


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


def times_left(progress_at, steps_and_times):
    """Returns what is shown as left when lines come at given times of a clock."""
    now = 0.0
    out = io.StringIO()
    step, elapsed = progress_at
    progress = ProgressLine(step, 1000, elapsed, out, lambda: now)
    for at, now in steps_and_times:  # noqa: B007  the clock reads it
        progress.training(line(at), 1.0)
    return [text.split("  ")[-1] for text in out.getvalue().splitlines()]


def test_the_time_left_is_at_the_runs_own_pace_until_there_are_two_lines():
    # 410 steps took 410 s, of which 4 compiled; then 0.5 s a step.
    found = times_left((400, 396.0), [(410, 14.0), (420, 19.0)])
    assert found == ["10 min left", "5 min left"]


def test_a_resume_on_faster_hardware_soon_shows_the_new_pace():
    lines = [(500 + 10 * i, 1.0 * i) for i in range(1, 31)]
    found = times_left((500, 5000.0), lines)
    assert found[0] == "80 min left"
    assert found[-1] == "20 s left"


def test_the_runs_clock_goes_on_where_the_last_process_saved_it():
    times = iter([70.0, 72.5])
    progress = ProgressLine(5, 10, 30.0, io.StringIO(), lambda: next(times))
    assert progress.elapsed_seconds == 32.5


def test_a_line_says_what_a_step_takes_where_100_columns_hold_it():
    out = io.StringIO()
    progress = ProgressLine(1180, 4000, 0.0, out)
    progress.training(line(1200), 10.0)
    progress.evaluation(EvaluationLine(1200, 1.5, 2.3114))
    progress.training(line(1220), 10.0)
    first, _, second = out.getvalue().splitlines()
    assert "  500 ms/step  " in first
    assert max(len(first), len(second)) <= 100
