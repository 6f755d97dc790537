# SPDX-License-Identifier: Apache-2.0
"""Saves checkpoints while training goes on, each complete or invisible.

`save` takes the values of all variables into host memory and returns; a thread writes
them under a hidden name in `checkpoints/`, waits for the disk, and renames the
directory. Then it removes the checkpoints that the run does not keep.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import tensorflow as tf

from preprocessing.claims.scratch import scratch_directory
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError
from trainer.run.checkpoint_files import (
    STATE_NAME,
    WEIGHTS_NAME,
    State,
    reason,
    remove,
    remove_incomplete,
    state_bytes,
    step_directory,
    steps,
)
from trainer.run.checkpoint_values import not_finite, write_values
from trainer.run.run_directory import CHECKPOINTS_NAME
from trainer.run.variable_names import named_variables, read_value


class CheckpointWriter:
    """Writes the checkpoints of a run, one at a time; the chief alone makes one."""

    def __init__(
        self,
        run: str,
        modules: Mapping[str, tf.Module],
        kept: Callable[[Collection[int]], Collection[int]],
        write: Callable[[str, Mapping[str, tf.Tensor]], None] = write_values,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Takes the modules to save; nothing is written yet.

        Args:
            run: the run's directory, local or cloud; it is there.
            modules: the modules to save, by the name they are restored under.
            kept: of the steps of all complete checkpoints, those not to be removed.
            write: writes values by path under a prefix of files.
            check: is called before a checkpoint appears or goes; what `WorkError` it
                raises is the save's.
        """
        self._run, self._kept, self._write_values = run, kept, write
        self._check = check
        self._variables = named_variables(modules)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._not_finite: list[str] = []

    def save(self, state: State) -> None:
        """Begins to save the variables as they are now; they may change after it.

        It waits for the save before, and does nothing if that failed: `failure` and
        `wait` tell, where all workers can hear of it. The values take their size in
        host memory until they are written.
        """
        if self._pending is not None and self._pending.exception() is not None:
            return
        values = {name: read_value(each) for name, each in self._variables.items()}
        self._pending = self._thread.submit(self._write, state, values)

    def wait(self) -> None:
        """Waits until what was saved is committed.

        Raises:
            WorkError: it cannot be written; earlier checkpoints are untouched.
        """
        if self._pending is not None:
            self._pending.result()

    def failure(self) -> BaseException | None:
        """Returns the `WorkError` of a save that has failed by now; does not wait."""
        if self._pending is None or not self._pending.done():
            return None
        return self._pending.exception()

    def not_finite(self) -> list[str]:
        """Returns which variables of the last checkpoint hold NaN or infinities."""
        return self._not_finite

    def close(self) -> None:
        """Waits, and removes what is not kept any more: the last may not be the best.

        Raises:
            WorkError: as `wait`, or a checkpoint cannot be removed.
        """
        try:
            self.wait()
            with _failure_told(self._run, "remove old checkpoints"):
                self._remove_old()
        finally:
            self._thread.shutdown()

    def _write(self, state: State, values: Mapping[str, tf.Tensor]) -> None:
        step = state.position.step
        with _failure_told(self._run, f"save step {step}"):
            local = not storage.is_cloud(self._run)
            with _hidden_directory(self._run if local else None) as directory:
                self._write_values(os.path.join(directory, WEIGHTS_NAME), values)
                self._check()
                _publish(directory, step_directory(self._run, step), state)
            self._remove_old()
        self._not_finite = not_finite(values)

    def _remove_old(self) -> None:
        self._check()
        remove_incomplete(self._run)
        there = steps(self._run)
        for step in sorted(set(there) - set(self._kept(there))):
            remove(self._run, step)


def _publish(directory: str, target: str, state: State) -> None:
    """Makes the files in `directory` visible as the checkpoint `target`."""
    names = sorted(os.listdir(directory))
    sizes = {name: os.path.getsize(os.path.join(directory, name)) for name in names}
    marker = state_bytes(state, sizes)
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
    storage.sync_tree(directory)
    # A half-removed checkpoint of this step, without its marker, may be in the way.
    storage.remove_tree(target)
    os.rename(directory, target)
    # Its name too, before those of older ones go: a power cut must leave one.
    storage.sync_directory(os.path.dirname(target))


@contextlib.contextmanager
def _hidden_directory(run: str | None) -> Iterator[str]:
    """Gives a fresh hidden directory in a run, in the system's own place if None."""
    if run is None:
        with scratch_directory() as directory:
            yield directory
        return
    parent = os.path.join(run, CHECKPOINTS_NAME)
    # Not the run's directory too: where that has vanished, nothing is worth saving.
    with contextlib.suppress(FileExistsError):
        os.mkdir(parent)
        storage.sync_directory(run)
    _remove_leftovers(parent)
    directory = os.path.join(parent, f".{uuid.uuid4().hex}.tmp")
    os.mkdir(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers(parent: str) -> None:
    """Removes what a killed process left half-written."""
    for name in os.listdir(parent):
        if name.startswith(".") and name.endswith(".tmp"):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


@contextlib.contextmanager
def _failure_told(run: str, wanted: str) -> Iterator[None]:
    """Turns whatever storage, a bucket's client or TensorFlow raise into one line."""
    try:
        yield
    except WorkError:
        raise
    except Exception as error:
        raise WorkError(
            f"wanted to {wanted} in {run}, failed: {reason(error)}. Free some "
            "space, see that the directory is there and may be written, and run the "
            "same command: it resumes from the last complete checkpoint"
        ) from error
