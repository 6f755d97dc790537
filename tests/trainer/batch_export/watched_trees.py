# SPDX-License-Identifier: Apache-2.0
"""Trees of models that are watched while commands which write them are killed.

A reader takes what it finds as TensorFlow Serving does: on a disk each directory named
by a number is a version, whole from its first sight; in a bucket, whose directories
arrive file by file, one that has its `saved_model.pb`.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import boto3
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from preprocessing.contracts.releases import SAVED_MODEL_NAME, version_of
from preprocessing.foundation import strict_json
from trainer.batch_export.releases_table import LISTING_NAME
from trainer.labels.whole_release import check_whole

# Path of a file below the tree -> what differs once it is written again.
Files = dict[str, object]
SAVED = f"/{SAVED_MODEL_NAME}"
CONFIG = "models.config"
LOOK_SECONDS = 0.05


class WatchedTree(Protocol):
    """A tree of models: `path` is how commands name it."""

    path: str

    def files(self) -> Files:
        """Returns the files of the tree, as they are now."""

    def staged(self) -> Files:
        """Returns the files that are not in the tree yet, below `staging/`."""

    def sees(self, files: Files) -> set[str]:
        """Returns the versions that a server takes for complete: `NAME/N`."""

    def copy(self, name: str, target: Path) -> None:
        """Copies a file."""


@dataclass
class DiskTree:
    """A tree on a disk; releases are built in it, under hidden names."""

    path: str

    def files(self) -> Files:
        """Returns the files of the tree, as they are now."""
        return _walk(self.path, "")

    def staged(self) -> Files:
        """Returns the files that are not in the tree yet, below `staging/`."""
        found = self.files().items()
        parts = [(name.partition("/.unfinished/")[2], stamp) for name, stamp in found]
        return {f"staging/{name}": stamp for name, stamp in parts if name}

    def sees(self, files: Files) -> set[str]:
        """Returns each directory that is named by a number."""
        models = [each for each in Path(self.path).glob("*") if each.is_dir()]
        return {
            f"{model.name}/{each.name}"
            for model in models
            for each in model.iterdir()
            if version_of(each.name) is not None
        }

    def copy(self, name: str, target: Path) -> None:
        """Gives a file another name."""
        os.link(os.path.join(self.path, name), target)


@dataclass
class BucketTree:
    """A tree in a bucket; releases are built below a directory for temporary files."""

    bucket: str
    temporary: str

    def __post_init__(self) -> None:
        self.path = f"s3://{self.bucket}/models"
        self._client = boto3.client("s3")

    def files(self) -> Files:
        """Returns the files of the tree, as they are now: one request lists them."""
        found = self._client.list_objects_v2(Bucket=self.bucket, Prefix="models/")
        assert not found["IsTruncated"]
        return {
            each["Key"].removeprefix("models/"): (each["ETag"], each["LastModified"])
            for each in found.get("Contents", ())
        }

    def staged(self) -> Files:
        """Returns the files that are not in the tree yet, below `staging/`."""
        found = _walk(self.temporary, "").items()
        parts = [(name.partition("/"), stamp) for name, stamp in found]
        return {
            f"staging/{name}": stamp
            for (top, _, name), stamp in parts
            if top.startswith("quern-")
        }

    def sees(self, files: Files) -> set[str]:
        """Returns each version with a `saved_model.pb`."""
        places = [Path(name).parent for name in files if name.endswith(SAVED)]
        return {str(each) for each in places if version_of(each.name) is not None}

    def copy(self, name: str, target: Path) -> None:
        """Fetches a file."""
        self._client.download_file(self.bucket, f"models/{name}", str(target))


def _walk(directory: str, prefix: str) -> Files:
    """Returns the files below a directory that others are writing."""
    found: Files = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    found |= _walk(entry.path, f"{prefix}{entry.name}/")
                else:
                    status = entry.stat(follow_symlinks=False)
                    stamp = status.st_ino, status.st_mtime_ns, status.st_size
                    found[prefix + entry.name] = stamp
    return found


class TreeReader:
    """Looks at a tree every 50 ms; keeps a copy of each version as first seen.

    Args:
        tree: which.
        copies: where copies go, `NAME/N`.

    Attributes:
        copies: as given.
        looks: how many there were.
        faults: what a server would have failed at.
        seen: version -> its files, at its first sight.
    """

    def __init__(self, tree: WatchedTree, copies: Path) -> None:
        self._tree, self.copies = tree, copies
        self.looks = 0
        self.faults: list[str] = []
        self.seen: dict[str, Files] = {}

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Looks for as long as the block takes, and once more."""
        done = threading.Event()

        def work() -> None:
            while not done.wait(LOOK_SECONDS):
                self.look()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.look()

    def look(self) -> None:
        """Looks once."""
        self.looks += 1
        try:
            sees = self._tree.sees(files := self._tree.files())
            # On a disk a listing takes a while: what came meanwhile is listed now.
            files = self._tree.files() if sees - {*self.seen} else files
            for version in sees | {*self.seen}:
                self._look_at(version, files)
            if CONFIG in files:
                self._read_config(sees)
            if LISTING_NAME in files:
                self._read_listing(sees)
        except Exception as error:  # whatever a server would meet
            self.faults.append(f"look {self.looks}: {error!r}")

    def _look_at(self, version: str, files: Files) -> None:
        prefix = f"{version}/"
        mine = {each: files[each] for each in files if each.startswith(prefix)}
        if version not in self.seen:
            self.seen[version] = mine
            for name in mine:
                (self.copies / name).parent.mkdir(parents=True, exist_ok=True)
                self._tree.copy(name, self.copies / name)
            check_whole(str(self.copies / version))
        elif mine != self.seen[version]:
            raise AssertionError(f"{version} is no longer what it was")

    def _text_of(self, name: str) -> str:
        copy = self.copies / name
        copy.unlink(missing_ok=True)
        self._tree.copy(name, copy)
        return copy.read_text()

    def _read_listing(self, sees: set[str]) -> None:
        lines = map(strict_json.loads, self._text_of(LISTING_NAME).splitlines())
        listed = {line["release"] for line in lines}
        assert listed and listed <= sees

    def _read_config(self, sees: set[str]) -> None:
        config = text_format.Parse(self._text_of(CONFIG), ModelServerConfig())
        for model in config.model_config_list.config:
            loaded = model.model_version_policy.specific.versions
            assert {*model.version_labels.values()} <= {*loaded}
            assert {f"{model.name}/{each}" for each in loaded} <= sees


@dataclass(frozen=True)
class Moment:
    """When so many new files with names of a pattern have been seen."""

    pattern: str
    count: int = 1
    seconds: float = 0  # after that


def kill_at(moment: Moment, tree: WatchedTree, command: Sequence[str]) -> str | None:
    """Starts `quern-export` and kills all its processes at a moment.

    Returns:
        What it printed where it had ended before, with status 0.
    """
    before = {*tree.files().items(), *tree.staged().items()}
    process = start_export(command)
    met: set[tuple[str, object]] = set()
    while len(met) < moment.count and process.poll() is None:
        time.sleep(0.0005)
        now = {*tree.staged().items(), *tree.files().items()} - before
        met |= {each for each in now if re.fullmatch(moment.pattern, each[0])}
    time.sleep(moment.seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    printed, _ = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), (moment, printed)
    return None if process.returncode else printed


def start_export(command: Sequence[str]) -> subprocess.Popen[str]:
    """Starts `quern-export` in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.export", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_export(command: Sequence[str]) -> str:
    """Runs `quern-export` to its end, which has to be good; returns what it printed."""
    process = start_export(command)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed
