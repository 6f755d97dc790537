# SPDX-License-Identifier: Apache-2.0
"""Globs name what Python's do, a path that exists is itself, and a file comes once."""

import glob
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.storage import InputFile
from preprocessing.packing.mixture import mixture_files

ODD = "ab1.[]*?!{}#%~ é\n\\-"
NAMES = st.text(ODD, min_size=1, max_size=6).filter(lambda name: name.strip("."))
PLAIN = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name.strip("."))
PARTS = st.sampled_from(["**", "*", "a*", "?", "[ab]*", ".*", "*.b", "a", "b", "[!a]*"])


def write(path, text="text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def relatives(*patterns):
    return [file.relative for file in storage.expand([str(each) for each in patterns])]


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, max_size=4))
def test_a_path_that_exists_is_itself_whatever_characters_it_has(parts, others):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, *parts)
        write(path)
        for other in others:
            if not (path.parent / other).exists():
                write(path.parent / other)
        (one,) = storage.expand([str(path)])
        assert (one.path, one.relative) == (str(path), path.name)
        (one,) = mixture_files({"web": [str(path)]})
        assert (one.path, one.relative) == (str(path), f"web/{path.name}")
        # A directory that a glob begins with is itself too.
        siblings = {other.name for other in path.parent.iterdir() if other.is_file()}
        seen = {name for name in siblings if not name.startswith(".")}
        if seen and "*" not in siblings:
            assert set(relatives(path.parent / "*")) == seen


@given(
    files=st.lists(st.lists(PLAIN, min_size=1, max_size=4), min_size=1, max_size=8),
    parts=st.lists(PARTS, min_size=1, max_size=4),
)
def test_a_glob_names_what_pythons_does(files, parts):
    with tempfile.TemporaryDirectory() as place:
        for file in files:
            path = Path(place, *file)
            if not path.exists() and not any(above.is_file() for above in path.parents):
                write(path)
        pattern = os.path.join(place, *parts)
        found = glob.glob(pattern, recursive=True)
        wanted = {path for path in found if os.path.isfile(path)}
        try:
            files = storage.expand([pattern])
        except UsageError:
            files = []
        assert {file.path for file in files} == wanted
        assert len(files) == len(wanted)


def test_links_that_lead_in_circles_name_each_file_once(tmp_path):
    write(tmp_path / "d" / "x.jsonl")
    write(tmp_path / "d" / "e" / "y.jsonl")
    for name, target in (("d/again", "../d"), ("d/e/up", "../.."), ("a", "d")):
        (tmp_path / name).symlink_to(target)
    assert relatives(tmp_path / "**" / "*.jsonl") == ["d/e/y.jsonl", "d/x.jsonl"]
    # A name that only a link has is found all the same.
    assert relatives(tmp_path / "**" / "up" / "a" / "*") == ["d/e/up/a/x.jsonl"]
    assert relatives(tmp_path / "a" / "*.jsonl") == ["x.jsonl"]


def test_many_links_among_directories_cost_no_more_than_the_directories(tmp_path):
    names = [f"d{number}" for number in range(12)]
    for name in names:
        write(tmp_path / name / f"{name}.txt")
    for name in names:
        for other in names:
            (tmp_path / name / f"to_{other}").symlink_to(f"../{other}")
    assert relatives(tmp_path / "**" / "*") == [f"{n}/{n}.txt" for n in sorted(names)]


def test_one_file_under_several_names_is_read_once(tmp_path, capsys):
    write(tmp_path / "real.jsonl")
    (tmp_path / "a_link.jsonl").symlink_to("real.jsonl")
    os.link(tmp_path / "real.jsonl", tmp_path / "same.jsonl")
    assert relatives(tmp_path / "*.jsonl") == ["real.jsonl"]
    said = f"2 more names of files are not read, such as {tmp_path}/same.jsonl, which"
    assert f"{said} is {tmp_path}/real.jsonl" in capsys.readouterr().err
    assert relatives(tmp_path / "a_link.jsonl", tmp_path / "*") == ["a_link.jsonl"]
    (tmp_path / "base").symlink_to(tmp_path)
    assert relatives(tmp_path / "base" / "*.jsonl") == ["real.jsonl"]
    here = f"{tmp_path}/./real.jsonl"
    capsys.readouterr()
    assert relatives(here, f"{tmp_path}//real.jsonl") == ["real.jsonl"]
    assert not capsys.readouterr().err
    twice = {"web": [f"{tmp_path}/real.jsonl"], "books": [f"{tmp_path}/a_link.jsonl"]}
    with pytest.raises(UsageError, match="one source"):
        mixture_files(twice)


def test_directories_that_match_are_named_unless_their_files_match_too(
    tmp_path, capsys
):
    write(tmp_path / "a.jsonl")
    write(tmp_path / "b.jsonl" / "part-00000")
    (tmp_path / "empty.jsonl").mkdir()
    assert relatives(tmp_path / "*.jsonl") == ["a.jsonl"]
    said = capsys.readouterr().err
    assert f"{tmp_path}/b.jsonl matches and is not read (a directory)" in said
    assert "empty" not in said
    both = relatives(tmp_path / "*.jsonl", tmp_path / "*.jsonl" / "*")
    assert both == ["a.jsonl", "b.jsonl/part-00000"]
    relatives(tmp_path / "**" / "*")
    relatives(tmp_path / "**")
    assert not capsys.readouterr().err
    with pytest.raises(UsageError, match=r"only directories, such as .*b\.jsonl"):
        relatives(tmp_path / "b.json*")


def test_what_matches_and_holds_no_bytes_is_refused_by_its_name(tmp_path):
    write(tmp_path / "a.jsonl")
    (tmp_path / "c.jsonl").symlink_to("nowhere.jsonl")
    (tmp_path / "d.jsonl").symlink_to("d.jsonl")
    os.mkfifo(tmp_path / "e.jsonl")
    for pattern in ("*.jsonl", "**/*.jsonl", "[ce].jsonl", "c.jsonl"):
        with pytest.raises(UsageError, match=r"c\.jsonl, a link to nothing"):
            relatives(tmp_path / pattern)
    with pytest.raises(UsageError, match=r"d\.jsonl, a link to nothing"):
        relatives(tmp_path / "d.jsonl")
    with pytest.raises(UsageError, match=r"e\.jsonl, a pipe"):
        relatives(tmp_path / "e.jsonl")


def test_a_scheme_begins_a_path(tmp_path):
    assert storage.is_cloud("s3://bucket/a") and storage.is_cloud("GS://b")
    assert not storage.is_cloud(f"{tmp_path}/s3://a")
    write(tmp_path / "http:" / "example.com" / "a.txt")
    name = f"{tmp_path}/http://example.com/a.txt"
    assert [type(file) for file in storage.expand([name])] == [InputFile]
