# SPDX-License-Identifier: Apache-2.0
"""Decoding that writes into the state it is given, as loops of decoding do."""

import functools

import numpy as np
import tensorflow as tf

from tests.trainer.models.test_families import (
    LENGTH,
    build,
    each_family,
    read,
    slack,
    tokens,
)
from trainer.models.language_model import owned_state


@each_family
def test_single_ids_read_into_a_state_of_ones_own_equal_one_full_pass(
    name: str,
) -> None:
    """A row rests in every third step; what the state was copied from stays."""
    model, ids = build(name), tokens(3)
    whole, starts = read(model, ids), tf.constant([4, 0, 9])
    step = tf.function(functools.partial(model.decode, owned=True), autograph=False)
    empty = model.initial_state(tf.constant(3), LENGTH)
    _, first = model.decode(ids[:, :9], empty, tf.zeros([3], tf.int32), starts)
    before = [tf.identity(x).numpy().copy() for x in tf.nest.flatten(first)]
    state, places = owned_state(first), starts.numpy()
    for number in range(12):
        reads = np.array([number % 3 != row for row in range(3)]) & (places < LENGTH)
        fed = ids.numpy()[np.arange(3), np.minimum(places, LENGTH - 1)]
        hidden, state = step(
            tf.constant(fed[:, None]),
            state,
            tf.constant(places),
            tf.constant(reads, tf.int32),
        )
        logits = model.logits(hidden).numpy()[:, 0]
        for row in np.flatnonzero(reads):
            np.testing.assert_allclose(
                logits[row], whole[row, places[row]], atol=1e-5 * slack(name)
            )
        places = places + reads
    for old, new in zip(before, tf.nest.flatten(first), strict=True):
        np.testing.assert_array_equal(old, new.numpy())
