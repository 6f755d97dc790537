# SPDX-License-Identifier: Apache-2.0
"""A text's vector is the mean of its hidden states, or its last one."""

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.releases import untrained_run
from trainer.serving.embed import embed
from trainer.serving.generate import Decoding

CONTEXT, BOS, EOS = 8, 1, 2


@pytest.fixture(scope="module", params=[("decoder", CONTEXT), ("recurrent", None)])
def models(request, dataset):
    """A model with functions that embed any ids, with BOS and without it."""
    family, context = request.param
    run = untrained_run(dataset, family)
    signature = [tf.RaggedTensorSpec([None, None], tf.int32)]
    functions = {
        bos: tf.function(
            lambda ids, bos=bos: embed(
                run.model, ids, Decoding(bos, EOS, EOS, context)
            ),
            autograph=False,
            input_signature=signature,
        )
        for bos in (BOS, None)
    }
    return run.model, context, functions


TEXTS = st.lists(st.lists(st.integers(3, 200), max_size=3 * CONTEXT), min_size=1)


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.sampled_from([BOS, None]))
def test_every_id_weighs_alike_and_the_last_one_has_a_whole_window(models, texts, bos):
    model, context, functions = models
    ids = tf.ragged.constant(texts, tf.int32, ragged_rank=1, row_splits_dtype=tf.int64)
    found = functions[bos](ids)
    assert found.num_tokens.numpy().tolist() == [len(text) for text in texts]
    for row, text in enumerate(texts):
        opened = [bos] if bos else []
        whole = [*opened, *text] or [EOS]
        size = context or len(whole)
        # Cut from the end: what is left over is the first window.
        cuts = [0, *range(len(whole) % size or size, len(whole) + 1, size)]
        states = [hidden_of(model, whole[a:b]) for a, b in pairwise(cuts)]
        states = np.concatenate(states)[len(opened) if text else 0 :]
        np.testing.assert_allclose(found.mean[row], states.mean(axis=0), 1e-4, 1e-4)
        np.testing.assert_allclose(found.last[row], states[-1], 1e-4, 1e-4)


def hidden_of(model, ids):
    tokens = tf.constant([ids])
    return model(tokens, tf.ones_like(tokens), tf.range(len(ids))[None])[0].numpy()
