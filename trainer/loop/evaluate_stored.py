# SPDX-License-Identifier: Apache-2.0
"""What a model loses where its weights are stored narrower, on a dataset's text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation.commands import UsageError
from trainer.compute.lanes import count_cores, share_threads
from trainer.data.input_pipeline import SubRows
from trainer.distribution.strategies import make_strategy
from trainer.distribution.workers import workers_of
from trainer.loop.evaluate_rows import byte_counts, make_evaluate
from trainer.models.functional import weight_places
from trainer.models.stored_weights import StoredWeights
from trainer.release.servable import Servable
from trainer.step.layout import Layout
from trainer.step.model_with_values import ModelWithValues

# Enough for three digits of the quotient, of one row of 1,024 tokens and more; a
# model of 1 B parameters reads them in some minutes on two cores.
ROWS = 256
_BATCH = 4


@dataclass(frozen=True)
class StoredLoss:
    """Bits per byte of the same text, with weights as they are and as they are stored.

    Attributes:
        whole: with float32 weights and products.
        stored: with the weights of the release.
        rows: how many rows of the dataset were read.
    """

    whole: float
    stored: float
    rows: int

    def __str__(self) -> str:
        lost = 100 * (self.stored / self.whole - 1)
        return (
            f"{self.whole:.4f} bits per byte in float32, {self.stored:.4f} as stored "
            f"({lost:+.2f} %), over {self.rows:,} rows"
        )


def stored_loss(
    whole: Servable, narrow: Servable, weights: str, dataset: str, split: str
) -> StoredLoss:
    """Compares a model with itself on the first rows of a split.

    Args:
        whole: the model, computing in float32.
        narrow: the same, computing as its release will.
        weights: how the release stores them.
        dataset: encoded with the model's tokenizer.
        split: of the dataset.

    Raises:
        UsageError: it is not, has no such split, or it holds no text to judge by.
        WorkError: a row is damaged, or the split holds no target.
    """
    manifest = read_manifest(dataset)
    if manifest.tokenizer_sha256 != whole.tokenizer.sha256:
        raise UsageError(
            f"wanted --data encoded with the tokenizer of {whole.what}, found another "
            f"in {dataset}. Prepare it with the model's tokenizer.json"
        )
    if split not in manifest.splits:
        raise UsageError(
            f"wanted one of {', '.join(manifest.splits)}, the splits of {dataset}, for "
            f"--split, found {split}. Change it"
        )
    length = min(manifest.sequence_length, whole.length or manifest.sequence_length)
    rows = SubRows(dataset, manifest, split, length)
    rows.num_rows = min(rows.num_rows, ROWS)
    share_threads(count_cores(), count_cores())
    own = [place.variable for place in weight_places(whole.model)]
    kept = StoredWeights(narrow.model, weights).values()
    return StoredLoss(
        whole=_bits_per_byte(whole, own, rows),
        stored=_bits_per_byte(narrow, kept, rows),
        rows=rows.num_rows,
    )


def _bits_per_byte(servable: Servable, values: Sequence[Any], rows: SubRows) -> float:
    model = servable.model
    evaluated = ModelWithValues(model, weight_places(model), values)
    workers = workers_of(make_strategy("one_device"))
    counts = byte_counts(servable.tokenizer)
    evaluate = make_evaluate(evaluated, workers, Layout(_BATCH, _BATCH, 1), counts)
    found = evaluate(rows, lambda: None).bits_per_byte
    if found is None:
        raise UsageError(
            f"wanted text in the split {rows.split} of {rows.dataset}, found "
            "special ids alone. Name another --data"
        )
    return found
