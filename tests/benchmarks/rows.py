# SPDX-License-Identifier: Apache-2.0
"""How fast rows come out of a dataset's shards: python -m tests.benchmarks.rows.

Builds a dataset of synthetic rows at sequence_length 2,048 in a temporary directory,
then reads all of it 64 rows at a time, every checksum checked: from the shards, and as
the trainer's stream of int32 batches in its first epoch (file order) and its second
(permuted). Tokens per second per core are row positions over CPU time, so other work on
the machine costs accuracy but not the figure's meaning: the median of nine reads, and
their quartiles. The promise is 20 million.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from preprocessing.contracts.manifest import Counts, Manifest, Shard, Split
from preprocessing.contracts.records import RecordFormat
from preprocessing.contracts.shards import Shards, shard_name, write_shard
from preprocessing.foundation.commands import CommandParser
from tests.benchmarks.turns import LEAST_TURNS, spread
from trainer.data.batch_schedule import BatchSchedule
from trainer.data.input_pipeline import SubRows
from trainer.data.mixed_order import MixedOrder
from trainer.data.training_rows import TrainingRows

SEQUENCE_LENGTH = 2048
ROWS_PER_READ = 64
ROWS_PER_SHARD = 8192


def write_rows(directory: str, layout: RecordFormat, shards: int) -> list[Shard]:
    """Writes shards of random rows with eight segments each."""
    rng = np.random.default_rng(0)
    written = []
    for index in range(shards):
        tokens = rng.integers(0, layout.vocab_size, (ROWS_PER_SHARD, layout.row_tokens))
        lengths = np.zeros((ROWS_PER_SHARD, layout.max_segments), np.int64)
        lengths[:, :8] = layout.row_tokens // 8
        frames = layout.encode({"tokens": tokens, "segment_lengths": lengths})
        written.append(
            write_shard(directory, shard_name("train", index, shards), [frames])
        )
    return written


def manifest_of(layout: RecordFormat, shards: list[Shard]) -> Manifest:
    """Returns the manifest that makes the shards a dataset."""
    rows = sum(shard.rows for shard in shards)
    tokens = rows * layout.row_tokens
    return Manifest(
        sequence_length=layout.sequence_length,
        objective="causal",
        token_dtype=layout.token_dtype.name,
        vocab_size=layout.vocab_size,
        bos_id=None,
        eos_id=0,
        pad_id=0,
        tokenizer_sha256="",
        config={},
        config_hash="",
        seed=0,
        max_segments=layout.max_segments,
        record_bytes=layout.record_bytes,
        features=layout.features(),
        splits={"train": Split(rows, tokens, tokens, tuple(shards))},
        counts=Counts(rows, rows, {}, tokens, tokens, 0, 0),
        sources=(),
    )


def read_shards(shards: Shards, order: np.ndarray) -> int:
    """Reads all rows in `order`, 64 at a time; returns their tokens."""
    total = 0
    for start in range(0, len(order), ROWS_PER_READ):
        tokens = shards.read(order[start : start + ROWS_PER_READ])["tokens"]
        total += len(tokens) * shards.layout.sequence_length
    return total


def read_stream(rows: SubRows, epoch: int) -> int:
    """Reads one epoch as the trainer does, in batches of 64; returns its tokens."""
    batches = rows.num_rows // ROWS_PER_READ
    order = MixedOrder([rows.num_rows], [1.0], seed=0)
    stream = TrainingRows([rows], order, BatchSchedule(ROWS_PER_READ))
    start = epoch * rows.num_rows
    blocks = stream.blocks(epoch * batches, start, [1] * batches)
    return sum(block.features["tokens"][..., 1:].size for block in blocks)


def report(ids: str, name: str, read: Callable[[], int]) -> None:
    """Prints the million tokens per second of `read`, by CPU and by wall time."""
    cpu_speeds, wall_speeds = [], []
    for _ in range(LEAST_TURNS):
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = read()
        cpu_speeds.append(tokens / (time.process_time() - cpu) / 1e6)
        wall_speeds.append(tokens / (time.perf_counter() - wall) / 1e6)
    print(f"{ids:8} {name:24} {spread(cpu_speeds):>24} {spread(wall_speeds):>24}")


def main() -> None:
    """Prints one line per vocabulary and way of reading."""
    parser = CommandParser("rows.py", "Measure how fast rows are read.")
    parser.add_argument("--shards", type=int, default=4, help="shards of 8,192 rows")
    shards = parser.parse_args().shards
    print(f"{shards} shards of {ROWS_PER_SHARD} rows, {SEQUENCE_LENGTH + 1} ids a row")
    print(f"{'ids':8} {'rows':24} {'Mtokens/s/core':>24} {'Mtokens/s wall':>24}")
    for vocab_size in (50_257, 151_643):
        layout = RecordFormat(SEQUENCE_LENGTH, vocab_size)
        with tempfile.TemporaryDirectory() as directory:
            manifest = manifest_of(layout, write_rows(directory, layout, shards))
            opened = Shards(directory, manifest, "train")
            rows = SubRows(directory, manifest, "train", SEQUENCE_LENGTH)
            in_order = np.arange(opened.num_rows)
            shuffled = np.random.default_rng(1).permutation(opened.num_rows)
            read_shards(opened, in_order)  # warms the page cache
            ids = layout.token_dtype.name
            report(ids, "shards, in order", partial(read_shards, opened, in_order))
            report(ids, "shards, shuffled", partial(read_shards, opened, shuffled))
            report(ids, "stream, first epoch", partial(read_stream, rows, 0))
            report(ids, "stream, second epoch", partial(read_stream, rows, 1))


if __name__ == "__main__":
    main()
