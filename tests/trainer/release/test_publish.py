# SPDX-License-Identifier: Apache-2.0
"""A release appears whole, once, or not at all."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cloudpathlib import S3Path
from hypothesis import example, given
from hypothesis import strategies as st

from preprocessing.contracts import releases
from preprocessing.contracts.releases import versions
from preprocessing.foundation.commands import UsageError
from trainer import export
from trainer.machine.tensorflow_wheel import libraries
from trainer.release.publish import check_own_versions, choose_version, staged

SAFE_STRTO64 = (
    "_ZN3tsl7strings12safe_strto64ESt17basic_string_viewIcSt11char_traitsIcEEPl"
)
KILLED = """
import os, signal, sys
from trainer.release.publish import staged
with staged(sys.argv[1], None) as (staging, version):
    open(os.path.join(staging, "saved_model.pb"), "w").write("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write_lineage(release) -> None:
    lineage = releases.Lineage("", "", {}, 0, 3, None, 1, 2, None, {}, {})
    (release / "assets").mkdir()
    (release / "assets/lineage.json").write_bytes(lineage.to_bytes())


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
    assert [*versions(models)] == [1, 2, 41, 42]


def test_a_version_that_is_there_is_never_overwritten(tmp_path):
    models = str(tmp_path)
    publish(models, 3, "first")
    with pytest.raises(UsageError, match="found 3 there"):
        publish(models, 3, "second")
    assert (tmp_path / "3" / "saved_model.pb").read_text() == "first"


def test_a_model_that_another_tool_wrote_is_left_alone(tmp_path):
    publish(str(tmp_path), 1)  # without a lineage
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"found .*/1 without .*, another tool's"):
        export.main(["--run", "absent", "--output", str(tmp_path)])
    assert sorted(tmp_path.rglob("*")) == before
    write_lineage(tmp_path / "1")
    check_own_versions(str(tmp_path))


@pytest.mark.parametrize("version", [0, -1, 2**63, 10**30])
def test_what_no_server_reads_as_a_version_is_refused(tmp_path, version):
    with pytest.raises(UsageError, match="--version from 1 to 9223372036854775807"):
        choose_version(str(tmp_path), version)


def test_after_the_highest_version_there_is_no_next(tmp_path):
    models = str(tmp_path)
    assert publish(models, 2**63 - 1) == 2**63 - 1
    with pytest.raises(UsageError, match="the highest that TensorFlow Serving reads"):
        choose_version(models, None)
    assert choose_version(models, 8) == 8


@pytest.mark.parametrize("name", ["007", " 7", "7\t", "000000000000000000000000007"])
def test_a_version_by_another_name_is_found_and_counts(tmp_path, name):
    models = str(tmp_path)
    publish(models, 5)
    (tmp_path / "5").rename(tmp_path / name)
    publish(models, 5)
    with pytest.raises(UsageError, match=r"found .*7.* there"):
        choose_version(models, 7)
    assert choose_version(models, None) == 8
    write_lineage(tmp_path / name)
    assert releases.find_release(models) == f"{models}/{name}"


def test_of_two_names_for_a_version_the_servers_is_taken(tmp_path):
    for name in ("7", "007", "-9", "notes", "+8", "1e3", "9223372036854775808", "٨"):
        (tmp_path / name).mkdir()
    assert versions(str(tmp_path)) == {-9: "-9", 7: "7"}


@given(st.text("079-+ \t\n\r\x0b\x0c\x1c_.ex\xa0٧", max_size=21))
@example("9223372036854775807")
@example("9223372036854775808")
@example("-9223372036854775808")
@example("-9223372036854775809")
def test_a_name_is_a_version_where_tensorflows_own_function_reads_one(name):
    """`safe_strto64(string_view, int64*)`: a length and an address, as the ABI says."""
    read = ctypes.CDLL(str(libraries()[0]))[SAFE_STRTO64]
    read.restype, found, data = ctypes.c_bool, ctypes.c_int64(), name.encode()
    size = ctypes.c_size_t(len(data))
    wanted = found.value if read(size, data, ctypes.byref(found)) else None
    assert releases.version_of(name) == wanted


def test_a_failed_export_leaves_no_version(tmp_path):
    with pytest.raises(RuntimeError), staged(str(tmp_path), None):
        raise RuntimeError("the check failed")
    assert not versions(str(tmp_path))
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


def test_an_upload_cut_short_is_no_version_and_the_next_one_clears_it(
    bucket, monkeypatch
):
    """After each file that arrives: either no `saved_model.pb`, or all of them."""
    models, files = f"{bucket}/cut-short", ["saved_model.pb", "variables/x", "z"]
    upload, left = S3Path.upload_from, 0

    def upload_or_die(path, *given, **named):
        nonlocal left
        if left == 0:
            raise RuntimeError("killed")
        left -= 1
        return upload(path, *given, **named)

    monkeypatch.setattr(S3Path, "upload_from", upload_or_die)
    for version in range(1, 6):
        left = version - 1
        try:
            with staged(models, version) as (staging, _):
                write_lineage(Path(staging))
                for name in files:
                    Path(staging, name).parent.mkdir(exist_ok=True)
                    Path(staging, name).write_text(name)
        except RuntimeError:
            there = releases.file_names(f"{models}/{version}")
            assert ("assets/lineage.json" in there) == (version > 1)
            assert "saved_model.pb" not in there
    assert [*versions(models)] == [5]
    assert {*releases.file_names(f"{models}/5")} == {*files, "assets/lineage.json"}
