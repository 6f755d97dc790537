# SPDX-License-Identifier: Apache-2.0
"""Pairs of inputs and targets as examples, and the room a row has for them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.objectives.examples import Examples, joined
from preprocessing.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class PairRoom:
    """The ids of a row of inputs and of one of targets.

    Where both are one sequence, `inputs` is for both and `targets` is None.
    """

    inputs: int
    targets: int | None


def make_pairs(
    tokenizer: Tokenizer,
    inputs: pa.LargeStringArray,
    targets: pa.LargeStringArray,
    room: PairRoom,
) -> Examples:
    """Encodes pairs as [BOS] inputs [EOS] targets EOS.

    The EOS between them is there where both sides stand apart. In one sequence nothing
    comes between: a prompt is served as [BOS] inputs, and the answer follows. A pair
    that does not fit is left out and named, never cut.

    Args:
        tokenizer: encodes.
        inputs: texts [n].
        targets: their targets [n].
        room: what must fit.
    """
    input_ids, input_lengths = tokenizer.encode_batch(inputs)
    target_ids, target_lengths = tokenizer.encode_batch(targets)
    bos, apart = int(tokenizer.bos_id is not None), int(room.targets is not None)
    prefix = bos + input_lengths + apart
    lengths = prefix + target_lengths + 1
    if room.targets is None:
        sides = [(lengths, room.inputs)]
    else:
        sides = [(prefix, room.inputs), (lengths - prefix, room.targets)]
    kept, too_long = np.ones(len(inputs), bool), []
    for found, limit in sides:
        places = np.flatnonzero(kept & (found > limit))
        too_long += [(int(at), int(found[at]), limit) for at in places]
        kept[places] = False
    special = np.array([tokenizer.bos_id or 0, tokenizer.eos_id], np.uint32)
    one = np.ones(len(inputs), np.int64)
    runs = [
        (0 * one, bos * one),
        (2 + np.cumsum(input_lengths) - input_lengths, input_lengths),
        (one, apart * one),
        (
            2 + len(input_ids) + np.cumsum(target_lengths) - target_lengths,
            target_lengths,
        ),
        (one, one),
    ]
    return Examples(
        ids=joined(
            np.concatenate([special, input_ids, target_ids]),
            [(start[kept], length[kept]) for start, length in runs],
        ),
        lengths=lengths[kept],
        document=np.flatnonzero(kept),
        start=np.zeros(int(kept.sum()), np.int64),
        prefix=prefix[kept],
        too_long=tuple(sorted(too_long)),
    )
