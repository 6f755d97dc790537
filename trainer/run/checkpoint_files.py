# SPDX-License-Identifier: Apache-2.0
"""Where checkpoints lie, what is beside their weights, and which ones count.

    checkpoints/step-00000500/
        weights.index, weights.data-*   tf.train.Checkpoint(model=…, optimizer=…)
        state.json                      position, dataset hash, seed, file sizes

`state.json` is the last file written and the first removed: a directory without it does
not count, which is what object stores, that cannot rename, rely on.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from trainer.run.position import Fault, Position
from trainer.run.retention import best_steps
from trainer.run.run_directory import CHECKPOINTS_NAME

STATE_NAME = "state.json"
WEIGHTS_NAME = "weights"
# What `state.json` calls attributes of a `Position` that have got other names since.
_STORED_NAMES = {"loss_sum": "nats", "weight_sum": "weight"}
_STEP_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class State:
    """What `state.json` holds beside the sizes of the checkpoint's files.

    Attributes:
        position: where the run stood.
        dataset_hash: of the dataset it was trained on.
        seed: of the run.
        elapsed_seconds: training time of all invocations up to there.
    """

    position: Position
    dataset_hash: str
    seed: int
    elapsed_seconds: float = 0.0


class DamagedCheckpoint(UsageError):
    """A checkpoint that counts as complete and is not whole.

    Attributes:
        step: its step.
        what: what is wrong with it.
    """

    def __init__(self, run: str, step: int, what: str) -> None:
        super().__init__(
            f"wanted a whole checkpoint in {step_directory(run, step)}, {what}. Remove "
            "that directory to go on from the checkpoint before it"
        )
        self.step, self.what = step, what


def steps(run: str) -> list[int]:
    """Returns the steps of the complete checkpoints of a run, ascending."""
    return sorted(step for step, complete in _directories(run).items() if complete)


def remove_incomplete(run: str) -> None:
    """Removes what a kill left half-removed or half-uploaded.

    Only for the one process that saves, while it does not.
    """
    for step, complete in _directories(run).items():
        if not complete:
            storage.remove_tree(step_directory(run, step))


def step_directory(run: str, step: int) -> str:
    """Returns the directory of a step's checkpoint."""
    return storage.join(run, CHECKPOINTS_NAME, f"step-{step:08d}")


def choose_step(run: str, step: int | Literal["best"] | None) -> int:
    """Returns the step of a complete checkpoint.

    Args:
        run: the run's directory.
        step: a step; "best" is that of the lowest validation loss among the complete
            checkpoints; None is the last.

    Raises:
        UsageError: there is no such complete checkpoint.
    """
    found = steps(run)
    if not found:
        raise UsageError(
            f"wanted a complete checkpoint in {run}, found none. Train it first"
        )
    listed = ", ".join(map(str, found))
    if step == "best":
        best = [step for step in best_steps(run) if step in found]
        if not best:
            raise UsageError(
                f"wanted the best checkpoint of {run}, found no evaluation of any that "
                f"is there. Name one of the steps {listed}"
            )
        return best[0]
    if step is not None and step not in found:
        raise UsageError(
            f"wanted the checkpoint of step {step} in {run}, found steps {listed}. "
            "Name one of these"
        )
    return found[-1] if step is None else step


def read_state(run: str, step: int) -> State:
    """Returns the state of a complete checkpoint, checking its files' sizes.

    Raises:
        DamagedCheckpoint: `state.json` is damaged, or a file is missing or has another
            size.
    """
    directory = step_directory(run, step)
    try:
        text = storage.read_bytes(storage.join(directory, STATE_NAME))
        state, sizes = _parsed(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedCheckpoint(run, step, f"{STATE_NAME} cannot be read") from None
    paths = [storage.join(directory, name) for name in sizes]
    found = storage.file_sizes(paths)
    for (name, size), there in zip(sizes.items(), found, strict=True):
        if there is None:
            raise DamagedCheckpoint(run, step, f"{name} is missing")
        if there != size:
            raise DamagedCheckpoint(run, step, f"{name} has {there} of {size} bytes")
    return state


def state_bytes(state: State, sizes: Mapping[str, int]) -> bytes:
    """Returns a `state.json`, its own SHA-256 included.

    Args:
        state: what a resume needs beside the weights.
        sizes: bytes of each other file of the checkpoint.
    """
    fields = {**dataclasses.asdict(state), "files": dict(sizes)}
    position = fields["position"].items()
    fields["position"] = {_STORED_NAMES.get(name, name): x for name, x in position}
    marked = {**fields, "sha256": _digest(fields)}
    return (strict_json.dumps(marked, indent=1) + "\n").encode()


def remove(run: str, step: int) -> None:
    """Removes a checkpoint; it is invisible from the first moment on."""
    directory = step_directory(run, step)
    storage.remove_file(storage.join(directory, STATE_NAME))
    storage.remove_tree(directory)


def set_aside(run: str, step: int) -> None:
    """Takes a damaged checkpoint out of sight; for the chief, once all have read.

    Locally it is kept as `damaged-step-…`, to be looked at; a bucket cannot rename, so
    there only its `state.json` is removed, and the rest with the next save.
    """
    directory = step_directory(run, step)
    if storage.is_cloud(run):
        storage.remove_file(storage.join(directory, STATE_NAME))
        return
    kept = os.path.join(os.path.dirname(directory), f"damaged-step-{step:08d}")
    storage.remove_tree(kept)
    os.rename(directory, kept)


def reason(error: Exception) -> str:
    """Returns what went wrong, without TensorFlow's names for nodes and operations."""
    text = str(getattr(error, "message", None) or error).strip()
    line = (text or type(error).__name__).splitlines()[0]
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*?\]", "", line)


def _directories(run: str) -> dict[int, bool]:
    """Returns the steps that have a directory, and whether each is complete."""
    directory = storage.join(run, CHECKPOINTS_NAME)
    found = [_STEP_NAME.fullmatch(name) for name in storage.list_names(directory)]
    return {
        int(match[1]): storage.exists(storage.join(directory, match[0], STATE_NAME))
        for match in found
        if match
    }


def _parsed(text: bytes) -> tuple[State, dict[str, int]]:
    """Returns what a `state.json` holds: the state, and the files' sizes.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it holds something else.
    """
    fields: dict[str, Any] = strict_json.loads(text)
    # Those of before this checksum have none.
    if fields.pop("sha256", None) not in (None, _digest(fields)):
        raise ValueError("a wrong checksum")
    sizes, stored = fields.pop("files"), fields.pop("position")
    names = {old: new for new, old in _STORED_NAMES.items()}
    position = {names.get(name, name): value for name, value in stored.items()}
    faults = tuple(Fault(**fault) for fault in position.pop("faults", ()))
    return State(Position(**position, faults=faults), **fields), sizes


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        strict_json.dumps(fields, sort_keys=True).encode()
    ).hexdigest()
