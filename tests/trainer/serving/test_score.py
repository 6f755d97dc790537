# SPDX-License-Identifier: Apache-2.0
"""Scores are the cross-entropy of evaluation, document by document."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.contracts.shards import Shards
from tests.datasets import texts
from tests.releases import SEQUENCE_LENGTH, tokenizer_of, untrained_run
from trainer.data.batch import unpack_rows
from trainer.release.servable import decoding_of
from trainer.serving.generate import Decoding, generate, ids_of, open_prompts
from trainer.serving.score import Pairs, pair_ids, score, score_pairs
from trainer.serving.signatures import greedy
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
    ids = ragged(*tokenizer.encode_documents(documents))
    sizes = tf.constant([len(token) for token in tokenizer.token_bytes()])
    run_score = tf.function(score, autograph=False)
    return run_score(run.model, ids, SEQUENCE_LENGTH, sizes)


def ragged(ids, lengths):
    return tf.RaggedTensor.from_row_lengths(
        tf.constant(ids.astype(np.int32)), tf.constant(lengths, tf.int64)
    )


@pytest.fixture(scope="module", params=["decoder", "recurrent"])
def models(request, dataset):
    """A model with a function that scores any ids, traced once."""
    run = untrained_run(dataset, request.param)
    sizes = tf.range(run.model.vocab_size) % 5 + 1
    signature = [
        tf.RaggedTensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.int32),
    ]
    scorer = tf.function(
        lambda ids, borders: score_pairs(
            run.model, Pairs(ids, borders), CONTEXT, sizes
        ),
        autograph=False,
        input_signature=signature,
    )
    return run.model, scorer


CONTEXT = 12
IDS = st.lists(st.integers(0, 200), min_size=1, max_size=3 * CONTEXT)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(IDS, st.integers(1, 3 * CONTEXT)), min_size=1, max_size=5))
def test_a_continuation_is_told_from_all_that_one_window_holds(models, pairs):
    """The rule of lm-evaluation-harness, one sequence at a time, in NumPy."""
    model, scorer = models
    rows = [ids for ids, _ in pairs]
    borders = [min(border, len(ids)) for ids, border in pairs]
    found = scorer(
        tf.ragged.constant(rows, tf.int32, row_splits_dtype=tf.int64), borders
    )
    for row, (ids, border) in enumerate(zip(rows, borders, strict=True)):
        nats, greedy = 0.0, True
        left = ids[border:]
        # Of more than a window's targets the first ones have one id before them.
        while left:
            before = ids[: len(ids) - len(left)]
            piece = left[:CONTEXT] if len(ids) - border > CONTEXT else left
            window = (before + piece)[-(CONTEXT + 1) :]
            if len(ids) - border > CONTEXT:
                window = before[-1:] + piece
            logits = logits_of(model, window[:-1])[-len(piece) :]
            picked = np.take_along_axis(logits, np.array(piece)[:, None], axis=1)[:, 0]
            nats += float((picked - logsumexp(logits)).sum())
            greedy &= logits.argmax(axis=1).tolist() == piece
            left = left[len(piece) :]
        assert found.log_likelihood.numpy()[row] == pytest.approx(
            nats, rel=1e-4, abs=1e-4
        )
        assert found.is_greedy.numpy()[row] == greedy
        assert found.num_tokens.numpy()[row] == len(ids) - border
        assert found.num_bytes.numpy()[row] == sum(x % 5 + 1 for x in ids[border:])


def logits_of(model, ids):
    tokens = tf.constant([ids])
    hidden = model(tokens, tf.ones_like(tokens), tf.range(len(ids))[None])
    return model.logits(hidden)[0].numpy().astype(np.float64)


def logsumexp(logits):
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def test_what_greedy_decoding_gives_is_greedy_and_another_end_is_not(dataset):
    run = untrained_run(dataset, "decoder")
    decoding = decoding_of(run)
    ids, lengths = tokenizer_of(run).encode_batch(["the river", "Äpfel "])
    prompts = ragged(ids, lengths)
    found = generate(run.model, prompts, greedy(2), decoding)
    opened = open_prompts(prompts, decoding)
    borders = tf.cast(opened.row_lengths(), tf.int32)
    for shift in (0, 1):
        ends = [[*row[:4], (row[4] + shift) % 200] for row in ids_of(found)]
        whole = tf.concat([opened, tf.ragged.constant(ends, tf.int32)], axis=1)
        sizes = tf.ones([run.model.vocab_size], tf.int32)
        told = score_pairs(run.model, Pairs(whole, borders), decoding.context, sizes)
        assert told.is_greedy.numpy().tolist() == [shift == 0] * 2


@pytest.fixture(scope="module")
def words(dataset):
    tokenizer = tokenizer_of(untrained_run(dataset, "decoder"))
    return tokenizer, [len(token) for token in tokenizer.token_bytes()]


@settings(deadline=None)
@given(st.text("ab é\n", max_size=8), st.text("ab é\n", max_size=8))
def test_ids_across_the_border_belong_to_the_continuation(words, prompt, continuation):
    """Byte by byte: no target lies within the prompt, and no other id reaches out."""
    tokenizer, sizes = words
    prompts, whole = (
        ragged(*tokenizer.encode_batch([text]))
        for text in (prompt, prompt + continuation)
    )
    pairs = pair_ids(prompts, whole, tf.constant(sizes), Decoding(None, 1, 1, 64))
    border, ids = int(pairs.borders[0]), pairs.sequences[0].numpy().tolist()
    known = [x for x in ids[:border] if x != 1]
    assert sum(sizes[x] for x in known) <= len(prompt.encode())
    reach = known + ids[border : border + 1]
    assert len(ids) == border or sum(sizes[x] for x in reach) > len(prompt.encode())
    own = prompts[0].numpy().tolist()
    if whole[0].numpy().tolist()[: len(own)] == own:
        assert known == own
    # What stands before a target always holds something.
    assert border >= 1
