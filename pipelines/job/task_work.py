# SPDX-License-Identifier: Apache-2.0
"""A task under way: what it reads, and where its rejects, times and counts go."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pipelines.job.input_files import InputCounts
from pipelines.job.plan import Job, Task
from pipelines.job.rejects import RejectCounts
from pipelines.job.steps import Clock, Record
from preprocessing.reading.documents import Documents


@dataclass
class TaskWork:
    """What a task's documents meet at every stage.

    Attributes:
        job: the job.
        task: the extents to read.
        rejects: gets the documents that are not kept.
        inputs: what was read of each file, by its number in the plan.
        clock: gets the time of each stage.
        stages: documents and bytes of text after each stage, in order.
        lengths: documents as read with 2^i to 2^(i+1) - 1 bytes of text, int64 [64].
        languages: documents by language, where one was asked for.
        language_bytes: bytes of text likewise.
        replaced: pieces of personal data replaced, by kind.
        without_address: documents that address lists could not judge.
        contaminated: documents by evaluation file, int64 [files].
        shared_runs: runs of the contamination index that were met.
        totals: documents encoded, their ids and bytes, and lines dropped.
        batches: how many have been fingerprinted.
    """

    job: Job
    task: Task
    rejects: RejectCounts
    inputs: InputCounts = field(default_factory=InputCounts)
    clock: Clock = field(default_factory=Clock)
    stages: dict[str, list[int]] = field(default_factory=dict)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(64, np.int64))
    languages: Counter[str] = field(default_factory=Counter)
    language_bytes: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    without_address: int = 0
    contaminated: np.ndarray = field(init=False)
    shared_runs: set[int] = field(default_factory=set)
    totals: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("documents", "tokens", "text_bytes", "lines_dropped"), 0
        )
    )
    batches: int = 0

    def __post_init__(self) -> None:
        self.contaminated = np.zeros(len(self.job.config.decontaminate), np.int64)

    def after(
        self, stage: str, documents: Documents, kept: np.ndarray | None = None
    ) -> None:
        """Counts the documents left after a stage: all, or those of a mask."""
        sizes = documents.sizes
        if kept is not None:
            sizes = sizes[kept]
        total = self.stages.setdefault(stage, [0, 0])
        total[0] += len(sizes)
        total[1] += int(sizes.sum())

    def record(self) -> Record:
        """Returns what the task's record keeps of it."""
        return {
            **self.totals,
            "read": self.totals["documents"] + self.rejects.counts.total(),
            "stages": self.stages,
            "lengths_before": np.trim_zeros(self.lengths, "b").tolist(),
            "languages": dict(self.languages),
            "language_bytes": dict(self.language_bytes),
            "replaced": dict(self.replaced),
            "without_address": self.without_address,
            **self.rejects.record(),
            "contaminated": self.contaminated.tolist(),
            "shared_runs": sorted(self.shared_runs),
            "inputs": self.inputs.record(),
            "seconds": self.clock.seconds,
            "cpu_seconds": self.clock.cpu_seconds,
        }
