# SPDX-License-Identifier: Apache-2.0
"""Windows of sequences, read by a model several at a time, in bounded memory.

    sequences    [a b c d e f g] [h i]
    windows      a b c d | e f g | h i        each on its own, at positions from 0
    groups       [a b c d]   [e f g]          windows of like length, the longest first:
                             [h i .]          little padding, POSITIONS places at most

Both what is scored and what is embedded is read this way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.models.language_model import LanguageModel

# Places of a group, padding counted: enough for a matrix product to be fast, and 128 MB
# of attention's scores for windows of 1,024 with 16 heads.
POSITIONS = 2048
# Fewer places than these cost as much as they do; above, no window is padded by more
# than a quarter of the longest one beside it.
_CHEAP_POSITIONS = 256
# A window without an end, for models that read any length.
ENDLESS = 1 << 30


class Windows(NamedTuple):
    """Pieces of sequences, int32 `[windows]` each.

    Attributes:
        starts: place of the first id among the ids of all sequences.
        lengths: ids read, 1 or more.
        skipped: how many of the first ones are read for the others' sake alone.
        owners: the sequence each is a piece of.
    """

    starts: tf.Tensor
    lengths: tf.Tensor
    skipped: tf.Tensor
    owners: tf.Tensor


class GroupRead(NamedTuple):
    """What a model makes of a group of windows; `[rows]` windows.

    Attributes:
        hidden: last hidden states `[rows, width, d_model]`.
        places: int32 `[rows, width]`, where each id lies among all sequences' ids.
        counts: bool `[rows, width]`, false for padding and what is skipped.
        windows: those of the group.
    """

    hidden: tf.Tensor
    places: tf.Tensor
    counts: tf.Tensor
    windows: Windows


def over_groups(
    model: LanguageModel,
    ids: tf.Tensor,
    windows: Windows,
    add: Callable[[GroupRead, Any], Any],
    total: Any,
) -> Any:
    """Reads all windows group by group and adds up what is made of them.

    What belongs together follows from the windows' lengths alone.

    Args:
        model: reads them.
        ids: int32 `[ids]`, those of all sequences.
        windows: what is read.
        add: gives the next total from a group and the last total, a nest of tensors.
        total: the first.

    Returns:
        The last total.
    """
    order = tf.argsort(windows.lengths, direction="DESCENDING", stable=True)
    windows = Windows(*(tf.gather(each, order) for each in windows))
    count = tf.size(windows.lengths)

    def body(first: tf.Tensor, total: Any) -> tuple[tf.Tensor, Any]:
        width = windows.lengths[first]
        alike = tf.reduce_sum(tf.cast(4 * windows.lengths >= 3 * width, tf.int32))
        rows = tf.maximum(alike - first, _CHEAP_POSITIONS // width)
        rows = tf.minimum(rows, tf.maximum(POSITIONS // width, 1))
        rows = tf.minimum(rows, count - first)
        group = Windows(*(each[first : first + rows] for each in windows))
        return first + rows, add(_read(model, ids, group, width), total)

    _, total = tf.while_loop(
        lambda first, _: first < count,
        body,
        (tf.constant(0), total),
        parallel_iterations=1,
    )
    return total


def _read(
    model: LanguageModel, ids: tf.Tensor, group: Windows, width: tf.Tensor
) -> GroupRead:
    columns = tf.broadcast_to(tf.range(width), [tf.size(group.starts), width])
    real = columns < group.lengths[:, None]
    places = tf.where(real, group.starts[:, None] + columns, 0)
    tokens = tf.where(real, tf.gather(ids, places), 0)
    hidden = model(tokens, tf.cast(real, tf.int32), columns)
    return GroupRead(hidden, places, real & (columns >= group.skipped[:, None]), group)
