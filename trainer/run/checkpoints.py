# SPDX-License-Identifier: Apache-2.0
"""Restores checkpoints, strictly: every value's checksum, every variable's name.

A resume takes the newest whole one (`find_newest`), an evaluation or export the one
it names (`open_run`). Variables are named by attributes
(`model/layers/0/attention/qkv`), so a model may gain a part without losing the names
of the others. They are restored by name and value: it does not matter on how many
devices or in how many shards they lay.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tensorflow as tf

from preprocessing.claims.scratch import scratch_directory
from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.globs import literal_directory
from trainer.models.functional import trained_places, weight_places
from trainer.models.model import LanguageModel, PrecisionConfig, build_model
from trainer.run.checkpoint_files import (
    WEIGHTS_NAME,
    DamagedCheckpoint,
    State,
    choose_step,
    read_state,
    reason,
    step_directory,
    steps,
)
from trainer.run.config import RunConfig
from trainer.run.run_directory import read_run
from trainer.run.variable_names import VALUE_SUFFIX, check_names, named_variables

__all__ = [
    "DamagedCheckpoint",
    "Newest",
    "Run",
    "State",
    "choose_step",
    "computing_in",
    "find_newest",
    "open_run",
    "read_state",
    "restore",
    "restore_averages",
    "step_directory",
    "steps",
]


@dataclass(frozen=True)
class Run:
    """A run opened for evaluation or export, its model restored.

    `directory` is the run's, empty where it has none.
    """

    config: RunConfig
    manifest: Manifest
    tokenizer_path: str
    model: LanguageModel
    step: int
    directory: str = ""


@dataclass(frozen=True)
class Newest:
    """The newest whole checkpoint of a run.

    Attributes:
        step: its step; 0 where the run has no checkpoint at all.
        state: its state; None where there is none.
        damaged: the damaged ones after it, newest first.
    """

    step: int = 0
    state: State | None = None
    damaged: tuple[DamagedCheckpoint, ...] = ()

    @property
    def notes(self) -> list[str]:
        """One sentence per damaged checkpoint."""
        return [
            f"the checkpoint of step {each.step:,} is damaged ({each.what}); it is set "
            f"aside, and the run goes on from step {self.step:,}"
            for each in self.damaged
        ]


def find_newest(run: str) -> Newest:
    """Finds the newest checkpoint whose files and values are whole; changes nothing.

    Every value is read once for its checksum, one variable at a time: 35 ms for the
    165 MB of the preset 14m, from the page cache.

    Raises:
        UsageError: there are checkpoints, and all are damaged.
    """
    damaged: list[DamagedCheckpoint] = []
    for step in reversed(steps(run)):
        try:
            state = read_state(run, step)
            _check_values(run, step)
        except DamagedCheckpoint as error:
            damaged.append(error)
        else:
            return Newest(step, state, tuple(damaged))
    if damaged:
        newest = step_directory(run, damaged[0].step)
        raise UsageError(
            f"wanted a whole checkpoint to resume {run} from, found all "
            f"{len(damaged)} damaged; of the newest, {newest}, {damaged[0].what}. "
            "Restore one from a copy, or begin again in another --run"
        )
    return Newest()


def open_run(
    run: str,
    step: int | Literal["best"] | None = None,
    precision: PrecisionConfig | None = None,
) -> Run:
    """Opens a run and restores its model; call it inside `strategy.scope()`.

    A run that averages its weights (`optimizer.ema_decay`) is opened with the averages.

    Args:
        run: the run's directory, local or cloud.
        step: which checkpoint; "best" is the one of the lowest validation loss, None
            the last complete one.
        precision: what the model computes in; None is what it was trained in.

    Raises:
        UsageError: `run` is not a run, or holds no such whole checkpoint.
    """
    files = read_run(run)
    chosen = choose_step(run, step)
    read_state(run, chosen)
    config = files.config
    model = build_model(
        config.model,
        files.manifest.vocab_size,
        precision or config.precision,
        config.seed,
    )
    averaged = config.optimizer.ema_decay > 0
    (restore_averages if averaged else _restore_model)(run, chosen, model)
    return Run(config, files.manifest, files.tokenizer_path, model, chosen, run)


def computing_in(opened: Run, precision: PrecisionConfig) -> Run:
    """Returns a run with a copy of its model that computes in another type."""
    config = opened.config
    vocab_size = opened.manifest.vocab_size
    model = build_model(config.model, vocab_size, precision, config.seed)
    values = named_variables({"model": opened.model})
    for name, variable in named_variables({"model": model}).items():
        variable.assign(values[name])
    return dataclasses.replace(opened, model=model)


def restore(run: str, step: int, modules: Mapping[str, tf.Module]) -> None:
    """Restores modules from a complete checkpoint, strictly.

    Call `read_state` or `find_newest` first: they check that the files are whole.

    Args:
        run: the run's directory.
        step: of a complete checkpoint.
        modules: modules by the name they were saved under; what was saved under other
            names is ignored.

    Raises:
        UsageError: a variable is missing, has no place, or differs in shape.
        DamagedCheckpoint: a value is not what its checksum says.
    """
    variables = named_variables(modules)
    with _stored_values(run, step) as stored:
        check_names(stored.shapes, variables, step_directory(run, step))
        for name, variable in variables.items():
            variable.assign(stored.read(name))


def restore_averages(run: str, step: int, model: LanguageModel) -> None:
    """Restores a model with the averages of its weights, `optimizer/averages/i`.

    Args:
        run: the run's directory.
        step: of a complete checkpoint.
        model: its trained weights are numbered in the order of `weight_places`.

    Raises:
        UsageError: a variable or an average is missing, or differs in shape.
        DamagedCheckpoint: a value is not what its checksum says.
    """
    named = named_variables({"model": model})
    averages = {
        f"optimizer/averages/{index}": place.variable
        for index, place in enumerate(trained_places(weight_places(model)))
    }
    sources = {id(variable): name for name, variable in averages.items()}
    with _stored_values(run, step) as stored:
        shapes = {
            name: shape
            for name, shape in stored.shapes.items()
            if name in averages or not name.startswith("optimizer/")
        }
        check_names(shapes, {**named, **averages}, step_directory(run, step))
        for name, variable in named.items():
            variable.assign(stored.read(sources.get(id(variable), name)))


def _restore_model(run: str, step: int, model: LanguageModel) -> None:
    restore(run, step, {"model": model})


class _StoredValues:
    """The values of one checkpoint by variable name."""

    def __init__(self, run: str, step: int, prefix: str) -> None:
        self._run, self._step = run, step
        with self._damage_named():
            self._reader = tf.train.load_checkpoint(prefix)
        shapes: dict[str, list[int]] = self._reader.get_variable_to_shape_map()
        self.shapes = {
            key.removesuffix(VALUE_SUFFIX): tuple(shape)
            for key, shape in shapes.items()
            if key.endswith(VALUE_SUFFIX)
        }
        self._keys = sorted(shapes)

    def read(self, name: str) -> np.ndarray:
        """Returns a value, its checksum verified."""
        with self._damage_named():
            value: np.ndarray = self._reader.get_tensor(name + VALUE_SUFFIX)
        return value

    def check(self) -> None:
        """Verifies the checksum of everything, the graph of objects included."""
        for key in self._keys:
            with self._damage_named():
                self._reader.get_tensor(key)

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, ValueError, IndexError) as error:
            # The last is what an index with a wrong size in its footer raises.
            raise DamagedCheckpoint(self._run, self._step, reason(error)) from None


@contextlib.contextmanager
def _stored_values(run: str, step: int) -> Iterator[_StoredValues]:
    """Opens a complete checkpoint's values; one in a bucket is copied here first."""
    with _local_copy(step_directory(run, step)) as directory:
        yield _StoredValues(run, step, os.path.join(directory, WEIGHTS_NAME))


def _check_values(run: str, step: int) -> None:
    with _stored_values(run, step) as stored:
        stored.check()


@contextlib.contextmanager
def _local_copy(directory: str) -> Iterator[str]:
    """Gives a local directory with the files of a checkpoint."""
    if not storage.is_cloud(directory):
        with literal_directory(directory) as name:
            yield name
        return
    with scratch_directory() as copy:
        for name in storage.list_names(directory):
            with (
                storage.open_input(storage.join(directory, name)) as source,
                open(os.path.join(copy, name), "wb") as target,
            ):
                shutil.copyfileobj(source, target)
        yield copy
