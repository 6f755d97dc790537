# SPDX-License-Identifier: Apache-2.0
"""Variables of modules by the names checkpoints give them, and what does not fit."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from preprocessing.foundation.commands import UsageError, first_of
from trainer.compute.sharded_variables import is_sharded

VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def named_variables(objects: Mapping[str, tf.Module]) -> dict[str, Any]:
    """Returns each variable under the name a checkpoint gives it.

    The name is the shortest path of attributes, found breadth first as
    `tf.train.Checkpoint` does; a shared variable has one name. One that a parameter
    server keeps in shards is one variable, its shards have no names.

    Args:
        objects: modules by the name they are saved under.
    """
    root = tf.train.Checkpoint(**objects)
    view = tf.train.TrackableView(root)  # Holds the root by a weak reference only.
    found = {}
    seen = {id(root)}
    waiting = deque([("", root)])
    while waiting:
        path, node = waiting.popleft()
        if isinstance(node, tf.Variable) or is_sharded(node):
            found[path] = node
            continue
        for name, child in view.children(node).items():
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append((f"{path}/{name}" if path else name, child))
    return found


def read_value(variable: Any) -> tf.Tensor:
    """Returns a variable's value as a tensor in host memory.

    Of copies on several devices it is the first; shards are joined. On a CPU nothing is
    copied here: the tensor shares the variable's memory, and the next update of the
    variable, seeing that, writes to memory of its own.
    """
    with tf.device("CPU:0"):
        return tf.identity(tf.convert_to_tensor(variable))


def check_names(
    stored: Mapping[str, tuple[int, ...]],
    variables: Mapping[str, Any],
    checkpoint: str,
) -> None:
    """Checks that a checkpoint holds exactly `variables`.

    Args:
        stored: the shapes in the checkpoint, by name.
        variables: what is to be restored, by name; of stored names, those that begin
            with none of these' first names are ignored.
        checkpoint: how errors call the checkpoint.

    Raises:
        UsageError: names the first variables that are missing, left over or of
            another shape.
    """
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    tops = {name.split("/")[0] for name in wanted}
    known = {name for name in stored if name.split("/")[0] in tops}
    complaints = {
        "it lacks": sorted(set(wanted) - known),
        "the model has no place for": sorted(known - set(wanted)),
        "shapes differ for": [
            f"{name} (stored {list(stored[name])}, wanted {list(wanted[name])})"
            for name in sorted(set(wanted) & known)
            if stored[name] != wanted[name]
        ],
    }
    found = [f"{what} {first_of(names)}" for what, names in complaints.items() if names]
    if found:
        raise UsageError(
            f"wanted the variables of this configuration in {checkpoint}, "
            f"{'; '.join(found)}. Use the Quern and the configuration that wrote it"
        )
