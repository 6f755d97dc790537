# SPDX-License-Identifier: Apache-2.0
"""A first look at the prompts: how many, what hash, and the chunks they are cut into.

Chunks follow from the input and the flags alone, never from workers, so that a job can
be stopped and gone on with on another machine, and its answers are the same.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.generation.prompts import Prompt
from preprocessing.foundation import strict_json

# A chunk's slots are refilled while it has prompts and drain at its end: with 16 times
# as many prompts as slots that costs a few hundredths.
_FULL = 16
# Few prompts: shorter chunks, so that several workers have some.
_FEW_CHUNKS, _LEAST = 8, 2
# Many: larger ones, up to what is well redone after a kill.
_MANY_CHUNKS, _LARGEST_CHUNK = 64, 1024
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Census:
    """What a look at the whole input found.

    Attributes:
        count: prompts, bad ones among them.
        errors: bad ones.
        sha256: hash of all that was read of them.
        integer_ids: whether every good one's id is a whole number of 64 bits.
        first_error: what is wrong with the first bad one.
    """

    count: int
    errors: int
    sha256: str
    integer_ids: bool
    first_error: str | None = None

    def chunks(self, slots: int) -> tuple[int, int]:
        """Returns the prompts of a chunk, and how many chunks, hence shards, there are.

        Args:
            slots: prompts that are answered together.
        """
        full = _FULL * slots
        few = min(full, max(-(-self.count // _FEW_CHUNKS), _LEAST * slots))
        many = min(-(-self.count // _MANY_CHUNKS), _LARGEST_CHUNK)
        size = max(few, many)
        return size, -(-self.count // size)


class Counter:
    """Counts and hashes prompts as they go by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._found = Census(0, 0, "", integer_ids=True)

    def passed(self, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        """Yields the prompts, each counted."""
        for prompt in prompts:
            self._digest.update(strict_json.dumps(_values(prompt)).encode())
            found = self._found
            good = prompt.error is None
            whole = isinstance(prompt.id, int) and prompt.id in INT64
            self._found = Census(
                found.count + 1,
                found.errors + (not good),
                "",
                found.integer_ids and (whole or not good),
                found.first_error or prompt.error,
            )
            yield prompt

    def census(self) -> Census:
        """Returns what has gone by."""
        return dataclasses.replace(self._found, sha256=self._digest.hexdigest())


def take_census(prompts: Iterable[Prompt]) -> Census:
    """Returns what a whole input holds."""
    counter = Counter()
    for _ in counter.passed(prompts):
        pass
    return counter.census()


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


def encode_chunk(chunk: Iterable[Prompt]) -> bytes:
    """Returns a chunk as the bytes of its file."""
    return strict_json.dumps([_values(prompt) for prompt in chunk]).encode()


def decode_chunk(data: bytes) -> list[Prompt]:
    """Reads what `encode_chunk` wrote."""
    return [Prompt(*values) for values in strict_json.loads(data)]


def _values(prompt: Prompt) -> list[Any]:
    return [prompt.id, prompt.text, prompt.error, prompt.kept, prompt.continuation]
