# SPDX-License-Identifier: Apache-2.0
"""What a killed process left on its way goes with the next, and nothing else does."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from preprocessing.claims.scratch import scratch_directory

KILLED = """
import os, signal, sys
from preprocessing.claims.scratch import scratch_directory
with scratch_directory() as directory:
    open(os.path.join(directory, "half"), "w").close()
    if sys.argv[1:]:
        os.kill(os.getpid(), signal.SIGKILL)
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is TMPDIR, here and in processes started here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_two_in_one_process_are_two_and_both_go(place: Path) -> None:
    with scratch_directory() as one, scratch_directory() as other:
        assert one != other
        assert [os.listdir(each) for each in (one, other)] == [[], []]
        assert {Path(one).parent, Path(other).parent} == {place}
    assert not os.listdir(place)


@pytest.mark.slow
def test_what_the_killed_left_goes_and_what_the_living_have_stays(place: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    ended = subprocess.run([*command, "killed"], check=False)
    assert ended.returncode == -9
    [left] = os.listdir(place)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    living = subprocess.Popen(command, text=True, **pipes)
    assert living.stdin is not None and living.stdout is not None
    theirs = living.stdout.readline().strip()
    assert not (place / left).exists()
    _, number, start, machine, _ = left.split("-", 4)
    others = [
        f"quern-{number}-{start}-{'0' * 16}-x",  # another machine's
        f"quern-{number}-{machine}",
    ]
    for name in others:
        (place / name).mkdir()
    with scratch_directory():
        assert Path(theirs, "half").exists()
    living.communicate()
    assert living.returncode == 0
    assert sorted(os.listdir(place)) == sorted(others)
