# SPDX-License-Identifier: Apache-2.0
"""Progress is told in lines where nobody watches, and as a bar where somebody does."""

import io
import time

import pytest

from pipelines.beam.progress import Progress, watch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_last_state_is_told_even_of_a_job_too_quick_to_be_polled() -> None:
    out = io.StringIO()
    with watch(lambda: Progress("packing", 2_000_000, 2_000_000), stream=out):
        pass
    assert out.getvalue() == "packing: 2.0 MB of 2.0 MB (100%)\n"


def test_lines_name_the_stage_the_share_and_the_time_left() -> None:
    states = iter([Progress("a", 0, 100, 7), Progress("a", 50, 100, 9000)])
    seen = [Progress("b", 1, 0)]
    out = io.StringIO()
    poll = lambda: next(states, seen[0])  # noqa: E731
    with watch(poll, "prompts", out, 0.01, 0.0, besides="tokens"):
        while len(out.getvalue().splitlines()) < 3:
            time.sleep(0.01)
    lines = out.getvalue().splitlines()
    assert lines[0] == "a: 0 prompts of 100 prompts (0%)"
    assert lines[1].startswith("a: 50 prompts of 100 prompts (50%), ")
    assert lines[1].endswith(" s left") and " tokens/s, " in lines[1]
    assert lines[2:] == ["b: 1 prompts"]


def test_a_terminal_gets_a_bar_for_each_stage() -> None:
    out = Terminal()
    with watch(lambda: Progress("tokenizing", 5, 10), stream=out):
        pass
    assert "tokenizing:  50%" in out.getvalue()


def test_a_bar_tells_the_speed_of_what_is_made_besides() -> None:
    states = iter([Progress("a", 0, 10, 0), Progress("a", 5, 10, 10**6)])
    last, out = Progress("a", 10, 10, 10**6), Terminal()
    with watch(lambda: next(states, last), "p", out, 0.01, besides="tokens"):
        while " tokens/s]" not in out.getvalue():
            time.sleep(0.01)


def test_a_failing_job_leaves_no_thread_behind() -> None:
    import threading

    before = threading.active_count()
    with pytest.raises(KeyError), watch(lambda: Progress("x", 0, 1), stream=Terminal()):
        raise KeyError
    assert threading.active_count() == before
