# SPDX-License-Identifier: Apache-2.0
"""The rows a run trains on and is evaluated on, opened once for all its sessions."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.input_pipeline import SubRows
from trainer.data.mixed_order import MixedOrder
from trainer.data.mixed_rows import JoinedRows, source_names
from trainer.loop.plan import RunPlan


@dataclass(frozen=True)
class RunRows:
    """The rows a run trains on and is evaluated on.

    Attributes:
        training: the training split of each dataset.
        order: in which order those are read.
        validation: the validation splits, one after another.
        sources: what the rows of a mixture are told apart by in evaluations.
    """

    training: Sequence[SubRows]
    order: MixedOrder
    validation: SubRows | JoinedRows
    sources: Sequence[str]


def open_rows(planned: RunPlan) -> RunRows:
    """Opens the splits of a run's datasets.

    Raises:
        UsageError: a shard is not what its manifest says.
    """
    data, config = planned.data, planned.config

    def split(name: str) -> list[SubRows]:
        pairs = zip(data.paths, data.manifests, strict=True)
        length = config.sequence_length
        return [SubRows(path, manifest, name, length) for path, manifest in pairs]

    training, validation = split("train"), split("validation")
    sizes = [each.num_rows for each in training]
    order = MixedOrder(sizes, data.weights, config.seed)
    if len(validation) == 1:
        names = source_names(data.manifest, "validation")
        return RunRows(training, order, validation[0], names)
    return RunRows(training, order, JoinedRows(validation), data.names)
