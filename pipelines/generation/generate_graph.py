# SPDX-License-Identifier: Apache-2.0
"""The Beam graph of a generation: shards, spread over workers, read, answered, written.

    shards ─ by shard ─> read its chunk ─> answer ─> write

The first stage is ours alone, up to the GroupByKey: a worker whose versions are others
is refused there, before it reads what Beam puts around the model.
"""

from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from pipelines.beam.versions import SameVersions
from pipelines.generation.generations import GenerationOutput
from pipelines.generation.release import Answers, Chunk, ReleaseHandler
from pipelines.generation.remote_handler import RemoteHandler


def build_graph(
    pipeline: beam.Pipeline,
    output: GenerationOutput,
    handler: ReleaseHandler | RemoteHandler,
    todo: Sequence[int],
) -> None:
    """Adds the whole job to a pipeline; TensorFlow loads in the workers alone.

    Args:
        pipeline: an empty pipeline.
        output: where chunks lie and shards will.
        handler: answers a chunk.
        todo: the shards that are to be made.
    """
    (
        pipeline
        | "Start" >> beam.Impulse()
        | "Shards" >> beam.ParDo(UnmadeShards(todo))
        | "Spread" >> beam.GroupByKey()
        | "Read" >> beam.ParDo(ReadChunk(output))
        | "Generate" >> RunInference(handler)
        | "Write" >> beam.ParDo(WriteShard(output))
    )


class UnmadeShards(SameVersions, beam.DoFn):
    """Anything to the shards that are to be made."""

    def __init__(self, todo: Sequence[int]) -> None:
        self._todo = list(todo)

    def process(self, element: bytes) -> Iterator[tuple[int, bytes]]:
        """Yields each shard's number."""
        for index in self._todo:
            yield index, b""


class ReadChunk(SameVersions, beam.DoFn):
    """A shard's number to its chunk of prompts."""

    def __init__(self, output: GenerationOutput) -> None:
        self._output = output

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Chunk]:
        """Yields the chunk."""
        yield Chunk(element[0], self._output.read_chunk(element[0]))


class WriteShard(SameVersions, beam.DoFn):
    """A chunk's answers to its shard."""

    def __init__(self, output: GenerationOutput) -> None:
        self._output = output

    def process(self, element: Answers) -> Iterator[None]:
        """Yields nothing."""
        self._output.write_shard(element.index, element.lines, element.truncated)
        yield from ()
