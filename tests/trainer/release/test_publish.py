# SPDX-License-Identifier: Apache-2.0
"""A release appears whole, once, or not at all."""

import os
import subprocess
import sys

import pytest

from preprocessing.contracts.releases import versions
from preprocessing.foundation.commands import UsageError
from trainer.release.publish import choose_version, staged

KILLED = """
import os, signal, sys
from trainer.release.publish import staged
with staged(sys.argv[1], None) as (staging, version):
    open(os.path.join(staging, "saved_model.pb"), "w").write("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def publish(models: str, version: int | None = None, text: str = "whole") -> int:
    with staged(models, version) as (staging, chosen):
        with open(os.path.join(staging, "saved_model.pb"), "w") as file:
            file.write(text)
        assert chosen not in versions(models)
    return chosen


def test_versions_count_from_one_and_follow_the_highest(tmp_path):
    models = str(tmp_path / "models" / "name")
    assert [publish(models), publish(models), publish(models, 41)] == [1, 2, 41]
    (tmp_path / "models" / "name" / "notes").mkdir()
    assert publish(models) == 42
    assert versions(models) == [1, 2, 41, 42]


def test_a_version_that_is_there_is_never_overwritten(tmp_path):
    models = str(tmp_path)
    publish(models, 3, "first")
    with pytest.raises(UsageError, match="found 3 there"):
        publish(models, 3, "second")
    assert (tmp_path / "3" / "saved_model.pb").read_text() == "first"
    with pytest.raises(UsageError, match="1 or more"):
        choose_version(models, 0)


def test_a_failed_export_leaves_no_version(tmp_path):
    with pytest.raises(RuntimeError), staged(str(tmp_path), None):
        raise RuntimeError("the check failed")
    assert versions(str(tmp_path)) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_a_server_sees_and_the_next_one_works(tmp_path):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ended.returncode == -9
    assert all(name.startswith(".") for name in os.listdir(tmp_path))
    assert publish(str(tmp_path)) == 1
    assert os.listdir(tmp_path) == ["1"]


def test_two_exports_do_not_write_at_once(tmp_path):
    with (
        staged(str(tmp_path), None),
        pytest.raises(UsageError, match=rf"in use by process {os.getpid()} on"),
        staged(str(tmp_path), None),
    ):
        pass


def test_an_output_that_cannot_be_written_is_refused_before_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Name a directory that"):
        publish(str(tmp_path / "file"))
