# SPDX-License-Identifier: Apache-2.0
"""Evaluation counts every target once, and its bytes exactly."""

import math

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation.commands import WorkError
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.datasets import write_dataset
from trainer.data.input_pipeline import SubRows
from trainer.data.mixed_rows import source_names
from trainer.distribution.workers import workers_of
from trainer.loop.evaluate_rows import (
    Evaluation,
    byte_counts,
    make_evaluate,
)
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model
from trainer.run.run_directory import restore_tokenizer
from trainer.step.layout import Layout
from trainer.step.model_with_values import as_it_is


@pytest.fixture(scope="module")
def model(manifest):
    config = DecoderConfig(num_layers=1, d_model=16, num_heads=2, ffn_dim=16)
    return build_model(config, manifest.vocab_size, PrecisionConfig(), seed=1)


def test_the_perplexity_of_a_loss_beyond_float64_is_infinite():
    assert Evaluation(709.0, 1, 1).perplexity == pytest.approx(math.exp(709))
    assert Evaluation(7100.0, 10, 1).perplexity == math.inf
    assert math.isnan(Evaluation(math.nan, 10, 1).perplexity)


def counts_of(dataset, manifest):
    path = str(dataset / "tokenizer.json")
    return byte_counts(restore_tokenizer(path, manifest))


@pytest.fixture(scope="module")
def counts(dataset, manifest):
    return counts_of(dataset, manifest)


def evaluation_of(model, workers, counts, batch_rows, sources=(), lanes=1):
    layout = Layout(batch_rows, batch_rows, 1, lanes)
    return make_evaluate(as_it_is(model), workers, layout, counts, sources)


def evaluated(model, counts, rows, batch_rows, lanes=1):
    workers = workers_of(tf.distribute.OneDeviceStrategy("CPU:0"))
    evaluate = evaluation_of(model, workers, counts, batch_rows, lanes=lanes)
    return evaluate(rows, lambda: None)


def by_hand(model, counts, features):
    """Sums loss, targets and bytes segment by segment, each in a batch of its own."""
    loss_sum = targets = text_bytes = 0
    rows = zip(features["tokens"], features["segment_lengths"], strict=True)
    for row, lengths in rows:
        ends = np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends, strict=True):
            if end - start < 2:
                continue  # no target
            segment = row[None, start:end]
            positions = np.arange(end - start - 1, dtype=np.int32)[None]
            hidden = model(segment[:, :-1], np.ones_like(positions), positions)
            logs = tf.nn.log_softmax(model.logits(hidden)[0]).numpy()
            wanted = segment[0, 1:]
            loss_sum -= float(logs[np.arange(len(wanted)), wanted].sum())
            targets += len(wanted)
            text_bytes += int(counts[wanted].sum())
    return loss_sum, targets, text_bytes


def test_the_sums_are_those_of_each_segment_alone(dataset, manifest, model, counts):
    rows = SubRows(str(dataset), manifest, "validation", 64)
    read = rows.read(np.arange(rows.num_rows))
    loss_sum, targets, text_bytes = by_hand(model, counts, read)
    result = evaluated(model, counts, rows, 8)
    assert (result.targets, result.text_bytes) == (targets, text_bytes)
    assert result.loss_sum == pytest.approx(loss_sum, rel=1e-6)


def test_the_result_depends_neither_on_the_batch_nor_on_lanes(
    dataset, manifest, model, counts
):
    rows = SubRows(str(dataset), manifest, "validation", 32)
    cuts = ((1, 1), (7, 1), (64, 4), (500, 2))
    results = [evaluated(model, counts, rows, size, lanes) for size, lanes in cuts]
    assert rows.num_rows < 500
    assert len({result.targets for result in results}) == 1
    assert len({result.text_bytes for result in results}) == 1
    losses = [result.loss for result in results]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-6)


def test_the_bytes_of_a_split_are_the_bytes_of_its_text(tmp_path, model):
    dataset = write_dataset(tmp_path / "dataset", documents=9, validation_documents=3)
    manifest = read_manifest(str(dataset))
    small = build_model(model.config, manifest.vocab_size, PrecisionConfig(), seed=1)
    rows = SubRows(str(dataset), manifest, "validation", 64)
    counts = counts_of(dataset, manifest)
    result = evaluated(small, counts, rows, 16)
    # BOS is a document's first id and no target; EOS is one and stands for no text.
    assert result.text_bytes == manifest.splits["validation"].text_bytes


def test_special_ids_stand_for_no_bytes(dataset, manifest, counts):
    tokenizer = Tokenizer.load(str(dataset / "tokenizer.json"))
    assert [counts[tokenizer.bos_id], counts[tokenizer.eos_id]] == [0, 0]
    ids, _ = tokenizer.encode_batch(["Äpfel"])
    assert counts[ids].sum() == 6
    assert len(counts) == manifest.vocab_size


def test_bits_per_byte_is_the_contracts_quotient():
    result = Evaluation(loss_sum=8 * math.log(2), targets=4, text_bytes=16)
    assert result.bits_per_byte == pytest.approx(0.5)
    assert result.loss == pytest.approx(2 * math.log(2))
    assert result.perplexity == pytest.approx(4.0)
    assert Evaluation(loss_sum=1.0, targets=1, text_bytes=0).bits_per_byte is None


def test_an_empty_split_is_an_error(tmp_path, model, counts):
    dataset = write_dataset(tmp_path / "dataset", documents=9, validation_documents=0)
    rows = SubRows(str(dataset), read_manifest(str(dataset)), "validation", 64)
    with pytest.raises(WorkError, match="found none in the split"):
        evaluated(model, counts, rows, 8)


def test_a_stop_ends_an_evaluation_between_batches(dataset, manifest, model, counts):
    rows = SubRows(str(dataset), manifest, "validation", 64)
    workers = workers_of(tf.distribute.OneDeviceStrategy("CPU:0"))

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluation_of(model, workers, counts, 8)(rows, stop)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mixture") / "dataset"
    return write_dataset(directory, sources=("books", "code", "web"))


@pytest.mark.parametrize("length", [64, 16])
def test_each_source_has_the_sums_of_its_own_rows(mixture, length):
    manifest = read_manifest(str(mixture))
    config = DecoderConfig(num_layers=1, d_model=16, num_heads=2, ffn_dim=16)
    model = build_model(config, manifest.vocab_size, PrecisionConfig(), seed=1)
    counts = counts_of(mixture, manifest)
    rows = SubRows(str(mixture), manifest, "validation", length)
    workers = workers_of(tf.distribute.OneDeviceStrategy("CPU:0"))
    names = source_names(manifest, "validation")
    result = evaluation_of(model, workers, counts, 7, names)(rows, lambda: None)
    features = rows.read(np.arange(rows.num_rows))
    for number, name in enumerate(("books", "code", "web")):
        mine = features["sources"][:, 0] == number
        own = {key: values[mine] for key, values in features.items()}
        loss_sum, targets, text_bytes = by_hand(model, counts, own)
        found = result.sources[name]
        assert (found.targets, found.text_bytes) == (targets, text_bytes)
        assert found.loss_sum == pytest.approx(loss_sum, rel=1e-5)
    assert sum(found.targets for found in result.sources.values()) == result.targets
    whole = evaluated(model, counts, rows, 7)
    assert (whole.targets, whole.text_bytes) == (result.targets, result.text_bytes)
    assert whole.loss_sum == pytest.approx(result.loss_sum, rel=1e-6)
    assert not whole.sources


def test_a_source_without_targets_is_left_out(dataset, manifest, model, counts):
    rows = SubRows(str(dataset), manifest, "validation", 64)
    read = rows.read
    rows.counts = {**rows.counts, "sources": 1}
    rows.read = lambda wanted: {
        **read(wanted),
        "sources": np.full((len(wanted), 1), 1, np.int32),
    }
    workers = workers_of(tf.distribute.OneDeviceStrategy("CPU:0"))
    evaluate = evaluation_of(model, workers, counts, 8, ("absent", "present"))
    assert list(evaluate(rows, lambda: None).sources) == ["present"]
