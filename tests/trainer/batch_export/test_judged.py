# SPDX-License-Identifier: Apache-2.0
"""A release's figures are those of the checkpoint it was made of."""

import dataclasses

import numpy as np
import pytest

from preprocessing.contracts.manifest import read_manifest, write_manifest
from preprocessing.contracts.row_segments import row_segments
from preprocessing.contracts.shards import Shards
from preprocessing.foundation.commands import UsageError
from tests.datasets import texts, write_dataset
from tests.releases import (
    SEQUENCE_LENGTH,
    release_untrained,
    tokenizer_of,
    untrained_run,
)
from trainer.batch_export.judged import measure_release, release_size
from trainer.batch_export.split_texts import check_readable, split_texts
from trainer.data.input_pipeline import SubRows
from trainer.distribution.strategies import make_strategy
from trainer.distribution.workers import workers_of
from trainer.loop.evaluate_rows import byte_counts, make_evaluate
from trainer.step.layout import Layout
from trainer.step.model_with_values import as_it_is


def evaluated(dataset, family: str) -> float:
    """What quern-evaluate tells of the validation split."""
    run = untrained_run(dataset, family)
    evaluate = make_evaluate(
        as_it_is(run.model),
        workers_of(make_strategy("one_device")),
        Layout(4, 4, 1),
        byte_counts(tokenizer_of(run)),
    )
    rows = SubRows(str(dataset), run.manifest, "validation", SEQUENCE_LENGTH)
    found = evaluate(rows, lambda: None).bits_per_byte
    assert found is not None
    return found


@pytest.mark.slow
def test_the_releases_own_bits_per_byte_are_the_trainers(dataset, tmp_path):
    release = release_untrained(dataset, "decoder", tmp_path / "small")
    wanted = evaluated(dataset, "decoder")
    found = measure_release(str(release), str(dataset), "validation", wanted)
    assert found.bits_per_byte == pytest.approx(wanted, abs=1e-4)
    assert (found.documents, found.odd_documents) == (20, 0)
    assert found.size == release_size(str(release))
    # All were measured; the memory is a process's own, and holds the release.
    assert len(found.metrics()) == 7 and min(found.metrics().values()) > 0
    assert found.peak_memory > found.size


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
