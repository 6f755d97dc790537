# SPDX-License-Identifier: Apache-2.0
"""Rows of several datasets side by side: padding, numbering, and what may be mixed."""

import dataclasses

import numpy as np
import pytest

from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation.commands import UsageError
from tests.datasets import write_dataset
from trainer.data.input_pipeline import SubRows
from trainer.data.mixed_rows import (
    JoinedRows,
    check_mixable,
    combined_hash,
    common_length,
    dataset_names,
    mixing_weights,
    read_located,
)


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A second dataset, whose rows have room for 128 segments instead of 64."""
    path = tmp_path_factory.mktemp("longer") / "dataset"
    return write_dataset(
        path, sequence_length=1024, documents=300, validation_documents=100, seed=7
    )


def opened(path, split, length=32):
    return SubRows(str(path), read_manifest(str(path)), split, length)


def test_rows_of_unequal_room_are_padded_and_nothing_else(dataset, longer):
    parts = [opened(dataset, "train"), opened(longer, "train")]
    assert [part.counts["segment_lengths"] for part in parts] == [64, 128]
    numbers = np.array([1, 0, 0, 1, 0])
    rows = np.array([5, 9, 2, 0, 9])
    mixed = read_located(parts, numbers, rows)
    assert mixed["segment_lengths"].shape == (5, 128)
    for place, (number, row) in enumerate(zip(numbers, rows, strict=True)):
        alone = parts[number].read(np.array([row]))
        for name, values in alone.items():
            count = values.shape[1]
            assert np.array_equal(mixed[name][place, :count], values[0])
            assert not mixed[name][place, count:].any()


def test_joined_splits_have_every_row_once_under_its_datasets_number(dataset, longer):
    parts = [opened(path, "validation") for path in (dataset, longer)]
    joined = JoinedRows(parts)
    assert joined.num_rows == sum(part.num_rows for part in parts)
    read = joined.read(np.arange(joined.num_rows))
    tokens = [part.read(np.arange(part.num_rows))["tokens"] for part in parts]
    assert np.array_equal(read["tokens"], np.concatenate(tokens))
    numbers = np.repeat([0, 1], [part.num_rows for part in parts])
    assert np.array_equal(read["sources"][:, 0], numbers)
    shapes = {name: values.shape[1] for name, values in read.items()}
    assert shapes == dict(joined.counts)
    assert joined.sequence_length == 32


def test_an_empty_split_among_others_is_no_trouble(dataset, longer):
    none = opened(dataset, "validation")
    none.num_rows = 0
    joined = JoinedRows([none, opened(longer, "validation"), none])
    read = joined.read(np.arange(joined.num_rows))
    assert set(read["sources"].ravel()) == {1}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tokenizer_sha256": "ab" * 32}, "one tokenizer_sha256 .* abababababab in b"),
        ({"vocab_size": 7}, "one vocab_size to mix, found 300 in a and 7 in b"),
        ({"eos_id": 9}, "one eos_id to mix"),
        ({"bos_id": None}, "one bos_id to mix, found 0 in a and None in b"),
        ({"pad_id": 9}, "one pad_id to mix"),
        ({"features": {"tokens": {}}}, "one set of features to mix"),
    ],
)
def test_what_does_not_mean_the_same_is_not_mixed(manifest, changes, complaint):
    other = dataclasses.replace(manifest, **changes)
    check_mixable([manifest, manifest], ["a", "b"])
    with pytest.raises(UsageError, match=complaint):
        check_mixable([manifest, other], ["a", "b"])


def test_datasets_are_read_at_the_shortest_length_unless_told(manifest):
    longer = dataclasses.replace(manifest, sequence_length=256)
    assert common_length([longer, manifest], None) == 64
    assert common_length([longer, manifest], 16) == 16
    with pytest.raises(UsageError, match="divides the dataset's 64, found 128"):
        common_length([longer, manifest], 128)


def test_weights_are_as_written_or_as_large_as_the_datasets():
    assert mixing_weights("0.7, 3", [5, 6]) == (0.7, 3.0)
    assert mixing_weights("", [5, 6]) == (5.0, 6.0)
    for text in ("0.7", "1,2,3", "1,two"):
        with pytest.raises(UsageError, match="2 numbers .* found '" + text):
            mixing_weights(text, [5, 6])
    for text in ("nan,1", "1,inf", "1,1e400", "0,1", "-1,2", "1e-400,1", "1,1e9"):
        with pytest.raises(UsageError, match=r"wanted data\.weights (above|of 1/)"):
            mixing_weights(text, [5, 6])
    with pytest.raises(UsageError, match=r"wanted data\.weights above 0, found nan"):
        mixing_weights("nan", [5])


def test_a_mixtures_hash_is_of_datasets_order_and_shares(manifest):
    other = dataclasses.replace(manifest, seed=9)
    assert combined_hash([manifest], [0.2]) == manifest.dataset_hash
    two = [manifest, other]
    assert combined_hash(two, [0.7, 0.3]) == combined_hash(two, [7, 3])
    hashes = {
        combined_hash(two, [0.7, 0.3]),
        combined_hash(two, [0.6, 0.4]),
        combined_hash(two[::-1], [0.7, 0.3]),
        manifest.dataset_hash,
    }
    assert len(hashes) == 4


def test_names_are_short_where_short_ones_differ():
    assert dataset_names(["a/web/", "gs://b/code"]) == ("web", "code")
    assert dataset_names(["a/x", "b/x"]) == ("a/x", "b/x")
