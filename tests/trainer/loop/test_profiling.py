# SPDX-License-Identifier: Apache-2.0
"""The window of steps that is profiled: when it opens and closes."""

from pathlib import Path

import pytest

from preprocessing.foundation import storage
from trainer.loop.profiling import parse_profile


@pytest.fixture
def calls(monkeypatch):
    """What the profiler was told, in order."""
    told = []
    profiler = "tensorflow.profiler.experimental"
    monkeypatch.setattr(f"{profiler}.start", lambda path: told.append(f"start {path}"))
    monkeypatch.setattr(f"{profiler}.stop", lambda: told.append("stop"))
    return told


def go(window, first, last):
    for step in range(first, last):
        window.before(step)
        window.after(step + 1)


@pytest.mark.parametrize("text", ["3:5", "3-5"])
def test_the_steps_named_are_inside_and_inner_loops_end_around_them(calls, text):
    window = parse_profile(text, "run")
    assert window.borders == (2, 5)
    go(window, 0, 2)
    assert calls == []
    window.before(2)
    assert calls == ["start run"]
    window.after(4)
    assert calls == ["start run"]
    go(window, 4, 5)
    assert calls == ["start run", "stop"]


def test_a_window_is_profiled_once_even_if_a_rollback_comes_back_to_it(calls):
    window = parse_profile("3:5", "run")
    go(window, 0, 6)
    go(window, 1, 8)
    window.close()
    assert calls == ["start run", "stop"]


def test_a_run_that_resumes_inside_begins_there_and_one_that_stops_inside_ends(calls):
    window = parse_profile("3:9", "run")
    window.before(6)
    window.after(7)
    window.close()
    assert calls == ["start run", "stop"]


def test_a_run_past_the_window_profiles_nothing(calls):
    window = parse_profile("3:5", "run")
    go(window, 5, 9)
    window.close()
    assert calls == []


def test_a_run_in_a_bucket_has_its_profile_uploaded_and_no_copy_left(calls, bucket):
    window = parse_profile("1:2", f"{bucket}/a")
    window.before(0)
    local = Path(calls[0].removeprefix("start "))
    written = local / "plugins" / "profile" / "now" / "host.xplane.pb"
    written.parent.mkdir(parents=True)
    written.write_bytes(b"trace")
    window.after(2)
    copy = f"{bucket}/a/{written.relative_to(local)}"
    assert storage.read_bytes(copy) == b"trace"
    assert not local.exists()
