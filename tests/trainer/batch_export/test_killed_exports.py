# SPDX-License-Identifier: Apache-2.0
"""Commands that write a tree of models are killed; no server ever sees a half of it.

`quern-export --runs` and `promote` lose all their processes at once (SIGKILL), at
moments that are told by the files which appear, in a tree on a disk and in one in a
bucket, whose server goes on. A reader looks all the while; `models.config` is read by
the messages of tensorflow-serving-api, and what was seen of each release is loaded
through TensorFlow's C API and asked.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cloudpathlib import S3Client

from preprocessing.contracts.releases import read_lineage
from tests.trainer.batch_export.watched_trees import (
    BucketTree,
    DiskTree,
    Moment,
    TreeReader,
    WatchedTree,
    kill_at,
    run_export,
)
from tests.trainer.labels.trees import make_model
from tests.trainer.small_runs import small_run
from trainer.labels.labels import labels_of
from trainer.release.check_apart import check_apart

pytestmark = pytest.mark.drill

# In a process of its own; one request after another, so that each is atomic. A put
# takes 0.1 s, in which who looks comes before the next one.
SERVER = """
import time
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
def slow(environment, start):
    time.sleep(0.1 * (environment["REQUEST_METHOD"] == "PUT"))
    return app(environment, start)
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, slow)
print(server.server_port, flush=True)
server.serve_forever()
"""
WANTED = [(name, step) for name in ("a", "a-int8") for step in (1, 2)]
EXPORTS = (
    Moment(r"a/\.claim\.json"),
    Moment("staging/variables/.*"),
    Moment("staging/variables/variables.index"),
    Moment("staging/saved_model.pb"),
    Moment("staging/assets.extra/.*"),
    Moment("staging/assets/lineage.json"),
    Moment("staging/README.md"),
    Moment("staging/README.md", seconds=1),  # is being checked
    Moment(r"[^/]+/\d+/saved_model.pb"),
    Moment("staging/assets.extra/.*", count=2),  # the second one's
)
# A version arrives in a bucket file by file, on a disk at once.
UPLOADS = (Moment(r"[^/]+/\d+/.*"), Moment(r"[^/]+/\d+/.*", count=4))
# A file's temporary name begins with a dot; a bucket has none.
PROMOTIONS = (
    Moment(r"\.?batching\.config.*"),  # which only the first one writes
    Moment(r"\.labels-claim\.json"),
    Moment(r"a/\.?labels\.jsonl.*"),
    Moment(r"a/labels\.jsonl"),
    Moment(r"\.?models\.config.*"),
    Moment(r"models\.config"),
)
# Of the table that is shown of releases which were judged.
TABLES = (Moment(r"\.?releases\.jsonl.*"), Moment(r"\.?releases\.html.*"))


@pytest.fixture
def run(dataset, tmp_path) -> str:
    """A run `a` with checkpoints at steps 1 and 2."""
    run = str(tmp_path / "a")
    steps = ("loop.total_steps=2", "loop.save_every=1", "loop.evaluate_every=0")
    command = [sys.executable, "-m", "trainer.task", *small_run(dataset, run, *steps)]
    subprocess.run([*command, "model.d_model=32"], check=True, capture_output=True)
    return run


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """A bucket of a server that outlives its clients."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setattr(S3Client, "_default_client", None)
    boto3.client("s3").create_bucket(Bucket="killed")
    yield "killed"
    server.kill()
    server.communicate()


@pytest.fixture(params=["disk", "bucket"])
def tree(request, tmp_path, monkeypatch) -> WatchedTree:
    """An empty tree of models."""
    if request.param == "disk":
        return DiskTree(str(tmp_path / "models"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    return BucketTree(request.getfixturevalue("bucket"), str(temporary))


@pytest.fixture
def reader(tree, tmp_path) -> TreeReader:
    """Who looks at the tree."""
    (tmp_path / "copies").mkdir()
    return TreeReader(tree, tmp_path / "copies")


def test_of_killed_exports_no_half_is_seen_and_a_rerun_completes(run, tree, reader):
    command = ["--runs", run, "--checkpoints", "all", "--output", tree.path]
    command += ["--weights", "float32", "int8"]
    uploads = UPLOADS if isinstance(tree, BucketTree) else ()
    with reader.looking():
        for moment in (*uploads, *EXPORTS):
            assert kill_at(moment, tree, command) is None, moment
        there = len(tree.sees(tree.files()))
        assert there >= 2, "some are there before others are killed"
        assert f"{there} of 4 releases there already" in run_export(command)
        assert "4 of 4 releases there already" in run_export(command)
    assert reader.faults == []
    files = tree.files()
    assert {*reader.seen} == tree.sees(files)
    assert not [name for name in files if ".unfinished" in name]
    assert {*filter(None, map(version_above, files))} == tree.sees(files)
    copies = [str(reader.copies / version) for version in reader.seen]
    made = [(Path(copy).parts[-2], read_lineage(copy).step) for copy in copies]
    assert sorted(made) == WANTED
    for copy in copies:
        assert "requests as the trainer did" in check_apart(copy)


def version_above(file: str) -> str | None:
    """Returns `NAME/N` of a file of a version, whole or not."""
    found = re.match(r"[^/]+/\d+(?=/)", file)
    return found[0] if found else None


def test_of_killed_tables_none_is_seen_half_and_a_rerun_completes(run, tree, reader):
    command = ["--runs", run, "--output", tree.path, "--require", "size <= 1e12"]
    assert "exported a/1 (step 2)" in run_export(command)
    with reader.looking():
        for moment in TABLES:
            kill_in_passing(moment, tree, command)
        assert "1 of 1 release there already" in run_export(command)
    assert reader.faults == []
    assert {*reader.seen} == {"a/1"} and reader.looks > 20
    assert {"releases.jsonl", "releases.html"} <= {*tree.files()}


def test_of_killed_promotions_none_is_seen_half_and_a_rerun_completes(tree, reader):
    path = make_model(tree.path, "a", 1, 2)
    with reader.looking():
        for moment in PROMOTIONS:
            commands = [["promote", path, "--version", str(n)] for n in (1, 2)]
            command = kill_in_passing(moment, tree, *commands)
            run_export(command)
            version = 1 + commands.index(command)
            assert labels_of(tree.path, "a") == {"stable": version}
    assert reader.faults == []
    assert reader.looks > 20


def kill_in_passing(
    moment: Moment, tree: WatchedTree, *commands: list[str]
) -> list[str]:
    """Kills one of some commands at a moment that is over in milliseconds, or missed.

    Returns:
        Which of them was killed.
    """
    for index in range(40):
        command = commands[index % len(commands)]
        if kill_at(moment, tree, command) is None:
            return command
    return pytest.fail(f"never killed at {moment}")
