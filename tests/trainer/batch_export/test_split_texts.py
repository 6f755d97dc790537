# SPDX-License-Identifier: Apache-2.0
"""A split's documents as a release reads them: whole, as texts."""

import dataclasses

import numpy as np
import pytest

from preprocessing.contracts.manifest import read_manifest, write_manifest
from preprocessing.contracts.row_segments import row_segments
from preprocessing.contracts.shards import Shards
from preprocessing.foundation.commands import UsageError
from tests.datasets import texts, write_dataset
from tests.releases import tokenizer_of, untrained_run
from trainer.batch_export.split_texts import check_readable, split_texts


def test_documents_come_back_as_texts_whole_and_each_copy_once(tmp_path):
    dataset = write_dataset(tmp_path / "dataset", documents=9)
    manifest = read_manifest(str(dataset))
    tokenizer = tokenizer_of(untrained_run(dataset, "decoder"))
    found = split_texts(str(dataset), manifest, "validation", tokenizer, 64)
    assert sorted(each.text.decode() for each in found) == sorted(texts(20, 1))
    shards = Shards(str(dataset), manifest, "validation")
    rows = shards.read(np.arange(shards.num_rows))
    pieces = [
        len(segment.ids)
        for row in range(shards.num_rows)
        for segment in row_segments({name: each[row] for name, each in rows.items()})
    ]
    assert sum(each.tokens for each in found) == sum(pieces) - len(pieces)
    assert len(pieces) > len(found) and not any(each.odd for each in found)
    # Windows that are not the pieces are told: of what is longer than one of them.
    others = split_texts(str(dataset), manifest, "validation", tokenizer, 32)
    assert [each.odd for each in others] == [each.tokens > 32 for each in found]


def test_a_dataset_that_a_release_cannot_read_is_refused(dataset, manifest, tmp_path):
    with pytest.raises(UsageError, match="tokenizer"):
        check_readable(manifest, str(dataset), "0" * 64)
    turned = dataclasses.replace(manifest, objective="fill_in_middle")
    write_manifest(str(tmp_path), turned)
    with pytest.raises(UsageError, match="objective causal"):
        check_readable(turned, str(tmp_path), manifest.tokenizer_sha256)
