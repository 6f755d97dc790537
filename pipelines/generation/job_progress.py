# SPDX-License-Identifier: Apache-2.0
"""How far a generation job has come, from the small files that its workers leave."""

from pipelines.beam.progress import Progress
from pipelines.generation.generations import GenerationOutput, Tally


class JobProgress:
    """Answered prompts of all shards, and the tokens made since this began.

    Args:
        output: where the job writes.
        num_prompts: all there are.
        chunk_size: prompts of a shard; the last one has what is left.
    """

    def __init__(
        self, output: GenerationOutput, num_prompts: int, chunk_size: int
    ) -> None:
        self._output, self._num_prompts = output, num_prompts
        self._unfinished = output.unfinished()
        left = sum(
            min(chunk_size, num_prompts - index * chunk_size)
            for index in self._unfinished
        )
        self._finished = Tally(prompts=num_prompts - left)

    def __call__(self) -> Progress:
        """Returns it as it is now; a finished shard's sums are read once."""
        unfinished = self._output.unfinished()
        done = sorted(set(self._unfinished) - set(unfinished))
        self._unfinished = unfinished
        self._finished += self._output.tally(done)
        now = self._finished + self._output.reported(unfinished)
        return Progress("generate", now.prompts, self._num_prompts, now.tokens)
