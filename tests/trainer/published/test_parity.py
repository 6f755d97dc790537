# SPDX-License-Identifier: Apache-2.0
"""Published decoders, read by us, answer as transformers 5.23 answered."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.published.parity import DECODERS, NAMES
from trainer.models.language_model import PrecisionConfig
from trainer.published.origin import origin_of, read_origin, write_origin
from trainer.published.published_model import (
    build_published,
    load_published,
    open_published,
)
from trainer.published.saving import publication_of_origin, write_publication


def logits_of(model, ids):
    positions = tf.zeros_like(ids) + tf.range(ids.shape[1])
    return model.logits(model(ids, tf.ones_like(ids), positions)).numpy()


def continued(model, ids, count):
    """Returns the ids `[count]` that a model chooses after ids `[length]`."""
    length = len(ids)
    state = model.initial_state(tf.constant(1), length + count)
    start, size = tf.zeros([1], tf.int32), tf.fill([1], length)
    hidden, state = model.decode(tf.constant(ids[None], tf.int32), state, start, size)
    chosen = []
    for at in range(length, length + count):
        chosen.append(int(tf.argmax(model.logits(hidden[:, -1])[0])))
        step = tf.constant([[chosen[-1]]])
        hidden, state = model.decode(step, state, tf.fill([1], at), tf.fill([1], 1))
    return chosen


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_greedy_continuations_are_those_of_transformers(name):
    _, model = load_published(str(DECODERS / name))
    golden = np.load(DECODERS / name / "golden.npz")
    ids = tf.constant(golden["input_ids"], tf.int32)
    assert np.abs(logits_of(model, ids) - golden["logits"]).max() < 1e-4
    tokens = np.load(DECODERS / name / "greedy.npz")["tokens"][0].tolist()
    prompt = golden["input_ids"][0, :7]
    wanted = tokens[7:] if tokens[:7] == prompt.tolist() else tokens
    assert len(wanted) > 4 and continued(model, prompt, len(wanted)) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_and_written_again_is_the_same_files_to_the_last_byte(
    name, tmp_path
):
    published = open_published(str(DECODERS / name))
    decoder = published.config.decoder
    model = build_published(published, PrecisionConfig(), decoder)
    write_origin(str(tmp_path), origin_of(published))
    kept = read_origin(str(tmp_path))
    assert kept is not None and kept.digest == published.digest
    out = tmp_path / "out"
    out.mkdir()
    write_publication(publication_of_origin(kept, str(tmp_path)), model, str(out))
    for file in ("config.json", "generation_config.json", "model.safetensors"):
        assert (out / file).read_bytes() == (DECODERS / name / file).read_bytes(), file
