# SPDX-License-Identifier: Apache-2.0
"""Prompts: read from JSONL, judged one by one, and cut into chunks of work.

    prompts.jsonl[.gz] {"id": 7, "prompt": "Once"}   one JSON object per line
    -> Prompt          id 7, text "Once"             or an id with what is wrong with it
    -> chunk files     consecutive prompts; one chunk becomes one output shard

Chunks follow from the input alone, never from workers, so a job can be stopped and
gone on with on another machine.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.decompression import (
    DamagedInput,
    compression_of,
    decompress,
)
from preprocessing.foundation.storage import InputFile
from preprocessing.reading.first_bytes import check_first_bytes
from preprocessing.reading.foreign_bytes import not_json_line

# Small enough that a job of a few hundred prompts keeps several workers busy, large
# enough that sorting a chunk by length leaves little padding.
CHUNKS = 64
SMALLEST_CHUNK, LARGEST_CHUNK = 32, 1024
# Some 250,000 ids, more than any context; a chunk of such lines still fits in memory.
LARGEST_LINE_BYTES = 1 << 20
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Prompt:
    """One line of input: its id, and either its text or what is wrong with it."""

    id: Any
    text: str | None
    error: str | None = None


@dataclass(frozen=True)
class PromptFields:
    """Which fields of a line hold what.

    Attributes:
        prompt: field with the text.
        id: field with the id, a string or a whole number.
    """

    prompt: str = "prompt"
    id: str = "id"


@dataclass(frozen=True)
class Census:
    """What a first look at the input found: lines that are not blank, their hash."""

    count: int
    sha256: str

    @property
    def chunk_size(self) -> int:
        """Prompts per chunk."""
        return min(max(-(-self.count // CHUNKS), SMALLEST_CHUNK), LARGEST_CHUNK)

    @property
    def num_chunks(self) -> int:
        """Number of chunks, hence of output shards."""
        return -(-self.count // self.chunk_size)


def take_census(files: Sequence[InputFile]) -> Census:
    """Counts and hashes the lines of all files.

    Raises:
        UsageError: there is none.
    """
    digest, count = hashlib.sha256(), 0
    for _, line in _lines(files):
        digest.update(line)
        count += 1
    if not count:
        raise UsageError(
            "wanted at least one prompt in --input, found only blank lines. Check the "
            "files"
        )
    return Census(count, digest.hexdigest())


def read_prompts(files: Sequence[InputFile], fields: PromptFields) -> Iterator[Prompt]:
    """Yields one `Prompt` per line that is not blank, in the order of the input.

    A repeated id is served the first time; what repeats it is an error.
    """
    seen: set[bytes] = set()
    for place, line in _lines(files):
        prompt = parse_line(line, place, fields)
        if prompt.id is not None:
            key = _key(prompt.id)
            if key in seen:
                prompt = Prompt(prompt.id, None, f"repeated id at {place}")
            seen.add(key)
        yield prompt


def parse_line(line: bytes, place: str, fields: PromptFields) -> Prompt:
    """Returns what a line says, or what is wrong with it; `place` names the line."""
    if len(line) > LARGEST_LINE_BYTES:
        return Prompt(None, None, f"above {LARGEST_LINE_BYTES:,} bytes at {place}")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = not_json_line(line, str(error))
        return Prompt(None, None, f"not JSON at {place}: {why}")
    if not isinstance(record, dict):
        array = " but an array (jq -c '.[]' makes lines of it)"
        what = array if isinstance(record, list) else ""
        return Prompt(None, None, f"not a JSON object at {place}{what}")
    name, text = record.get(fields.id), record.get(fields.prompt)
    if isinstance(name, bool) or not isinstance(name, str | int) or _broken(name):
        return Prompt(None, None, _wrong(fields.id, "a string or whole number", place))
    if fields.prompt not in record:
        return Prompt(name, None, f"no field {fields.prompt} at {place}")
    if not isinstance(text, str):
        return Prompt(name, None, _wrong(fields.prompt, "a string", place))
    if _broken(text):
        return Prompt(name, None, f"half of a surrogate pair at {place}")
    return Prompt(name, text)


def _broken(value: str | int) -> bool:
    """Tells of half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return any("\ud800" <= character <= "\udfff" for character in str(value))


def _wrong(field: str, wish: str, place: str) -> str:
    return f"field {field} missing or not {wish} at {place}"


def row_seed(seed: int, name: Any) -> int:
    """Returns the int64 seed of a prompt, from the job's seed and the prompt's id."""
    text = f"{seed}:{_canonical(name)}".encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def chunks(prompts: Iterable[Prompt], size: int) -> Iterator[list[Prompt]]:
    """Cuts prompts into lists of `size`, the last one shorter."""
    chunk: list[Prompt] = []
    for prompt in prompts:
        chunk.append(prompt)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def encode_chunk(chunk: Sequence[Prompt]) -> bytes:
    """Returns a chunk as the bytes of its file."""
    return strict_json.dumps([asdict(prompt) for prompt in chunk]).encode()


def decode_chunk(data: bytes) -> list[Prompt]:
    """Reads what `encode_chunk` wrote."""
    return [Prompt(**fields) for fields in strict_json.loads(data)]


def _lines(files: Sequence[InputFile]) -> Iterator[tuple[str, bytes]]:
    """Yields (file and line number, bytes) of every line that is not blank."""
    for file in files:
        for number, line in enumerate(split_lines(_parts(file)), 1):
            if len(line) <= LARGEST_LINE_BYTES:
                line = line.strip()
            if line:
                yield f"{file.relative} line {number}", line


def split_lines(
    parts: Iterable[bytes], limit: int = LARGEST_LINE_BYTES
) -> Iterator[bytes]:
    """Yields the lines of a stream; one above the limit ends a byte or more past it."""
    held = bytearray()
    for part in parts:
        first, *others = part.split(b"\n")
        held += first[: max(0, limit + 1 - len(held))]
        if others:
            yield bytes(held)
            yield from others[:-1]
            held = bytearray(others[-1])
    yield bytes(held)


def _parts(file: InputFile) -> Iterator[bytes]:
    """Yields the (decompressed) bytes of a file, a few MB at most each."""
    with storage.open_input(file.path) as stream:
        kind = compression_of(file.path)
        check_first_bytes([file], [kind])
        if kind == "none":
            yield from iter(partial(stream.read, _READ_BYTES), b"")
            return
        try:
            yield from decompress(stream, kind)
        except DamagedInput as error:
            raise UsageError(
                f"wanted a whole file at {file.path}, found: {error.detail}. Copy it "
                "again"
            ) from None


def _key(name: Any) -> bytes:
    """16 bytes per id: a million ids take some 100 MB of the driver's memory."""
    return hashlib.blake2b(_canonical(name).encode(), digest_size=16).digest()


def _canonical(name: Any) -> str:
    """7 and "7" are different ids."""
    return strict_json.dumps(name)
