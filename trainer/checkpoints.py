# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run, each complete or invisible.

    checkpoints/step-00000500/
        weights.index, weights.data-*   tf.train.Checkpoint(model=…, optimizer=…)
        state.json                      position, dataset hash, seed, file sizes

Files are written under a hidden name in `checkpoints/` and the directory is renamed at
the end. `state.json` is the last file written and the first removed: a directory
without it does not count, which is what object stores, that cannot rename, rely on.
Variables are named by attributes (`model/blocks/0/attention/query`), so a model may
gain a part without losing the names of the others.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from preprocessing import storage
from preprocessing.commands import UsageError, WorkError
from preprocessing.manifest import Manifest
from trainer.config import RunConfig
from trainer.loop import Position
from trainer.models.model import LanguageModel, PrecisionConfig, build_model
from trainer.run_directory import CHECKPOINTS_NAME, read_run
from trainer.variable_names import check_names

STATE_NAME = "state.json"
_WEIGHTS_NAME = "weights"
_STEP_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class State:
    """What `state.json` holds beside the sizes of the checkpoint's files."""

    position: Position
    dataset_hash: str
    seed: int


@dataclass(frozen=True)
class Run:
    """A run opened for evaluation or export, its model restored."""

    config: RunConfig
    manifest: Manifest
    tokenizer_path: str
    model: LanguageModel
    step: int


def open_run(
    run: str, step: int | None = None, precision: PrecisionConfig | None = None
) -> Run:
    """Opens a run and restores its model; call it inside `strategy.scope()`.

    Args:
        run: the run's directory, local or cloud.
        step: which checkpoint; None is the last complete one.
        precision: what the model computes in; None is what it was trained in.

    Raises:
        UsageError: `run` is not a run, or holds no such whole checkpoint.
    """
    files = read_run(run)
    step = choose_step(run, step)
    read_state(run, step)
    config = files.config
    model = build_model(
        config.model,
        files.manifest.vocab_size,
        precision or config.precision,
        config.seed,
    )
    restore(run, step, {"model": model})
    return Run(config, files.manifest, files.tokenizer_path, model, step)


def steps(run: str) -> list[int]:
    """Returns the steps of the complete checkpoints of a run, ascending."""
    directory = storage.join(run, CHECKPOINTS_NAME)
    found = [_STEP_NAME.fullmatch(name) for name in storage.list_names(directory)]
    return sorted(
        int(match[1])
        for match in found
        if match and storage.exists(storage.join(directory, match[0], STATE_NAME))
    )


def read_state(run: str, step: int) -> State:
    """Returns the state of a complete checkpoint, checking its files' sizes.

    Raises:
        UsageError: `state.json` is damaged, or a file is missing or has another size.
    """
    directory = step_directory(run, step)
    try:
        fields = json.loads(storage.read_bytes(storage.join(directory, STATE_NAME)))
        sizes = fields.pop("files")
        state = State(Position(**fields.pop("position")), **fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(run, step, f"{STATE_NAME} cannot be read") from None
    for name, size in sizes.items():
        try:
            found = storage.file_size(storage.join(directory, name))
        except FileNotFoundError:
            raise _damaged(run, step, f"{name} is missing") from None
        if found != size:
            raise _damaged(run, step, f"{name} has {found} of {size} bytes")
    return state


def save(
    run: str,
    state: State,
    parts: Mapping[str, tf.Module],
    chief: bool,
    keep_last: int,
) -> None:
    """Writes one checkpoint and removes those beyond `keep_last`.

    Under several workers every worker calls this, since reading some variables is a
    collective act; only the chief publishes.

    Args:
        run: the run's directory.
        state: the position it is written at.
        parts: the modules to save, by the name they are restored under.
        chief: whether this process publishes.
        keep_last: complete checkpoints to keep, this one included.

    Raises:
        WorkError: the checkpoint cannot be written; earlier ones are untouched.
    """
    step = state.position.step
    remote = storage.is_cloud(run) or not chief
    parent = None if remote else storage.join(run, CHECKPOINTS_NAME)
    try:
        if parent is not None:
            storage.make_directory(parent)
            _remove_leftovers(parent)
        with _hidden_directory(parent) as directory:
            checkpoint = tf.train.Checkpoint(**parts)
            checkpoint.write(os.path.join(directory, _WEIGHTS_NAME))
            if chief:
                _publish(directory, step_directory(run, step), state)
    except (OSError, tf.errors.OpError) as error:
        raise WorkError(
            f"wanted to save step {step} in {run}, failed: {_first_line(error)}. "
            "Free some space and run the same command: it resumes from the last "
            "complete checkpoint"
        ) from error
    if chief:
        for old in steps(run)[:-keep_last]:
            remove(run, old)


def restore(run: str, step: int, parts: Mapping[str, tf.Module]) -> None:
    """Restores modules from a complete checkpoint, strictly.

    Call `read_state` first: it checks that the files are whole.

    Raises:
        UsageError: a variable is missing, has no place, or differs in shape; or the
            stored values are damaged.
    """
    with _local_copy(step_directory(run, step)) as directory:
        prefix = os.path.join(directory, _WEIGHTS_NAME)
        try:
            check_names(prefix, step_directory(run, step), parts)
            checkpoint = tf.train.Checkpoint(**parts)
            checkpoint.read(prefix).assert_existing_objects_matched().expect_partial()
        except (tf.errors.OpError, ValueError) as error:
            raise _damaged(run, step, _first_line(error)) from error


def remove(run: str, step: int) -> None:
    """Removes a checkpoint; it is invisible from the first moment on."""
    directory = step_directory(run, step)
    storage.remove_file(storage.join(directory, STATE_NAME))
    storage.remove_tree(directory)


def step_directory(run: str, step: int) -> str:
    """Returns the directory of a step's checkpoint."""
    return storage.join(run, CHECKPOINTS_NAME, f"step-{step:08d}")


def choose_step(run: str, step: int | None) -> int:
    """Returns `step`, or the last complete checkpoint's if None.

    Raises:
        UsageError: there is no such complete checkpoint.
    """
    found = steps(run)
    if not found:
        raise UsageError(
            f"wanted a complete checkpoint in {run}, found none. Train it first"
        )
    if step is not None and step not in found:
        raise UsageError(
            f"wanted the checkpoint of step {step} in {run}, found steps "
            f"{', '.join(map(str, found))}. Name one of these"
        )
    return found[-1] if step is None else step


def _publish(directory: str, target: str, state: State) -> None:
    """Makes the files in `directory` visible as the checkpoint `target`."""
    names = sorted(os.listdir(directory))
    fields: dict[str, Any] = dataclasses.asdict(state)
    fields["files"] = {
        name: os.path.getsize(os.path.join(directory, name)) for name in names
    }
    marker = (json.dumps(fields, indent=1) + "\n").encode()
    if storage.is_cloud(target):
        for name in names:
            with (
                open(os.path.join(directory, name), "rb") as source,
                storage.atomic_file(storage.join(target, name)) as copy,
            ):
                shutil.copyfileobj(source, copy)
        storage.write_atomically(storage.join(target, STATE_NAME), marker)
        return
    with open(os.path.join(directory, STATE_NAME), "wb") as file:
        file.write(marker)
    for name in [*names, STATE_NAME]:
        _to_disk(os.path.join(directory, name))
    # A half-removed checkpoint of this step, without its marker, may be in the way.
    storage.remove_tree(target)
    os.rename(directory, target)


def _to_disk(path: str) -> None:
    """Waits until a file's bytes are on the disk, so a power cut cannot lose them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _hidden_directory(parent: str | None) -> Iterator[str]:
    """Gives a fresh hidden directory, in the system's own place if parent is None."""
    if parent is None:
        with tempfile.TemporaryDirectory(prefix="quern-") as directory:
            yield directory
        return
    directory = os.path.join(parent, f".{uuid.uuid4().hex}.tmp")
    os.mkdir(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _local_copy(directory: str) -> Iterator[str]:
    """Gives a local directory with the files of a checkpoint."""
    if not storage.is_cloud(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="quern-") as copy:
        for name in storage.list_names(directory):
            with (
                storage.open_input(storage.join(directory, name)) as source,
                open(os.path.join(copy, name), "wb") as target,
            ):
                shutil.copyfileobj(source, target)
        yield copy


def _remove_leftovers(parent: str) -> None:
    """Removes what a killed process left half-written."""
    for name in os.listdir(parent):
        if name.startswith(".") and name.endswith(".tmp"):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


def _damaged(run: str, step: int, what: str) -> UsageError:
    return UsageError(
        f"wanted a whole checkpoint in {step_directory(run, step)}, {what}. Remove "
        "that directory to go on from the checkpoint before it"
    )


def _first_line(error: Exception) -> str:
    """Returns what went wrong, without TensorFlow's names for nodes and operations."""
    text = str(getattr(error, "message", None) or error).strip().splitlines()[0]
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*?\]", "", text)
