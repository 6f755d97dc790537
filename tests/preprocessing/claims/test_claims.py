# SPDX-License-Identifier: Apache-2.0
"""One process at a time holds a claim, whoever dies, stands still or comes at once."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.claims.claims import (
    CLAIM_NAME,
    Claim,
    ClaimTimes,
    Held,
    check_claim,
    claimed,
)
from preprocessing.foundation.commands import UsageError, WorkError

QUICK = ClaimTimes(renewal=0.02, gone=0.3, look=0.01)
NEVER_RENEWED = ClaimTimes(renewal=3600.0, gone=0.2, look=0.01)
ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from preprocessing.claims.claims import Claim
claim = Claim(sys.argv[1], "it")
claim.acquire()
print("held", flush=True)
time.sleep(600)
"""
PUBLISHER = """
import socket, sys
socket.gethostname = lambda: "elsewhere"
from preprocessing.claims.claims import Claim, ClaimTimes
claim = Claim(sys.argv[1], "it", ClaimTimes(renewal=0.05))
claim.acquire()
print("held", flush=True)
sys.stdin.readline()
claim.check()
open(sys.argv[2], "x").close()
"""
# Many of these begin at once, and each writes its name where no two may be.
CONTENDER = """
import os, sys, time
from preprocessing.claims.claims import Claim, ClaimTimes, Held
path, inside, turns = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.stdin.read()
won = 0
for turn in range(turns):
    claim = Claim(path, "it", ClaimTimes(look=0.001))
    try:
        claim.acquire()
    except Held:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    time.sleep(0.001)
    os.unlink(inside)
    won += 1
    if turn % 3 == 2 or turn == turns - 1:
        claim.check()
        os.kill(os.getpid(), 9) if turn == turns - 1 else claim.release()
    else:
        claim.release()
print(won)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def hold(path: Path) -> subprocess.Popen[str]:
    holder = start(HOLDER, str(path))
    assert holder.stdout.readline() == "held\n", holder.stderr.read()
    return holder


def rewrite(path: Path, **fields: object) -> None:
    """Makes a claim another's: as another host, boot or process would have written."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def left(path: Path, **fields: object) -> None:
    """Leaves a claim that nobody renews."""
    claim = Claim(str(path), "it", NEVER_RENEWED)
    claim.acquire()
    data = path.read_text()
    claim.release()
    path.write_text(data)
    rewrite(path, token="ab" * 16, **fields)


def test_a_claim_names_its_process_and_goes_when_the_work_is_done(tmp_path):
    output = tmp_path / "new"
    with claimed(str(output), "it") as claim:
        said = json.loads((output / CLAIM_NAME).read_text())
        assert said["process"] == os.getpid() and said["token"] == claim.token
        stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        assert said["start"] == int(stat[19])
        assert os.listdir(output) == [CLAIM_NAME]
        (output / "made").touch()
    assert os.listdir(output) == ["made"]


def test_where_nothing_was_made_no_directory_stays(tmp_path):
    with contextlib.suppress(RuntimeError), claimed(str(tmp_path / "a"), "it"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_living_holder_is_named_and_a_killed_one_taken_over_at_once(tmp_path):
    path = tmp_path / CLAIM_NAME
    holder = hold(path)
    since = json.loads(path.read_text())["since"]
    for stop in (None, signal.SIGSTOP):  # one that stands still lives as well
        if stop is not None:
            holder.send_signal(stop)
        with pytest.raises(Held, match=f"process {holder.pid} on .*{since}") as told:
            Claim(str(path), "it").acquire()
        assert "emove" not in str(told.value)
    holder.kill()
    # Not waited for: it is a zombie now, which holds nothing.
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with claimed(str(tmp_path), "it") as claim:
        assert json.loads(path.read_text())["token"] == claim.token
    holder.wait()


@pytest.mark.parametrize(
    "other",
    [
        {"host": "elsewhere"},
        {"kernel": "another boot"},
        {"kernel": "", "process": 1},
        {"process": "words"},
        {"process": -1},
        {"host": None},
    ],
)
def test_a_holder_that_cannot_be_seen_is_waited_for(tmp_path, capsys, other):
    path = tmp_path / CLAIM_NAME
    left(path, **other)
    began = time.monotonic()
    with claimed(str(tmp_path), "it", times=QUICK) as claim:
        assert time.monotonic() - began >= QUICK.gone
        claim.check()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("waiting: it is claimed by")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b'{"token": "../x"}'])
def test_half_a_claim_is_one_that_cannot_be_seen(tmp_path, data):
    (tmp_path / CLAIM_NAME).write_bytes(data)
    began = time.monotonic()
    with claimed(str(tmp_path), "it", times=QUICK):
        assert time.monotonic() - began >= QUICK.gone
    assert os.listdir(tmp_path) == []


def test_a_holder_elsewhere_that_renews_is_refused(tmp_path):
    path = tmp_path / CLAIM_NAME
    left(path, host="elsewhere")
    looks = []

    def pause(seconds):
        looks.append(seconds)
        if len(looks) == 5:
            rewrite(path, renewals="0000000007")

    slow = ClaimTimes(gone=3600.0, look=0.001)
    with pytest.raises(Held, match="on elsewhere"):
        Claim(str(path), "it", slow).acquire(pause)
    assert len(looks) == 5


def test_waiting_ends_when_the_holder_gives_it_free_and_when_asked_to_stop(tmp_path):
    path = tmp_path / CLAIM_NAME
    left(path, host="elsewhere")
    slow = ClaimTimes(gone=3600.0, look=0.001)

    def asked(seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Claim(str(path), "it", slow).acquire(asked)
    claim = Claim(str(path), "it", slow)
    claim.acquire(lambda seconds: path.unlink(missing_ok=True))
    claim.release()


def test_a_number_that_came_again_is_another_process(tmp_path):
    path = tmp_path / CLAIM_NAME
    left(path, start=1)
    with claimed(str(tmp_path), "it", times=ClaimTimes(gone=3600.0)) as claim:
        claim.check()


def test_a_claim_is_renewed_and_holds(tmp_path):
    path = tmp_path / CLAIM_NAME
    with claimed(str(tmp_path), "it", times=QUICK) as claim:
        while int(json.loads(path.read_text())["renewals"]) < 3:
            time.sleep(0.005)
        claim.check()
        check_claim(claim.path, claim.token, "it")


@pytest.mark.slow
def test_who_stood_still_for_too_long_publishes_nothing_when_it_goes_on(tmp_path):
    path, published = tmp_path / CLAIM_NAME, tmp_path / "published"
    holder = start(PUBLISHER, str(path), str(published))
    assert holder.stdout.readline() == "held\n", holder.stderr.read()
    patient = ClaimTimes(gone=1.0, look=0.01)
    with pytest.raises(Held, match="on elsewhere"):  # it renews
        Claim(str(path), "it", patient).acquire()
    holder.send_signal(signal.SIGSTOP)
    with claimed(str(tmp_path), "it", times=patient) as claim:
        holder.send_signal(signal.SIGCONT)
        _, errors = holder.communicate("publish\n")
        assert holder.returncode == 1
        assert f"found that of process {os.getpid()} on" in errors.splitlines()[-1]
        assert not published.exists()
        claim.check()


def test_who_was_taken_over_notices_before_it_publishes_and_spoils_nothing(tmp_path):
    path = tmp_path / CLAIM_NAME
    stopped = Claim(str(path), "it", QUICK)
    stopped.acquire()
    path.unlink()  # as if another had come in between
    with claimed(str(tmp_path), "it") as other:
        for check in (
            stopped.check,
            lambda: check_claim(stopped.path, stopped.token, "it"),
        ):
            with pytest.raises(WorkError, match=f"process {os.getpid()} on"):
                check()
        time.sleep(5 * QUICK.renewal)
        stopped.release()
        other.check()
    with pytest.raises(WorkError, match="no claim there"):
        check_claim(str(path), other.token, "it")


def test_who_stood_still_says_that_it_lives_before_it_looks(tmp_path, monkeypatch):
    path = tmp_path / CLAIM_NAME
    # The thread stands still as well.
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    with claimed(str(tmp_path), "it", times=ClaimTimes(renewal=0.01)) as claim:
        before = json.loads(path.read_text())["renewals"]
        time.sleep(0.03)
        claim.check()
        assert json.loads(path.read_text())["renewals"] > before


@pytest.mark.slow
def test_of_many_that_come_at_once_one_is_inside(tmp_path):
    """Each ends as one killed inside, so the next takes over; half begin so, too."""
    path, inside = tmp_path / CLAIM_NAME, tmp_path / "inside"
    left(path, start=1)
    many = [start(CONTENDER, str(path), str(inside), "30") for _ in range(12)]
    time.sleep(0.5)
    for each in many:
        each.stdin.close()
        each.stdin = None
    errors = [each.communicate()[1] for each in many]
    assert not any(errors), errors
    assert {each.returncode for each in many} <= {0, -9}
    assert -9 in {each.returncode for each in many}
    with claimed(str(tmp_path), "it"):
        pass
    assert not [name for name in os.listdir(tmp_path) if "claim" in name]


@settings(max_examples=30, deadline=None)  # each claim waits for the disk
@given(st.lists(st.sampled_from(["take", "die", "release"]), max_size=12))
def test_one_of_several_threads_wins_whatever_went_before(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("claims") / CLAIM_NAME
    holder = None
    for event in events:
        if holder is None:
            holder = Claim(str(path), "it", NEVER_RENEWED)
            holder.acquire()
        elif event == "release":
            holder.release()
            holder = None
        elif event == "die":
            rewrite(path, start=1)
        else:
            others = [Claim(str(path), "it", NEVER_RENEWED) for _ in range(4)]
            won = at_once(others)
            dead = json.loads(path.read_text())["token"] != holder.token
            assert len(won) == int(dead)
            holder = won[0] if won else holder
            holder.check()


def at_once(contenders):
    barrier, won = threading.Barrier(len(contenders)), []

    def contend(claim):
        barrier.wait()
        with contextlib.suppress(Held):
            claim.acquire()
            won.append(claim)

    threads = [threading.Thread(target=contend, args=[each]) for each in contenders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_a_follower_killed_on_its_way_does_not_stand_in_the_next_ones(tmp_path):
    path = tmp_path / CLAIM_NAME
    left(path, start=1)
    follower = tmp_path / f".{CLAIM_NAME}.{'ab' * 16}.tmp"
    follower.write_text(path.read_text())
    with claimed(str(tmp_path), "it", times=QUICK) as claim:
        claim.check()
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_written_that_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="wanted to write to it, found"):  # noqa: SIM117
        with claimed(str(tmp_path / "file"), "it"):
            pass


def test_a_disk_without_links_holds_claims_as_well(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / CLAIM_NAME
    left(path, start=1)
    with claimed(str(tmp_path), "it") as claim:
        claim.check()
        with pytest.raises(Held):
            Claim(str(path), "it").acquire()
    assert os.listdir(tmp_path) == []
