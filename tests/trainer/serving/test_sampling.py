# SPDX-License-Identifier: Apache-2.0
"""Samples follow the law they were asked for, whatever stands beside them."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.serving.sampling import MAX_CANDIDATES, Sampling, gumbel, sample

ROWS = 2048
VOCAB = 400


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    """One row of logits, wide enough to pass the candidates' limit."""
    return np.random.default_rng(0).normal(size=VOCAB).astype(np.float32) * 2


def settings(temperature=1.0, top_k=0, top_p=1.0, first_seed=0, rows=ROWS) -> Sampling:
    return Sampling(
        tf.fill([rows], 1),
        tf.fill([rows], float(temperature)),
        tf.fill([rows], top_k),
        tf.fill([rows], float(top_p)),
        tf.range(first_seed, first_seed + rows, dtype=tf.int64),
    )


def draw(row: np.ndarray, sampling: Sampling, step: int = 0) -> np.ndarray:
    rows = int(sampling.seed.shape[0])
    return sample(tf.tile(row[None], [rows, 1]), sampling, tf.constant(step)).numpy()


def probabilities(row: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    weights = np.exp((row - row.max()) / temperature)
    return weights / weights.sum()


def assert_drawn_from(counts: np.ndarray, wanted: np.ndarray) -> None:
    """Pearson's chi-square, allowed six standard deviations."""
    possible = wanted > 0
    assert counts[~possible].sum() == 0
    expected = wanted[possible] * counts.sum()
    chi = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = possible.sum() - 1
    assert chi < freedom + 6 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_without_limits_ids_follow_the_softmax_of_the_whole_vocabulary(
    logits, temperature
):
    counts = np.zeros(VOCAB)
    for step in range(8):
        ids = draw(logits, settings(temperature), step)
        counts += np.bincount(ids, minlength=VOCAB)
    assert_drawn_from(counts, probabilities(logits, temperature))


def test_top_k_draws_from_the_k_likeliest_renormalised(logits):
    wanted = probabilities(logits)
    wanted[np.argsort(-logits)[7:]] = 0
    counts = np.bincount(draw(logits, settings(top_k=7)), minlength=VOCAB)
    assert_drawn_from(counts, wanted / wanted.sum())


def test_top_p_draws_from_the_smallest_set_that_holds_the_mass(logits):
    wanted = probabilities(logits)
    order = np.argsort(-logits)
    size = int(np.searchsorted(np.cumsum(wanted[order]), 0.6)) + 1
    wanted[order[size:]] = 0
    counts = np.bincount(draw(logits, settings(top_p=0.6)), minlength=VOCAB)
    assert_drawn_from(counts, wanted / wanted.sum())


@pytest.mark.parametrize(
    "sampling",
    [
        settings(temperature=0),
        settings(temperature=-1),
        settings(top_k=1),
        settings(top_p=0),
    ],
    ids=["temperature 0", "temperature -1", "top_k 1", "top_p 0"],
)
def test_the_narrowest_choices_are_greedy(logits, sampling):
    assert (draw(logits, sampling) == logits.argmax()).all()


def test_a_wide_top_k_acts_as_the_candidates_limit(logits):
    wide = draw(logits, settings(top_k=VOCAB))
    assert (wide == draw(logits, settings(top_k=MAX_CANDIDATES))).all()


def test_a_row_draws_the_same_whatever_its_neighbours_ask_for(logits):
    mixed = Sampling(
        tf.fill([4], 1),
        tf.constant([0.0, 0.9, 1.0, 1.5]),
        tf.constant([0, 12, 0, 0]),
        tf.constant([1.0, 1.0, 0.8, 1.0]),
        tf.constant([5, 6, 7, 8], tf.int64),
    )
    for step in range(20):
        together = draw(logits, mixed, step)
        alone = [
            draw(logits, Sampling(*(field[i : i + 1] for field in mixed)), step)[0]
            for i in range(4)
        ]
        assert together.tolist() == alone


def test_noise_depends_on_seed_step_and_id_and_on_nothing_else():
    ids = tf.constant([[3, 1, 2]])
    base = gumbel(tf.constant([9], tf.int64), tf.constant(4), ids).numpy()[0]
    turned = gumbel(tf.constant([1, 9], tf.int64), tf.constant(4), ids[:, ::-1])
    assert turned.numpy()[1].tolist() == base[::-1].tolist()
    for seed, step in ((8, 4), (9, 5), (-9, 4)):
        other = gumbel(tf.constant([seed], tf.int64), tf.constant(step), ids)
        assert not np.isin(other.numpy(), base).any()
