# SPDX-License-Identifier: Apache-2.0
"""What a preparation job will do: its configuration, its tasks, its shards.

Everything here follows from the input and the configuration alone, never from workers
or the runner: that is half of what makes two runs write the same bytes.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.job.shuffle import BLOB_BYTES, Transport
from preprocessing.claims.claims import CLAIM_NAME, check_claim
from preprocessing.contracts.manifest import config_hash
from preprocessing.contracts.records import RecordFormat
from preprocessing.duplicates.near_config import NearConfig
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.storage import InputFile
from preprocessing.objectives.objectives import ObjectiveConfig, row_format
from preprocessing.packing import packing
from preprocessing.packing.mixture import MixtureConfig
from preprocessing.reading.extents import Extent, ReaderConfig, plan_extents
from preprocessing.rules.named import RuleConfig
from preprocessing.rules.normalize import CleaningConfig
from preprocessing.tokenizer.tokenizer import Tokenizer

# How much text a compressed byte stands for when shards are counted. Text shrinks 3 to
# 4 times under gzip and zstd, markup and logs 8 to 20 times. Counting too much only
# makes shards smaller; what still comes out too large is packed in parts.
COMPRESSED_WEIGHT = 8
PLANNERS = {"best_fit": packing.best_fit, "concat": packing.concat}
DUPLICATES = ("exact", "lines", "near")
WORK_NAME = "_work"


@dataclass(frozen=True)
class TokenizerConfig:
    """Which tokenizer: the hash of its file and the ids put around documents.

    `text_tokens` tells that it has added tokens that are text. Quern did not honour
    them at first, so it stands in the manifest where they are.
    """

    sha256: str
    vocab_size: int
    bos_id: int | None
    eos_id: int
    pad_id: int
    text_tokens: bool = False


@dataclass(frozen=True)
class ListFile:
    """A file that a rule reads besides the input: its name and its SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class PlanSizes:
    """How input is cut into tasks, shards and their parts; rows depend on it.

    Attributes:
        task_bytes: a plain file is cut into extents of this; smaller files share a task
            up to it.
        shard_input_bytes: input behind one shard of the training split: its ids fit a
            worker's memory.
        shard_part_bytes: gathered bytes of one part of a shard. The shortest documents
            cost a worker 5 bytes of memory for each of them, usual ones 3.
    """

    task_bytes: int = 64 << 20
    shard_input_bytes: int = 128 << 20
    shard_part_bytes: int = 96 << 20


@dataclass(frozen=True)
class Limits:
    """What a worker holds at once where no row depends on it.

    Attributes:
        bucket_part_bytes: gathered bytes of documents that are judged together by
            their fingerprints, 7 bytes of memory for each of them.
        blob_bytes: bytes of rows that travel together.
    """

    bucket_part_bytes: int = 48 << 20
    blob_bytes: int = BLOB_BYTES


SIZES, LIMITS = PlanSizes(), Limits()


@dataclass(frozen=True)
class PrepareConfig:
    """All that the bytes of a dataset depend on, besides the input itself.

    Attributes:
        tokenizer: the ids.
        reader: how files become documents.
        cleaning: what is tidied in every document; None for nothing at all.
        block: lists of addresses whose documents go.
        allow: lists of addresses whose documents alone stay, if there are any.
        rules: what documents must pass, in order.
        deduplicate: some of `DUPLICATES`, in that order.
        line_words: shorter lines are not looked for elsewhere.
        near: how near duplicates are found.
        decontaminate: evaluation files whose texts must not occur.
        decontaminate_ngram: words in a row that count as an occurrence.
        objective: what training asks of a document.
        mixture: named sources and their shares; None where the input is one.
        sequence_length: targets of a row.
        packing: one of `PLANNERS`.
        validation_fraction: share of documents of the validation split.
        seed: decides order, split and what objectives draw.
        sizes: how the input is cut.
    """

    tokenizer: TokenizerConfig
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    cleaning: CleaningConfig | None = field(default_factory=CleaningConfig)
    block: tuple[ListFile, ...] = ()
    allow: tuple[ListFile, ...] = ()
    rules: tuple[RuleConfig, ...] = ()
    deduplicate: tuple[str, ...] = ("exact",)
    line_words: int = 3
    near: NearConfig = field(default_factory=NearConfig)
    decontaminate: tuple[ListFile, ...] = ()
    decontaminate_ngram: int = 13
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    mixture: MixtureConfig | None = None
    sequence_length: int = 1024
    packing: str = "best_fit"
    validation_fraction: float = 0.01
    seed: int = 0
    sizes: PlanSizes = SIZES

    def __post_init__(self) -> None:
        if not 8 <= self.sequence_length <= 1 << 20:
            raise UsageError(
                "wanted --sequence_length between 8 and 1048576, found "
                f"{self.sequence_length}. 256 to 8192 are usual"
            )
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(
                "wanted --validation_fraction of 0 or more and below 1, found "
                f"{self.validation_fraction}. 0.01 is usual"
            )
        unknown = [name for name in self.deduplicate if name not in DUPLICATES]
        if unknown:
            raise UsageError(
                f"wanted --deduplicate {', '.join(DUPLICATES)} or none, found "
                f"{unknown[0]}"
            )
        if self.packing not in PLANNERS:
            raise UsageError(
                f"wanted --packing {' or '.join(PLANNERS)}, found {self.packing}"
            )

    @property
    def layout(self) -> RecordFormat:
        """The rows' layout."""
        return row_format(
            self.objective,
            self.sequence_length,
            self.tokenizer.vocab_size,
            sources=self.mixture is not None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest's `config`; sizes stand beside the other fields."""
        fields = dataclasses.asdict(self)
        sizes = fields.pop("sizes")
        if not self.tokenizer.text_tokens:
            del fields["tokenizer"]["text_tokens"]
        return {**fields, **sizes}

    @property
    def hash(self) -> str:
        """SHA-256 of the configuration."""
        return config_hash(self.to_dict())


@dataclass(frozen=True)
class Task:
    """One worker's unit of reading: extents in file order, and their input bytes."""

    index: int
    extents: tuple[Extent, ...]
    size: int


@dataclass(frozen=True)
class Plan:
    """The files, in the order their numbers refer to, and the tasks over them.

    Attributes:
        files: relative paths.
        tasks: what is read, by whom.
        sizes: bytes of each file.
        modified: when each last changed.
    """

    files: tuple[str, ...]
    tasks: tuple[Task, ...]
    sizes: tuple[int, ...]
    modified: tuple[str, ...]

    @functools.cached_property
    def file_index(self) -> Mapping[str, int]:
        """The number of each relative path."""
        return {relative: number for number, relative in enumerate(self.files)}


@dataclass(frozen=True)
class Job:
    """What every step of the graph is given; small, since it travels to each worker.

    Attributes:
        output: the dataset's directory, local or cloud.
        config: what the bytes depend on.
        shards: of the training split.
        transport: how documents travel.
        judge_only: a dry run: nothing is encoded or packed.
        limits: what a worker holds at once.
        claim: the token of the claim on the output; empty where nobody claims it.
    """

    output: str
    config: PrepareConfig
    shards: int
    transport: Transport
    judge_only: bool = False
    limits: Limits = LIMITS
    claim: str = ""

    @property
    def work(self) -> str:
        """The directory of unfinished work, inside the output."""
        return storage.join(self.output, WORK_NAME)

    def path(self, *names: str) -> str:
        """Returns a path in the work directory."""
        return storage.join(self.work, *names)

    def check_claim(self) -> None:
        """Checks, in any process, that the output is still claimed for this job.

        One small file is read: 30 us on a disk, a round trip to a bucket.

        Raises:
            WorkError: another has taken it over.
        """
        path = storage.join(self.output, CLAIM_NAME)
        check_claim(path, self.claim, f"--output {self.output}")

    def ranges(self, order: np.ndarray, parts: int = 1) -> np.ndarray:
        """Returns the shard of each order hash, int64 [n] for uint64 [n].

        With `parts`, shard x parts + the part of the shard.
        """
        return ranges(order, self.shards * parts)

    def buckets(self, hashes: np.ndarray, parts: int = 1) -> np.ndarray:
        """Returns the bucket of each key or content hash, int64 [n] for [n, 16].

        With `parts`, bucket x parts + the part of the bucket.
        """
        words = np.ascontiguousarray(hashes[:, :8]).view("<u8")[:, 0]
        return ranges(words, self.shards * parts)

    def tokenizer(self) -> Tokenizer:
        """Returns the job's tokenizer, loaded once per process."""
        ids = self.config.tokenizer
        return _tokenizer(
            self.path("tokenizer.json"), ids.sha256, ids.bos_id, ids.eos_id, ids.pad_id
        )

    def plan(self) -> Plan:
        """Returns the job's plan, read once per process."""
        return _read_plan(self.path("plan.json"), self.config.hash)


def ranges(hashes: np.ndarray, count: int) -> np.ndarray:
    """Returns which of `count` equal ranges each uint64 [n] lies in, int64 [n]."""
    high = hashes >> np.uint64(32)
    return ((high * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


@functools.lru_cache(maxsize=1)
def _tokenizer(
    path: str, sha256: str, bos_id: int | None, eos_id: int, pad_id: int
) -> Tokenizer:
    # The hash is part of the cache's key: another job's file may have the same path.
    return Tokenizer.restore(path, bos_id=bos_id, eos_id=eos_id, pad_id=pad_id)


@functools.lru_cache(maxsize=1)
def _read_plan(path: str, config: str) -> Plan:
    fields = strict_json.loads(storage.read_bytes(path))
    tasks = [
        Task(number, tuple(Extent(**extent) for extent in task["pieces"]), task["size"])
        for number, task in enumerate(fields["tasks"])
    ]
    columns = (tuple(fields[name]) for name in ("files", "sizes", "modified"))
    names, sizes, modified = columns
    return Plan(names, tuple(tasks), sizes, modified)


def write_plan(job: Job, plan: Plan) -> None:
    """Publishes the plan where workers read it."""
    fields = {
        "files": plan.files,
        "sizes": plan.sizes,
        "modified": plan.modified,
        "tasks": [
            {"size": task.size, "pieces": [dataclasses.asdict(p) for p in task.extents]}
            for task in plan.tasks
        ],
    }
    storage.write_atomically(job.path("plan.json"), strict_json.dumps(fields).encode())


def make_plan(
    files: Sequence[InputFile], reader: ReaderConfig, sizes: PlanSizes = SIZES
) -> Plan:
    """Cuts the input into tasks of about `sizes.task_bytes`, in file order."""
    tasks: list[Task] = []
    extents: list[Extent] = []
    size = 0

    def close() -> None:
        nonlocal extents, size
        if extents:
            tasks.append(Task(len(tasks), tuple(extents), size))
        extents, size = [], 0

    for extent in plan_extents(files, reader, sizes.task_bytes):
        if size + extent.size > sizes.task_bytes:
            close()
        extents.append(extent)
        size += extent.size
    close()
    return Plan(
        files=tuple(file.relative for file in files),
        tasks=tuple(tasks),
        sizes=tuple(file.size for file in files),
        modified=tuple(file.modified for file in files),
    )


def count_shards(plan: Plan, sizes: PlanSizes = SIZES) -> int:
    """Returns the number of shards, from the input's bytes, compressed input x 8."""
    extents = [extent for task in plan.tasks for extent in task.extents]
    weight = sum(
        extent.size * (1 if _is_plain(extent) else COMPRESSED_WEIGHT)
        for extent in extents
    )
    return max(1, -(-weight // sizes.shard_input_bytes))


def _is_plain(extent: Extent) -> bool:
    return extent.compression == "none" and extent.format != "parquet"
