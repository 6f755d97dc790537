# SPDX-License-Identifier: Apache-2.0
"""Requests in, ids out: slots that are refilled as soon as a row ends.

    add(request)    waits its turn
    step()          free slots take what waits (prefill, insert); all decode some ids

What stands beside what follows from the order of the requests alone, never from the
clock, but for requests with a time limit; and no row's answer depends on its
neighbours. So equal requests in equal order give equal ids.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preprocessing.foundation.commands import WorkError
from trainer.serving.engine.ordering import in_order
from trainer.serving.engine.requests import Finished, SlotRequest
from trainer.serving.engine.sizes import SMALLEST_BUCKET, rounded_up
from trainer.serving.engine.slot_model import CacheSize, SlotModel, State, cache_size
from trainer.serving.engine.stop_strings import StopStrings

# Ids that a row makes in one call. Each call copies the cache once, and a row that
# ends within it leaves its slot empty until the next.
STEPS = 16
# Positions of a prompt that one call of prefill reads of a row, and how many scores of
# attention that may make for a head, rows times width times positions: 16 MB of them.
_PIECE = 512
_SCORES = 1 << 22
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
_TYPES = {"top_k": np.int32, "seed": np.int64}
# What an idle row asks for: anything that is allowed.
_IDLE = SlotRequest(key=-1, ids=(0,), limit=0)


@dataclass
class _Row:
    """A request in its slot."""

    request: SlotRequest
    stops: StopStrings | None
    until: float | None
    read: int  # of its ids, prompt and continuation, what its state holds
    ids: list[int] = field(default_factory=list)

    @property
    def left(self) -> int:
        return self.request.limit - len(self.ids)

    @property
    def unread(self) -> Sequence[int]:
        """Its newest ids, those behind the `read` that the state holds."""
        before = len(self.request.ids)
        if self.read >= before:
            return self.ids[self.read - before :]
        return [*self.request.ids[self.read :], *self.ids]


class Engine:
    """Continues requests with one model.

    Args:
        model: the model.
        slots: most rows that decode together.
        token_bytes: the bytes of each id, for stop strings.
        cache_memory: bytes that all rows' states may take; 0 sets no limit.
        steps: most ids that a row makes in one call.
    """

    def __init__(
        self,
        model: SlotModel,
        slots: int,
        token_bytes: Sequence[bytes] = (),
        cache_memory: int = 0,
        steps: int = STEPS,
    ) -> None:
        self._model, self._slots, self._token_bytes = model, slots, token_bytes
        self._steps = steps
        self._size = CacheSize(0, 0, 0)
        if cache_memory:
            self._size = cache_size(model, cache_memory)
        self._waiting = deque[SlotRequest]()
        # Requests whose calls failed together, to be redone apart from all others.
        self._apart = deque[deque[SlotRequest]]()
        self._rows: list[_Row | None] = []
        self._state: State = None
        self._prefix: tuple[tuple[int, ...], State] = ((), None)

    def add(self, request: SlotRequest) -> None:
        """Lets a request wait for its turn."""
        self._waiting.append(request)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._apart or self._live())

    def step(self) -> list[Finished]:
        """Fills free slots and makes some ids in each; returns what ended."""
        taken, finished = self._take()
        groups = _calls(taken)
        at_once = not self._live() and _one_call(groups)
        try:
            self._arrange(taken)
        except Exception as error:  # whatever a prompt can provoke: its answer
            groups = []
            finished += self._all_failed(taken, error)
        for group in groups:
            try:
                self._admit(group, at_once)
            except Exception as error:
                finished += self._failed(group, error)
        if self._live():
            try:
                finished += self._decode()
            except Exception as error:
                finished += self._all_failed([], error)
        return finished

    def _live(self) -> list[tuple[int, _Row]]:
        return [(slot, row) for slot, row in enumerate(self._rows) if row is not None]

    def _take(self) -> tuple[list[SlotRequest], list[Finished]]:
        """Returns the requests to admit now, in order, and those that end at once."""
        taken, finished, queue = list[SlotRequest](), list[Finished](), self._queue()
        while queue:
            request = queue[0]
            if request.limit <= 0:
                finished.append(Finished(request.key, (), "length"))
            elif self._most_rows([request]) < 1:
                finished.append(Finished(request.key, error=self._too_large(request)))
            elif len(self._live()) + len(taken) < self._most_rows([*taken, request]):
                taken.append(request)
            else:
                break
            queue.popleft()
        return taken, finished

    def _queue(self) -> deque[SlotRequest]:
        """Returns the requests whose turn it is: none of others beside those apart."""
        live = self._live()
        while self._apart and not self._apart[0] and not live:
            self._apart.popleft()
        if not self._apart:
            return self._waiting
        return deque() if live else self._apart[0]

    def _most_rows(self, taken: Sequence[SlotRequest]) -> int:
        """Returns how many rows may decode together, the live ones and these."""
        room = max(
            [each.room for each in taken]
            + [row.request.room for _, row in self._live()]
        )
        fit = self._size.rows(rounded_up(room, SMALLEST_BUCKET))
        return self._slots if fit is None else min(fit, self._slots)

    def _too_large(self, request: SlotRequest) -> str:
        wanted = self._size.bytes_of_row(rounded_up(request.room, SMALLEST_BUCKET))
        return (
            f"wanted {wanted:,.0f} bytes of cache for the prompt and what follows, "
            f"found --cache_memory {self._size.limit:,}. Raise it"
        )

    def _arrange(self, taken: Sequence[SlotRequest]) -> None:
        """Gives the state as many rows as it is to have, the live ones first.

        More where there are too few, fewer where half of them or more would idle and
        nothing waits: a step of rows that have ended takes as long as one of live ones.
        """
        size, live = len(self._rows), self._live()
        wanted = len(live) + len(taken)
        if not wanted:
            return
        most = self._most_rows(taken)
        if size // 2 < wanted <= size <= most:
            return
        new = min(rounded_up(wanted), most)
        state = self._model.empty(new)
        if live:
            slots = np.full(size, -1, np.int32)
            slots[[slot for slot, _ in live]] = np.arange(len(live))
            need = max(row.read for _, row in live) + 1
            inputs = {"slot": slots, "capacity": np.full(size, need, np.int32)}
            state = self._model.insert(inputs, state, self._state)
        self._state = state
        self._rows = [row for _, row in live] + [None] * (new - len(live))

    def _admit(self, group: Sequence[SlotRequest], at_once: bool) -> None:
        """Puts the prompts of a group into free slots; `at_once`, still unread."""
        free = [slot for slot, row in enumerate(self._rows) if row is None]
        slots = free[: len(group)]
        # One id needs no reading: a row at position 0 begins anew.
        if not at_once and any(len(request.ids) > 1 for request in group):
            self._insert(slots, group)
        now = time.monotonic()
        for slot, request in zip(slots, group, strict=True):
            stops = None
            if request.stop:
                stops = StopStrings(request.stop, self._token_bytes)
            until = now + request.time_limit if request.time_limit else None
            read = 0 if at_once else len(request.ids) - 1
            self._rows[slot] = _Row(request, stops, until, read)

    def _insert(self, slots: Sequence[int], group: Sequence[SlotRequest]) -> None:
        """Reads the prompts of a group, less their last ids, into slots."""
        shared = group[0].shared
        state = self._read_prefix(tuple(group[0].ids[:shared]))
        fresh = self._read(state, shared, [each.ids[shared:-1] for each in group])
        need = max([len(each.ids) for each in group])
        live = [row.read + 1 for _, row in self._live()]
        inputs = {
            "slot": np.array(slots, np.int32),
            "capacity": np.full(len(slots), max([need, *live]), np.int32),
        }
        self._state = self._model.insert(inputs, self._state, fresh)

    def _read_prefix(self, ids: tuple[int, ...]) -> State:
        """Returns the state of one row that has read a prefix; the last one is kept."""
        if not ids:
            return self._model.empty(1)
        if self._prefix[0] != ids:
            self._prefix = ids, self._read(self._model.empty(1), 0, [ids])
        return self._prefix[1]

    def _read(self, state: State, first: int, texts: Sequence[Sequence[int]]) -> State:
        """Reads ids behind position `first`, all going on from the state's one row."""
        rows, longest = len(texts), max(map(len, texts))
        source = np.zeros(rows, np.int32)
        for start in range(0, max(longest, 1), _PIECE):
            pieces = [text[start : start + _PIECE] for text in texts]
            width = rounded_up(max(map(len, pieces)), SMALLEST_BUCKET)
            inputs = {
                "token_ids": _padded(pieces, width, 0),
                "position": np.full(rows, first + start, np.int32),
                "num_tokens": np.array([len(piece) for piece in pieces], np.int32),
                "source": source,
            }
            state, source = self._model.prefill(inputs, state), np.arange(rows)
            source = source.astype(np.int32)
        return state

    def _decode(self) -> list[Finished]:
        """Makes some ids in every live row, and frees the slots of those that end."""
        made = self._model.decode(self._inputs(), self._state)
        self._state, token_ids, num_tokens, stopped = made
        finished, now = list[Finished](), time.monotonic()
        for slot, row in self._live():
            ids = token_ids[slot, : num_tokens[slot]].tolist()
            end = _advance(row, ids, bool(stopped[slot]), now)
            if end is not None:
                finished.append(end)
                self._rows[slot] = None
        return finished

    def _inputs(self) -> dict[str, np.ndarray]:
        rows = self._rows
        asked = [_IDLE if row is None else row.request for row in rows]
        unread = [[0] if row is None else row.unread for row in rows]
        longest = max(map(len, unread))
        width = rounded_up(longest, SMALLEST_BUCKET) if longest > 1 else 1
        inputs = {
            "num_tokens": list(map(len, unread)),
            "position": [0 if row is None else row.read for row in rows],
            "steps": [0 if row is None else min(row.left, self._steps) for row in rows],
            "count": [0 if row is None else len(row.ids) for row in rows],
        }
        found = {name: np.array(each, np.int32) for name, each in inputs.items()}
        for name in _SAMPLING:
            values = [getattr(request, name) for request in asked]
            found[name] = np.array(values, _TYPES.get(name, np.float32))
        seen: list[Any] = [()] * len(rows)
        if any(request.repetition_penalty != 1 for request in asked):
            seen = [() if r is None else (*r.request.ids, *r.ids) for r in rows]
        most = rounded_up(max(map(len, seen)), SMALLEST_BUCKET)
        found["token_ids"] = _padded(unread, width, 0)
        return {**found, "history": _padded(seen, most, -1)}

    def _all_failed(
        self, taken: Sequence[SlotRequest], error: Exception
    ) -> list[Finished]:
        """Lets the live rows and what was to join them be redone."""
        requests = [*(row.request for _, row in self._live()), *taken]
        self._rows, self._state = [], None
        return self._failed(requests, error)

    def _failed(
        self, requests: Sequence[SlotRequest], error: Exception
    ) -> list[Finished]:
        """Lets requests whose call failed be redone in halves, until one is alone."""
        if len(requests) == 1:
            message = str(error).strip().splitlines() or [type(error).__name__]
            told = f"generation failed: {message[0]}"
            return [Finished(requests[0].key, error=told)]
        middle = len(requests) // 2
        halves = deque(requests[:middle]), deque(requests[middle:])
        self._apart.extendleft(reversed(halves))
        return []


def continue_all(
    model: SlotModel, requests: Sequence[SlotRequest], slots: int
) -> list[list[int]]:
    """Returns the ids that continue each request, which are named by their places.

    Raises:
        WorkError: one of them cannot be continued.
    """
    engine, found = Engine(model, slots), dict[int, Finished]()
    for request in in_order(requests):
        engine.add(request)
    while not engine.idle:
        found.update((each.key, each) for each in engine.step())
    for end in found.values():
        if end.error:
            raise WorkError(
                f"wanted to continue a prompt, found: {end.error}. Try a shorter one"
            )
    return [[*found[each.key].ids] for each in requests]


def _advance(
    row: _Row, ids: Sequence[int], stopped: bool, now: float
) -> Finished | None:
    """Adds what a call made to a row; returns its end, None if it goes on."""
    row.ids += ids
    row.read = len(row.request.ids) + len(row.ids) - 1
    key = row.request.key
    found = row.stops.find(ids) if row.stops else None
    if found is not None:
        count, num_bytes = found
        return Finished(key, row.ids[:count], "stop", num_bytes)
    if stopped:
        return Finished(key, row.ids, "stop")
    if row.left <= 0:
        return Finished(key, row.ids, "length")
    if row.until is not None and now >= row.until:
        return Finished(key, row.ids, "time")
    return None


def _padded(rows: Sequence[Sequence[int]], width: int, filler: int) -> np.ndarray:
    """Returns int32 `[rows, width]`, right-padded."""
    padded = np.full((len(rows), width), filler, np.int32)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return padded


def _calls(requests: Sequence[SlotRequest]) -> list[list[SlotRequest]]:
    """Cuts requests into those that one call of prefill reads, with one prefix each."""
    calls, scores = list[list[SlotRequest]](), 0
    for request in requests:
        width = rounded_up(len(request.ids) - request.shared, SMALLEST_BUCKET)
        row = min(width, _PIECE) * rounded_up(len(request.ids), SMALLEST_BUCKET)
        scores = max(scores, row)
        if (
            calls
            and _same_prefix(calls[-1][0], request)
            and scores * (len(calls[-1]) + 1) <= _SCORES
        ):
            calls[-1].append(request)
        else:
            calls.append([request])
            scores = row
    return calls


def _one_call(groups: Sequence[Sequence[SlotRequest]]) -> bool:
    """Tells whether `decode` itself can read the prompts: all in one call, whole."""
    if len(groups) != 1 or groups[0][0].shared:
        return False
    return all(len(request.ids) <= _PIECE for request in groups[0])


def _same_prefix(a: SlotRequest, b: SlotRequest) -> bool:
    return [*a.ids[: a.shared]] == [*b.ids[: b.shared]]
