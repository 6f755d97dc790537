# SPDX-License-Identifier: Apache-2.0
"""The endless stream of training rows, as the blocks that inner loops are fed with."""

import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from trainer.data.batch_schedule import BatchSchedule
from trainer.data.input_pipeline import Features, SubRows
from trainer.data.mixed_order import MixedOrder
from trainer.data.mixed_rows import read_located
from trainer.data.omitted_rows import Ranges, runs, take


@dataclass(frozen=True)
class RowBlock:
    """The rows of one inner loop.

    Attributes:
        features: what `SubRows.read` gives, each int32 [steps, batch, count]; `batch`
            is this worker's.
        first_row: stream position where the block begins.
        step_ends: stream position after each step, int64 [steps]; positions that are
            left out count.
        num_rows: rows that the block feeds over all workers; those do not count.
        wait_seconds: how long the caller was kept waiting for it.
    """

    features: Features
    first_row: int
    step_ends: np.ndarray
    num_rows: int
    wait_seconds: float

    @property
    def num_steps(self) -> int:
        """Steps the block feeds."""
        return len(self.step_ends)

    @property
    def end_row(self) -> int:
        """Stream position after the block's last row, over all workers."""
        return int(self.step_ends[-1])


class TrainingRows:
    """The stream that one worker sees, entered at any step and any row."""

    def __init__(
        self,
        splits: Sequence[SubRows],
        order: MixedOrder,
        schedule: BatchSchedule,
        worker: int = 0,
        num_workers: int = 1,
        omitted: Ranges = (),
    ) -> None:
        """Fixes the stream that worker `worker` of `num_workers` sees.

        Args:
            splits: the training split of each dataset, all at one sequence length.
            order: in which order their rows are read.
            schedule: rows of each step over all workers, a multiple of them.
            worker: which equal slice of every batch this process reads.
            num_workers: processes that share a batch.
            omitted: stream positions that no step takes.
        """
        self._splits, self._order, self._schedule = splits, order, schedule
        self._worker, self._num_workers = worker, num_workers
        self._omitted = omitted

    def blocks(
        self, step: int, rows_consumed: int, steps_per_block: Iterable[int]
    ) -> Generator[RowBlock, None, None]:
        """Yields one block per entry of `steps_per_block`.

        A background thread reads the next block while the caller uses this one. Closing
        the generator does not wait for it.

        Args:
            step: steps done.
            rows_consumed: stream positions that they used up.
            steps_per_block: steps of each block, all of one size in the schedule.

        Raises:
            WorkError: a row is damaged; names the shard.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="rows")
        try:
            reading = None
            for steps in steps_per_block:
                size = self._schedule.size(step)
                changes = self._schedule.constant_until(step)
                if changes is not None and step + steps > changes:
                    raise ValueError(f"{steps} steps from {step} on differ in size")
                positions, end = take(rows_consumed, steps * size, self._omitted)
                ahead = pool.submit(self._read, rows_consumed, positions, steps)
                step, rows_consumed = step + steps, end
                if reading is not None:
                    yield _timed(reading)
                reading = ahead
            if reading is not None:
                yield _timed(reading)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, first_row: int, positions: np.ndarray, steps: int) -> RowBlock:
        """Reads this worker's rows of the positions [steps * batch] of a block."""
        by_step = positions.reshape(steps, -1)
        located = [self._order.locate(first, count) for first, count in runs(positions)]
        share = by_step.shape[1] // self._num_workers
        mine = slice(self._worker * share, (self._worker + 1) * share)
        datasets, rows = (
            np.concatenate(each).reshape(by_step.shape)[:, mine].ravel()
            for each in zip(*located, strict=True)
        )
        features = read_located(self._splits, datasets, rows)
        return RowBlock(
            {name: x.reshape(steps, share, -1) for name, x in features.items()},
            first_row,
            step_ends=by_step[:, -1] + 1,
            num_rows=len(positions),
            wait_seconds=0.0,
        )


def _timed(reading: Future[RowBlock]) -> RowBlock:
    """Waits for a block and notes for how long."""
    began = time.perf_counter()
    block = reading.result()
    return replace(block, wait_seconds=time.perf_counter() - began)
