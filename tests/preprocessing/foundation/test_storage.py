# SPDX-License-Identifier: Apache-2.0
"""Globs, ranged reads and atomic publishing, on disk and on an object store."""

import os
import subprocess
import sys

import boto3
import numpy as np
import pytest
from cloudpathlib import S3Client
from moto.server import ThreadedMotoServer

from preprocessing.contracts.manifest import read_manifest, write_manifest
from preprocessing.contracts.shards import Shards
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent
from tests.preprocessing.contracts.test_shards import (
    NUM_ROWS,
    rows_of_dataset,
    write_dataset,
)
from tests.preprocessing.reading.test_readers import read

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An S3 bucket served on the loopback; yields its URI."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket="corpus")
        patch.setattr(S3Client, "_default_client", None)
        yield "s3://corpus"
    server.stop()


def fill(base):
    """Writes a small tree below `base`, which may be local or cloud."""
    for name in ("a/1.txt", "a/b/2.txt", "a/b/3.jsonl", "c/1.txt"):
        path = storage.join(base, name)
        storage.make_directory(path.rsplit("/", 1)[0])
        storage.write_atomically(path, name.encode())


@pytest.fixture(params=["local", "s3"])
def base(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "tree")
    return f"{request.getfixturevalue('bucket')}/{os.path.basename(tmp_path)}"


def test_globs_give_paths_relative_to_their_fixed_prefix(base):
    fill(base)
    files = storage.expand([storage.join(base, "a", "**", "*.txt")])
    assert [(file.relative, file.size) for file in files] == [
        ("1.txt", 7),
        ("b/2.txt", 9),
    ]
    assert files[0].path == storage.join(base, "a/1.txt")
    (one,) = storage.expand([storage.join(base, "a/b/3.jsonl")])
    assert (one.relative, one.size) == ("3.jsonl", 11)
    names = [file.relative for file in storage.expand([storage.join(base, "*", "*")])]
    assert names == ["a/1.txt", "c/1.txt"]
    twice = [storage.join(base, "a/*.txt"), storage.join(base, "a/[0-9].txt")]
    assert len(storage.expand(twice)) == 1


def test_globs_leave_hidden_files_and_directories_out_unless_spelled(base):
    for name in ("1.txt", ".2.txt", ".git/3.txt", "a/.cache/b/4.txt", "a/5.txt"):
        path = storage.join(base, name)
        storage.make_directory(path.rsplit("/", 1)[0])
        storage.write_atomically(path, b"text")

    def names(*pattern):
        files = storage.expand([storage.join(base, *pattern)])
        return [file.relative for file in files]

    assert names("**", "*.txt") == ["1.txt", "a/5.txt"]
    assert names(".*", "*.txt") == [".git/3.txt"]
    assert names(".git", "*.txt") == ["3.txt"]


def test_globs_that_cannot_name_documents_are_refused(base):
    fill(base)
    with pytest.raises(UsageError, match="found none"):
        storage.expand([storage.join(base, "*.txt")])
    with pytest.raises(UsageError, match="found none"):
        storage.expand([storage.join(base, "a", "none.txt")])
    both = [storage.join(base, "a/1.txt"), storage.join(base, "c/1.txt")]
    with pytest.raises(UsageError, match="different relative paths"):
        storage.expand(both)


def test_a_path_that_exists_is_itself_and_so_is_a_directory_a_glob_begins_with(base):
    for name in ("part1.txt", "part[1].txt", "in [v1]/x*.txt", "in v/x.txt"):
        path = storage.join(base, name)
        storage.make_directory(path.rsplit("/", 1)[0])
        storage.write_atomically(path, name.encode())

    def names(pattern):
        files = storage.expand([storage.join(base, pattern)])
        assert [storage.read_bytes(each.path) for each in files]
        return [file.path[len(base) + 1 :] for file in files]

    assert names("part[1].txt") == ["part[1].txt"]
    assert names("part[1-9].txt") == ["part1.txt"]
    assert names("in [v1]/x*.txt") == ["in [v1]/x*.txt"]
    assert names("in [v1]/*.txt") == ["in [v1]/x*.txt"]
    assert names("in ?/*.txt") == ["in v/x.txt"]
    assert names("i*/x*.txt") == ["in [v1]/x*.txt", "in v/x.txt"]
    assert sorted(names("**/*[[]*")) == ["part[1].txt"]


def test_directories_that_match_are_named(base, capsys):
    for name in ("a.txt", "b.txt/part-0.txt", "c/d.txt/part-0"):
        path = storage.join(base, name)
        storage.make_directory(path.rsplit("/", 1)[0])
        storage.write_atomically(path, b"text")
    assert [f.relative for f in storage.expand([storage.join(base, "*.txt")])] == [
        "a.txt"
    ]
    assert f"{base}/b.txt matches and is not read" in capsys.readouterr().err
    files = storage.expand([storage.join(base, "**", "*.txt")])
    assert [file.relative for file in files] == ["a.txt", "b.txt/part-0.txt"]
    said = capsys.readouterr().err
    assert f"{base}/c/d.txt matches and is not read" in said and "b.txt" not in said


def test_a_directory_is_refused_with_the_glob_to_use(tmp_path):
    fill(str(tmp_path))
    with pytest.raises(UsageError, match=r"\*\*/\*"):
        storage.expand([str(tmp_path)])
    with pytest.raises(UsageError, match="ftp"):
        storage.expand(["ftp://host/*.txt"])


def test_files_are_read_whole_by_range_and_as_streams(base):
    data = bytes(range(256)) * 10
    path = storage.join(base, "data.bin")
    storage.make_directory(base)
    storage.write_atomically(path, data)
    assert storage.read_bytes(path) == data
    assert storage.file_size(path) == len(data)
    assert storage.read_range(path, 250, 260) == data[250:260]
    assert storage.read_range(path, 5, 5) == b""
    with storage.open_input(path) as file:
        assert file.read(300) == data[:300]
        file.seek(-6, os.SEEK_END)
        assert file.read() == data[-6:]
    assert storage.exists(path)
    assert storage.list_names(base) == ["data.bin"]
    assert storage.is_dir(base)
    storage.remove_tree(base)
    assert not storage.exists(path)
    assert storage.list_names(base) == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(path)


def test_nothing_is_published_when_writing_fails(base):
    path = storage.join(base, "out.bin")
    storage.make_directory(base)
    storage.write_atomically(path, b"old")
    with pytest.raises(RuntimeError), storage.atomic_file(path) as file:
        file.write(b"half of the new")
        raise RuntimeError
    assert storage.read_bytes(path) == b"old"
    assert storage.list_names(base) == ["out.bin"]
    storage.write_atomically(path, b"new")
    assert storage.read_bytes(path) == b"new"


_DIE_WRITING = """
import os, signal, sys
from preprocessing.foundation import storage
with storage.atomic_file(sys.argv[1]) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_what_a_killed_writer_leaves_is_hidden_and_can_be_removed(tmp_path):
    (tmp_path / ".kept").write_text("not ours")
    path = tmp_path / "out.bin"
    subprocess.run([sys.executable, "-c", _DIE_WRITING, str(path)], check=False)
    assert not path.exists()
    assert storage.expand([str(tmp_path / ".kept")])
    with pytest.raises(UsageError, match="found none"):
        storage.expand([str(tmp_path / "*")])
    assert len(storage.list_names(str(tmp_path))) == 2
    storage.remove_leftovers(str(tmp_path))
    assert storage.list_names(str(tmp_path)) == [".kept"]


_WRITE_TOO_MUCH = """
import resource, signal, sys
from preprocessing.foundation import storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with storage.atomic_file(sys.argv[1]) as file:
        file.write(bytes(int(sys.argv[2])))
except OSError as error:
    print(error.errno)
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [100_001, 10_000_000])
def test_a_disk_that_takes_no_more_leaves_no_file(size, tmp_path):
    path = tmp_path / "out.bin"
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_TOO_MUCH, str(path), str(size)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "27"  # EFBIG: the limit stands in for the disk
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_on_an_object_store_reads_like_a_local_one(bucket):
    directory = f"{bucket}/dataset"
    written = write_dataset(directory)
    write_manifest(directory, written)
    manifest = read_manifest(directory)
    assert manifest == written
    shards = Shards(directory, manifest, "train")
    tokens = rows_of_dataset()["tokens"]
    for rows in (np.arange(NUM_ROWS), np.array([11, 3, 12, 3, 0, 6])):
        np.testing.assert_array_equal(shards.read(rows)["tokens"], tokens[rows])
    storage.write_atomically(
        f"{directory}/{manifest.splits['train'].shards[0].name}", b"short"
    )
    with pytest.raises(WorkError, match="shrunk"):
        shards.read(np.arange(2))
    with pytest.raises(UsageError, match="found 5 bytes"):
        Shards(directory, manifest, "train")


def test_documents_on_an_object_store_have_the_keys_of_local_ones(bucket, tmp_path):
    lines = b"".join(b'{"text": "text %d", "id": %d}\n' % (n, n) for n in range(300))
    local = tmp_path / "a.jsonl"
    local.write_bytes(lines)
    remote = f"{bucket}/lines/a.jsonl"
    storage.write_atomically(remote, lines)
    reader = ReaderConfig()
    extents = plan_extents(storage.expand([remote]), reader, extent_bytes=3000)
    assert len(extents) > 2
    assert read(None, reader, extents) == read(local, reader)


def test_a_file_that_is_gone_is_an_error_and_no_reject(bucket):
    storage.write_atomically(f"{bucket}/gone.txt", b"x")
    extents = plan_extents(storage.expand([f"{bucket}/gone.txt"]), ReaderConfig())
    storage.remove_file(f"{bucket}/gone.txt")
    with pytest.raises(FileNotFoundError):
        list(read_extent(extents[0], ReaderConfig()))
