# SPDX-License-Identifier: Apache-2.0
"""A release is found by its path and read by its lineage."""

from pathlib import Path

import pytest

from preprocessing.contracts.releases import (
    LINEAGE_NAME,
    SAVED_MODEL_NAME,
    Lineage,
    copy_tree,
    find_release,
    read_lineage,
    versions,
)
from preprocessing.foundation.commands import UsageError

LINEAGE = Lineage(
    dataset_hash="d",
    tokenizer_sha256="t",
    config={"seed": 0},
    step=5,
    vocab_size=300,
    bos_id=None,
    eos_id=1,
    pad_id=0,
    context=64,
    versions={"tensorflow": "2"},
    expected={},
)


def make_release(directory: Path) -> Path:
    (directory / "assets").mkdir(parents=True)
    (directory / SAVED_MODEL_NAME).write_bytes(b"model")
    (directory / LINEAGE_NAME).write_bytes(LINEAGE.to_bytes())
    return directory


def test_a_models_directory_means_its_highest_version(tmp_path):
    for version in ("2", "10", "9"):
        make_release(tmp_path / version)
    (tmp_path / "11x").mkdir()
    assert [*versions(str(tmp_path))] == [2, 9, 10]
    assert find_release(str(tmp_path)) == str(tmp_path / "10")
    assert find_release(f"{tmp_path}/9/") == str(tmp_path / "9")


def test_a_version_whose_upload_was_cut_short_is_passed_over(tmp_path):
    make_release(tmp_path / "1")
    make_release(tmp_path / "2")
    (tmp_path / "2" / SAVED_MODEL_NAME).unlink()
    assert find_release(str(tmp_path)) == str(tmp_path / "1")


def test_lineage_comes_back_as_it_was_written(tmp_path):
    assert read_lineage(str(make_release(tmp_path))) == LINEAGE


def test_a_copy_has_the_same_files(tmp_path):
    make_release(tmp_path / "1")
    copy_tree(str(tmp_path / "1"), str(tmp_path / "2"))
    for name in (SAVED_MODEL_NAME, LINEAGE_NAME):
        assert (tmp_path / "2" / name).read_bytes() == (
            tmp_path / "1" / name
        ).read_bytes()


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"schema_version": 2}'])
def test_what_is_no_release_is_refused_with_a_remedy(tmp_path, content):
    with pytest.raises(UsageError, match="quern-export"):
        find_release(str(tmp_path / "absent"))
    make_release(tmp_path)
    (tmp_path / LINEAGE_NAME).unlink()
    if content is not None:
        (tmp_path / LINEAGE_NAME).write_bytes(content)
    with pytest.raises(UsageError, match="Export the run again"):
        find_release(str(tmp_path))
