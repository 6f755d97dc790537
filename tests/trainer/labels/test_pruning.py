# SPDX-License-Identifier: Apache-2.0
"""Old versions go, never one that is in use, and never half of one."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.claims.claims import Held, claimed
from preprocessing.contracts.releases import LINEAGE_NAME, SAVED_MODEL_NAME, versions
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from tests.trainer.labels.trees import make_model
from trainer import export
from trainer.labels.labels import promote
from trainer.labels.pruning import prune


@settings(max_examples=12, deadline=None)
@given(
    st.sets(st.integers(1, 9), min_size=1),
    st.lists(st.integers(0, 8), max_size=3),
    st.integers(1, 5),
)
def test_the_newest_and_what_labels_show_are_what_stays(
    tmp_path_factory, there, shown, keep
):
    path = make_model(str(tmp_path_factory.mktemp("m")), "quern", *there)
    shown = {sorted(there)[place % len(there)] for place in shown}
    for version in shown:
        promote(path, version, f"on{version}")
    stay = {*sorted(there)[-keep:], *shown}
    assert prune(path, keep) == sorted(there - stay)
    assert set(versions(path)) == stay
    assert prune(path, keep) == []


def test_in_a_tree_what_is_in_use_stays(tree, capsys):
    path = make_model(tree, "quern", 1, 2, 3, 4, 7)
    promote(path, 1)
    promote(path, 2)
    config = storage.join(tree, "models.config")
    text = storage.read_bytes(config).replace(b"versions: 2", b"versions: [2, 3]")
    storage.write_atomically(config, text)
    # What a removal and an upload that were cut short leave in a bucket.
    make_model(tree, "quern", 5, 9)
    for version in ("5", "9"):
        storage.remove_file(storage.join(path, version, SAVED_MODEL_NAME))
    export.main(["prune", path, "--keep", "1"])
    told = capsys.readouterr()
    assert told.out == "removed 2 versions: 1, 4\n"
    assert "stable of quern showed 1 before, which goes" in told.err
    assert "quern/9 is no whole release, and is left there" in told.err
    assert list(versions(path)) == [2, 3, 7, 9]
    assert not storage.exists(storage.join(path, "1"))
    with pytest.raises(UsageError, match=r"version 1 of .*, found 2, 3, 7, 9"):
        export.main(["rollback", path])


def test_no_half_of_a_version_is_ever_there_by_its_name(tmp_path, monkeypatch):
    path = make_model(str(tmp_path), "quern", 1, 2)
    removed, rmtree = [], shutil.rmtree

    def watched(place, ignore_errors=False):
        whole = {v: len(list(Path(path, v).rglob("*.*"))) for v in ("1", "2")}
        removed.append((os.path.basename(place), whole["1"], whole["2"] > 0))
        if len(removed) == 2:
            raise KeyboardInterrupt
        rmtree(place, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    with pytest.raises(KeyboardInterrupt):
        prune(path, 1)
    monkeypatch.undo()
    assert removed[1] == (".pruned-1", 0, True)
    assert ".pruned-1" in os.listdir(path) and list(versions(path)) == [2]
    assert prune(path, 1) == [] and os.listdir(path) == ["2"]


def test_in_a_bucket_the_file_that_makes_a_release_goes_first(store, monkeypatch):
    path = make_model(f"{store}/first", "quern", 1, 2)
    removed, remove = [], storage.remove_file
    monkeypatch.setattr(
        storage, "remove_file", lambda x: (removed.append(x), remove(x))
    )
    prune(path, 1)
    names = [name.split("/quern/1/")[1] for name in removed if "/quern/1/" in name]
    assert names[0] == SAVED_MODEL_NAME and names[-1] == LINEAGE_NAME


def test_of_a_version_that_is_a_link_the_link_goes(tmp_path):
    path = make_model(str(tmp_path), "quern", 1, 2)
    os.rename(storage.join(path, "1"), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", storage.join(path, "1"))
    assert prune(path, 1) == [1] and os.listdir(path) == ["2"]
    assert (tmp_path / "elsewhere" / SAVED_MODEL_NAME).exists()


def test_while_an_export_is_at_work_there_nothing_goes(tmp_path):
    path = make_model(str(tmp_path), "quern", 1, 2)
    with claimed(path, "--output"), pytest.raises(Held, match="in use by process"):
        prune(path, 1)
    assert list(versions(path)) == [1, 2]


def test_a_list_tells_versions_labels_and_what_is_wrong(tree, capsys):
    path = make_model(tree, "quern", 1, 2, 10)
    make_model(tree, "other", 3)
    promote(path, 1)
    promote(path, 2, "canary")
    promote(path, 2, "next")
    storage.remove_tree(storage.join(path, "1"))
    storage.remove_file(storage.join(path, "10", SAVED_MODEL_NAME))
    storage.write_atomically(storage.join(tree, "notes", "1.txt"), b"") if (
        storage.is_cloud(tree)
    ) else Path(tree, "notes").mkdir()
    export.main(["list", tree])
    assert capsys.readouterr().out.splitlines() == [
        "name   version  labels        run  step  weights  MB",
        "other  3        -             run  3     float32  0.0",
        "quern  1        stable        -    -     -        -  is not there",
        "quern  2        canary, next  run  2     float32  0.0",
        "quern  10       -             -    -     -        -  "
        "not whole: no saved_model.pb: it is still arriving, or was cut short",
    ]
