# SPDX-License-Identifier: Apache-2.0
"""How the rows of a step fall to replicas and micro-batches.

Replica r of R takes the contiguous rows [r * B / R, (r + 1) * B / R) of a global batch
of B rows, its micro-batch i the i-th contiguous slice of those, and a lane of it
(`trainer.compute.lanes`) a contiguous slice of that. A process holds the rows of its
own replicas, which are contiguous too.
"""

from dataclasses import dataclass, replace

from preprocessing.foundation.commands import UsageError


@dataclass(frozen=True)
class Layout:
    """How a global batch is spread: replicas x accumulation x micro_batch_size rows.

    A micro-batch is done in `lanes` equal slices at once.
    """

    global_batch_size: int
    micro_batch_size: int
    num_replicas: int
    lanes: int = 1

    def __post_init__(self) -> None:
        rows = self.micro_batch_size * self.num_replicas
        if rows < 1 or self.global_batch_size % rows or self.global_batch_size < 1:
            raise UsageError(
                "wanted data.global_batch_size to be a multiple of "
                f"data.micro_batch_size x replicas, found {self.global_batch_size} and "
                f"{self.micro_batch_size} x {self.num_replicas}. Change one of them"
            )
        if self.lanes < 1 or self.micro_batch_size % self.lanes:
            raise UsageError(
                "wanted the rows of a micro-batch to be a multiple of compute.lanes, "
                f"found {self.micro_batch_size} and {self.lanes}. Set compute.lanes=0 "
                "to have it chosen"
            )

    @property
    def replica_rows(self) -> int:
        """Rows of one step on one replica."""
        return self.global_batch_size // self.num_replicas

    @property
    def accumulation(self) -> int:
        """Micro-batches of one step on one replica."""
        return self.replica_rows // self.micro_batch_size

    def of_step(self, replica_rows: int) -> "Layout":
        """Returns the layout of a step in which a replica holds `replica_rows` rows.

        While the batch size ramps up, those are fewer than the whole share.
        """
        rows = replica_rows * self.num_replicas
        return replace(self, global_batch_size=rows)
