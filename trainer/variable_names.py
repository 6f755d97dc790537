# SPDX-License-Identifier: Apache-2.0
"""Compares the variables of modules with those of a checkpoint, by readable name."""

from collections import deque
from collections.abc import Mapping

import tensorflow as tf

from preprocessing.commands import UsageError

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_SHOWN = 3


def check_names(prefix: str, checkpoint: str, objects: Mapping[str, tf.Module]) -> None:
    """Checks that a checkpoint holds exactly the variables of `objects`.

    Args:
        prefix: what `tf.train.Checkpoint.read` takes.
        checkpoint: how errors call the checkpoint.
        objects: modules by the name they were saved under; what was saved under other
            names is ignored.

    Raises:
        UsageError: names the first variables that are missing, left over or of
            another shape.
    """
    stored = {
        name.removesuffix(_SUFFIX): tuple(shape)
        for name, shape in tf.train.list_variables(prefix)
        if name.endswith(_SUFFIX) and name.split("/")[0] in objects
    }
    wanted = variable_shapes(objects)
    complaints = {
        "it lacks": sorted(set(wanted) - set(stored)),
        "the model has no place for": sorted(set(stored) - set(wanted)),
        "shapes differ for": [
            f"{name} (stored {list(stored[name])}, wanted {list(wanted[name])})"
            for name in sorted(set(wanted) & set(stored))
            if stored[name] != wanted[name]
        ],
    }
    found = [
        f"{what} {_shortened(names)}" for what, names in complaints.items() if names
    ]
    if found:
        raise UsageError(
            f"wanted the variables of this configuration in {checkpoint}, "
            f"{'; '.join(found)}. Use the Quern and the configuration that wrote it"
        )


def variable_shapes(objects: Mapping[str, tf.Module]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each variable under the name a checkpoint gives it.

    The name is the shortest path of attributes, found breadth first as
    `tf.train.Checkpoint` does; a shared variable has one name.
    """
    root = tf.train.Checkpoint(**objects)
    view = tf.train.TrackableView(root)  # Holds the root by a weak reference only.
    shapes = {}
    seen = {id(root)}
    waiting = deque([("", root)])
    while waiting:
        path, node = waiting.popleft()
        if isinstance(node, tf.Variable):
            shapes[path] = tuple(node.shape)
        for name, child in view.children(node).items():
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append((f"{path}/{name}" if path else name, child))
    shapes.pop("save_counter", None)
    return shapes


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
