# SPDX-License-Identifier: Apache-2.0
"""Samples follow the law they were asked for, whatever stands beside them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from trainer.serving.sampling import Sampling, gumbel, sample

ROWS = 2048
VOCAB = 400


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    """One row of logits, of more ids than are ranked without sorting all."""
    return np.random.default_rng(0).normal(size=VOCAB).astype(np.float32) * 2


def settings(
    temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, first_seed=0, rows=ROWS
) -> Sampling:
    return Sampling(
        tf.fill([rows], 1),
        tf.fill([rows], float(temperature)),
        tf.fill([rows], top_k),
        tf.fill([rows], float(top_p)),
        tf.range(first_seed, first_seed + rows, dtype=tf.int64),
        tf.fill([rows], float(min_p)),
        tf.ones([rows]),
    )


def draw(row: np.ndarray, sampling: Sampling, step: int = 0) -> np.ndarray:
    rows = int(sampling.seed.shape[0])
    return run(tf.tile(row[None], [rows, 1]), sampling, tf.constant(step)).numpy()


run = tf.function(sample, autograph=False)


def law(row: np.ndarray, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) -> np.ndarray:
    """Returns what ids are drawn with, in float64 and Hugging Face's order.

    Temperature, then top-k, then top-p of what is left, then min-p; of equals the
    lower id first.
    """
    order = np.argsort(-row, kind="stable")
    scaled = row[order].astype(np.float64) / temperature
    weights = np.exp(scaled - scaled[0])
    if top_k > 0:
        weights[top_k:] = 0
    weights /= weights.sum()
    if top_p < 1:
        before = np.cumsum(weights) - weights
        weights[(before >= top_p - 1e-9) & (np.arange(len(row)) > 0)] = 0
    weights[weights < min_p * weights[0]] = 0
    wanted = np.zeros(len(row))
    wanted[order] = weights / weights.sum()
    return wanted


def assert_drawn_from(counts: np.ndarray, wanted: np.ndarray) -> None:
    """Pearson's chi-square, allowed six standard deviations."""
    possible = wanted > 0
    assert counts[~possible].sum() == 0
    expected = wanted[possible] * counts.sum()
    chi = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = possible.sum() - 1
    assert chi < freedom + 6 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "wished",
    [
        {"temperature": 0.7},
        {"temperature": 2.0},
        {"top_k": 7},
        {"top_k": 300},
        {"top_k": VOCAB - 1, "temperature": 1.5},
        {"top_k": VOCAB, "temperature": 1.5},
        {"top_k": 2**31 - 1, "temperature": 3.0},
        {"top_p": 0.6},
        {"top_p": 0.999, "temperature": 1.5},
        {"top_p": 0.9999999, "temperature": 3.0},
        {"top_k": 40, "top_p": 0.8, "temperature": 2.0},
        {"top_k": 350, "top_p": 0.97, "temperature": 2.0},
        {"min_p": 0.04, "temperature": 2.0},
        {"min_p": 0.04, "top_k": 350, "top_p": 0.97, "temperature": 2.0},
    ],
    ids=str,
)
def test_ids_are_drawn_by_the_law_whatever_limits_are_set(logits, wished):
    counts = np.zeros(VOCAB)
    for step in range(4):
        ids = draw(logits, settings(**wished), step)
        counts += np.bincount(ids, minlength=VOCAB)
    assert_drawn_from(counts, law(logits, **wished))


@trials(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    vocab=st.sampled_from([5, 256, 257, 700]),
    levels=st.sampled_from([1, 3, 40, 10**6]),
    temperature=st.sampled_from([1e-30, 1e-3, 0.5, 1.0, 4.0, 1e6, float("inf")]),
    top_k=st.sampled_from([-1, 0, 1, 2, 255, 256, 257, 699, 700, 2**31 - 1]),
    top_p=st.sampled_from([-1.0, 0.0, 1e-30, 0.1, 0.3, 0.5, 0.9, 0.999, 1.0, 2.0]),
)
def test_nothing_outside_of_the_limits_is_drawn_and_the_likeliest_is(
    seed, vocab, levels, temperature, top_k, top_p
):
    """Logits of few levels tie at the k-th place and at the edge of the nucleus."""
    rng = np.random.default_rng(seed)
    row = (rng.integers(levels, size=vocab) * (8 / levels)).astype(np.float32)
    sampling = settings(temperature, top_k, top_p, rows=32)
    found = draw(row, sampling)
    wanted = law(row, temperature, top_k, top_p)
    assert (wanted[found] > 0).all()
    if (wanted > 0).sum() == 1:
        assert (found == row.argmax()).all()
    greedy = settings(0, rows=1)
    together = Sampling(
        *(tf.concat(pair, axis=0) for pair in zip(sampling, greedy, strict=True))
    )
    assert (draw(row, together)[:32] == found).all()


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-20, 1e-6])
def test_tiny_temperatures_are_greedy(logits, temperature):
    assert (draw(logits * 10, settings(temperature)) == logits.argmax()).all()


def test_the_noise_that_wins_against_the_odds_is_never_that_of_two_ids():
    """Else the lower of them would always win, and beyond the last step none could."""
    ids = tf.range(1 << 20)[None]
    noise = np.sort(gumbel(tf.constant([3], tf.int64), tf.constant(0), ids).numpy()[0])
    assert len(set(noise[-1000:])) >= 999
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.std() == pytest.approx(np.pi / np.sqrt(6), abs=0.01)
    # Gumbel's law of the greatest of so many, at one in a million on either side.
    assert np.log(1 << 20) - 2.7 < noise[-1] < np.log(1 << 20) + 13.9


@pytest.mark.parametrize(
    "sampling",
    [
        settings(temperature=0),
        settings(temperature=-1),
        settings(top_k=1),
        settings(top_p=0),
        settings(min_p=1),
    ],
    ids=["temperature 0", "temperature -1", "top_k 1", "top_p 0", "min_p 1"],
)
def test_the_narrowest_choices_are_greedy(logits, sampling):
    assert (draw(logits, sampling) == logits.argmax()).all()


def test_a_row_draws_the_same_whatever_its_neighbours_ask_for(logits):
    mixed = Sampling(
        tf.fill([6], 1),
        tf.constant([0.0, 0.9, 1.0, 1.5, 1.5, 2.0]),
        tf.constant([0, 12, 0, 0, 0, 390]),
        tf.constant([1.0, 1.0, 0.8, 1.0, 0.999, 0.99]),
        tf.constant([5, 6, 7, 8, 9, 10], tf.int64),
        tf.constant([0.0, 0.0, 0.1, 0.05, 0.0, 0.01]),
        tf.ones([6]),
    )
    for step in range(20):
        together = draw(logits, mixed, step)
        alone = [
            draw(logits, Sampling(*(field[i : i + 1] for field in mixed)), step)[0]
            for i in range(6)
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
