# SPDX-License-Identifier: Apache-2.0
"""Scores are the cross-entropy of evaluation, document by document."""

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.contracts.shards import Shards
from tests.datasets import texts
from tests.releases import SEQUENCE_LENGTH, tokenizer_of, untrained_run
from trainer.data.batch import unpack_rows
from trainer.serving.score import score
from trainer.step.losses import LossConfig, training_loss


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_scores_of_a_splits_documents_add_up_to_its_cross_entropy(
    dataset, manifest, family
):
    run = untrained_run(dataset, family)
    tokenizer = tokenizer_of(run)
    documents = texts(20, 1)  # those of the validation split
    found = scored(run, tokenizer, documents)

    shards = Shards(str(dataset), manifest, "validation")
    rows = shards.read(np.arange(shards.num_rows))
    batch = unpack_rows({n: tf.constant(x.astype(np.int32)) for n, x in rows.items()})
    hidden = run.model(batch.inputs, batch.segment_ids, batch.positions)
    _, loss_sum, targets = training_loss(
        run.model, hidden, batch.targets, batch.weights, LossConfig()
    )

    assert -found.log_likelihood.numpy().sum() == pytest.approx(
        float(loss_sum), rel=1e-5
    )
    assert found.num_tokens.numpy().sum() == float(targets)
    assert found.num_bytes.numpy().tolist() == [len(t.encode()) for t in documents]


def test_each_document_is_scored_on_its_own(dataset):
    run = untrained_run(dataset, "decoder")
    tokenizer = tokenizer_of(run)
    documents = ["", "a river", "x" * 3 * SEQUENCE_LENGTH, "Äpfel"]
    together = scored(run, tokenizer, documents)
    for row, document in enumerate(documents):
        alone = scored(run, tokenizer, [document])
        for one, all_rows in zip(alone, together, strict=True):
            assert one.numpy()[0] == pytest.approx(all_rows.numpy()[row], rel=1e-5)


def scored(run, tokenizer, documents: list[str]):
    ids, lengths = tokenizer.encode_documents(documents)
    ragged = tf.RaggedTensor.from_row_lengths(
        tf.constant(ids.astype(np.int32)), tf.constant(lengths)
    )
    sizes = tf.constant([len(token) for token in tokenizer.token_bytes()])
    run_score = tf.function(score, autograph=False)
    return run_score(run.model, ragged, SEQUENCE_LENGTH, sizes)
