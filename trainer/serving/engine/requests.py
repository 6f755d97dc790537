# SPDX-License-Identifier: Apache-2.0
"""What is asked of the engine, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SlotRequest:
    """One prompt and how it is continued; the answer depends on nothing else.

    Attributes:
        key: names it among those of one engine.
        ids: the prompt as the model reads it, one id or more.
        limit: most ids to make; prompt and continuation lie within the context.
        temperature: 0 or less is greedy.
        top_k: see `trainer.serving.sampling`, as for the next four.
        top_p: a share.
        min_p: a share.
        repetition_penalty: 1 sets none.
        seed: the row's own.
        stop: strings that end it, UTF-8.
        time_limit: seconds after which it ends as it is; 0 sets none.
        shared: how many of its first ids, fewer than all, are read once for all
            requests that begin with them.
    """

    key: int
    ids: Sequence[int]
    limit: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[bytes, ...] = ()
    time_limit: float = 0.0
    shared: int = 0

    @property
    def room(self) -> int:
        """Positions that it may come to take."""
        return len(self.ids) + self.limit


@dataclass(frozen=True)
class Finished:
    """The end of a request.

    Attributes:
        key: of the request.
        ids: of the continuation, without what ended it; as many as spell its text.
        reason: "stop" at an id or a string that ends it, "length" at its limit, "time"
            at its time limit.
        num_bytes: how much of the ids' text belongs to it, all where None: a stop
            string may begin within a token.
        error: why there is no continuation; "" where there is.
    """

    key: int
    ids: Sequence[int] = ()
    reason: str = ""
    num_bytes: int | None = None
    error: str = ""
