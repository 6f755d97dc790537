# SPDX-License-Identifier: Apache-2.0
"""The output directory of batch generation: what is finished, and what is not.

    OUTPUT/
      job.json                            what is being made; another job is refused
      generations-00000-of-00004.jsonl    the answers of one chunk, whole or absent;
                                          or .parquet, or .tfrecord
      summary.json                        written last
      .work/                              chunks to do, finished ones' numbers; removed

Every file appears under its name only when complete, and says the same whoever writes
it, so a job killed at any moment goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.generation.answer_files import AnswerFiles
from pipelines.generation.census import decode_chunk, encode_chunk
from pipelines.generation.prompts import Prompt
from preprocessing.claims.claims import CLAIM_NAME, check_claim
from preprocessing.contracts.manifest import canonical_json
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, WorkError, count_of

SCHEMA_VERSION = 2
JOB_NAME = "job.json"
SUMMARY_NAME = "summary.json"
_WORK_NAME = ".work"


@dataclass(frozen=True)
class GenerationJob:
    """Everything the answers depend on; two equal jobs give the same files.

    Attributes:
        input_sha256: hash of what was read of the input's records.
        num_prompts: records, blank lines left out.
        num_shards: output files.
        lineage_sha256: hash of the release's lineage; None of a server's model.
        fields: which fields of a record were read.
        generation: how prompts are continued.
        answers: how answers lie in the shards.
        threads: cores that each worker computes on. Sums over several cores differ in
            their last bits from those over one, so it must not follow from workers.
        made: what is made of each record.
        remote: which server's model makes it; None of a release.
        schema_version: of this file.
    """

    input_sha256: str
    num_prompts: int
    num_shards: int
    lineage_sha256: str | None
    fields: Mapping[str, Any]
    generation: Mapping[str, Any]
    answers: Mapping[str, Any]
    threads: int
    made: Mapping[str, Any] = field(default_factory=dict)
    remote: Mapping[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Tally:
    """What became of a number of prompts.

    Attributes:
        prompts: their number.
        errors: those that have no answer.
        truncated: those that lost their first ids for want of room.
        tokens: ids of all answers.
        first_error: of the first that has no answer, why.
    """

    prompts: int = 0
    errors: int = 0
    truncated: int = 0
    tokens: int = 0
    first_error: str | None = None

    def __add__(self, other: "Tally") -> "Tally":
        """Adds two tallies."""
        return Tally(
            self.prompts + other.prompts,
            self.errors + other.errors,
            self.truncated + other.truncated,
            self.tokens + other.tokens,
            self.first_error or other.first_error,
        )


@dataclass(frozen=True)
class GenerationOutput:
    """The output directory of a job with a known number of shards.

    Attributes:
        directory: where it is, local or cloud.
        num_shards: output files.
        files: how answers lie in them.
        claim: the token of this job's claim on it; empty where nobody claims it.
    """

    directory: str
    num_shards: int
    files: AnswerFiles = field(default_factory=AnswerFiles)
    claim: str = ""

    def shard_name(self, index: int) -> str:
        """Returns a shard's name."""
        ending = self.files.format
        return f"generations-{index:05d}-of-{self.num_shards:05d}.{ending}"

    def begun(self) -> dict[str, Any] | None:
        """Returns the job that the directory holds, None where it holds none."""
        path = storage.join(self.directory, JOB_NAME)
        if not storage.exists(path):
            return None
        return dict(strict_json.loads(storage.read_bytes(path)))

    def check_free(self, job: GenerationJob) -> bool:
        """Tells whether the directory holds the job already.

        Raises:
            UsageError: it holds something else.
        """
        begun = self.begun()
        if begun is not None:
            self._check_same(begun, job)
            return True
        if storage.exists(self.directory) and not storage.is_dir(self.directory):
            raise UsageError(
                f"wanted a directory at {self.directory}, found a file. Choose another "
                "--output"
            )
        # A job killed before it had written job.json leaves hidden names alone.
        names = storage.list_names(self.directory)
        if any(not name.startswith(".") for name in names):
            raise UsageError(
                f"wanted an empty directory or an unfinished job at {self.directory}, "
                f"found files and no {JOB_NAME}. Choose another --output"
            )
        return False

    def open(self, job: GenerationJob) -> None:
        """Makes the directory, or takes up the same job where it stopped.

        Raises:
            UsageError: it holds something else, or cannot be written.
        """
        if self.check_free(job):
            return
        path = storage.join(self.directory, JOB_NAME)
        try:
            storage.make_directory(storage.join(self.directory, _WORK_NAME))
            storage.write_atomically(path, canonical_json(asdict(job)))
        except OSError as error:
            raise UsageError(
                f"wanted to write to {self.directory}, found: {error.strerror}. Choose "
                "another --output"
            ) from error

    def unfinished(self) -> list[int]:
        """Returns the shards that are still to be made."""
        names = set(storage.list_names(self.directory))
        shards = range(self.num_shards)
        return [index for index in shards if self.shard_name(index) not in names]

    def write_chunk(self, index: int, prompts: Sequence[Prompt]) -> None:
        """Leaves the prompts of a shard for a worker, and none of them reported."""
        storage.remove_file(self._work("done", index))
        storage.write_atomically(self._work("chunk", index), encode_chunk(prompts))

    def read_chunk(self, index: int) -> list[Prompt]:
        """Returns the prompts of a shard."""
        return decode_chunk(storage.read_bytes(self._work("chunk", index)))

    def write_shard(
        self, index: int, lines: Sequence[Mapping[str, Any]], truncated: int
    ) -> None:
        """Publishes a shard; its tally first, so a shard that is there is counted.

        Raises:
            WorkError: the output is not this job's any more.
        """
        self.check_claim()
        tally = Tally(
            prompts=len(lines),
            errors=sum("error" in line for line in lines),
            truncated=truncated,
            tokens=sum(line.get("num_tokens", 0) for line in lines),
            first_error=next((x["error"] for x in lines if "error" in x), None),
        )
        tally_bytes = strict_json.dumps(asdict(tally)).encode()
        storage.write_atomically(self._work("tally", index), tally_bytes)
        path = storage.join(self.directory, self.shard_name(index))
        storage.write_atomically(path, self.files.encode(lines))
        storage.remove_file(self._work("chunk", index))

    def report(self, index: int, done: int, tokens: int) -> None:
        """Notes how far an unfinished shard is: prompts answered, and their ids."""
        text = strict_json.dumps({"prompts": done, "tokens": tokens})
        storage.write_atomically(self._work("done", index), text.encode())

    def check_claim(self) -> None:
        """Checks, in any process, that the output is still claimed for this job.

        Raises:
            WorkError: another has taken it over.
        """
        path = storage.join(self.directory, CLAIM_NAME)
        check_claim(path, self.claim, f"--output {self.directory}")

    def tally(self, shards: Sequence[int]) -> Tally:
        """Returns what became of the prompts of finished shards."""
        total = Tally()
        for index in shards:
            total += Tally(
                **strict_json.loads(storage.read_bytes(self._work("tally", index)))
            )
        return total

    def reported(self, shards: Sequence[int]) -> Tally:
        """Returns the prompts and tokens that unfinished shards have reported.

        Reads a small file for each at work, none of which goes away before the end.
        """
        names = set(storage.list_names(storage.join(self.directory, _WORK_NAME)))
        total = Tally()
        for path in (self._work("done", index) for index in shards):
            if path.rpartition("/")[2] in names:
                total += Tally(**strict_json.loads(storage.read_bytes(path)))
        return total

    def summary(self) -> Tally | None:
        """Returns the totals of a complete job, None for one that is not."""
        path = storage.join(self.directory, SUMMARY_NAME)
        if not storage.exists(path):
            return None
        return Tally(**strict_json.loads(storage.read_bytes(path)))

    def is_tidy(self) -> bool:
        """Tells whether a complete job left nothing but what it is for."""
        names = storage.list_names(self.directory)
        return SUMMARY_NAME in names and _WORK_NAME not in names

    def finish(self, job: GenerationJob) -> Tally:
        """Checks that every prompt was answered once and writes the summary.

        Raises:
            WorkError: the numbers do not add up, or the output is not this job's.
        """
        self.check_claim()
        total = self.tally(range(self.num_shards))
        if self.unfinished() or total.prompts != job.num_prompts:
            raise WorkError(
                f"wanted {job.num_prompts} answers in {self.num_shards} shards, found "
                f"{total.prompts} with {count_of(len(self.unfinished()), 'shard')} "
                "missing. Run the same command again"
            )
        path = storage.join(self.directory, SUMMARY_NAME)
        storage.write_atomically(path, canonical_json(asdict(total)))
        self.remove_work()
        return total

    def remove_work(self) -> None:
        """Removes what only an unfinished job needs, and what killed ones left."""
        storage.remove_leftovers(self.directory)
        storage.remove_tree(storage.join(self.directory, _WORK_NAME))

    def _check_same(self, stored: dict[str, Any], job: GenerationJob) -> None:
        wanted = strict_json.loads(canonical_json(asdict(job)))
        different = [key for key in wanted if stored.get(key) != wanted[key]]
        if different:
            raise UsageError(
                f"wanted the job that {self.directory} was begun with, found another "
                f"{', '.join(different)}. Restore it or choose another --output"
            )

    def _work(self, kind: str, index: int) -> str:
        return storage.join(self.directory, _WORK_NAME, f"{kind}-{index:05d}")
