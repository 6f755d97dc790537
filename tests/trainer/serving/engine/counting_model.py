# SPDX-License-Identifier: Apache-2.0
"""A slot model of whole numbers: each id follows from every id before it.

A state holds what each row has read, [rows, capacity], 0 where nothing is: so a row
that read too little, too much or another's ids goes on otherwise. Warm rows depend on
their seed and on how many ids were made, penalised ones on which ids were seen.
"""

import numpy as np

VOCAB = 40
EOS = 7


def next_id(ids, drawn=0, seen=()) -> int:
    """Returns what follows ids, given what was drawn and which ids are penalised."""
    value = 1 + drawn % 1_000_003
    for place, id in enumerate([*ids, *sorted({*seen})]):
        value = (value * 31 + (place + 1) * (id + 3)) % 1_000_003
    return 1 + value % (VOCAB - 1)


def draw(temperature, seed, count) -> int:
    """Returns what chance gives for the `count`-th id of a row."""
    return (int(seed) + 1) * (int(count) + 7) if temperature > 0 else 0


def continued(request) -> tuple[list[int], str]:
    """Returns what a request is answered, without slots."""
    ids = [*request.ids]
    while len(ids) < len(request.ids) + request.limit:
        drawn = draw(request.temperature, request.seed, len(ids) - len(request.ids))
        id = next_id(ids, drawn, ids if request.repetition_penalty != 1 else ())
        if id == EOS:
            return ids[len(request.ids) :], "stop"
        ids.append(id)
    return ids[len(request.ids) :], "length"


class CountingModel:
    """Fails where a poisonous id is read; notes the shape of each call.

    A row's state takes `fixed` bytes beside those of its positions.
    """

    def __init__(self, poison=(), most_bytes=None, fixed=0) -> None:
        self.poison, self.most_bytes, self.fixed = {*poison}, most_bytes, fixed
        self.read, self.largest, self.calls, self.prefills = 0, 0, 0, 0
        self.failures, self.scores = 0, []

    def empty(self, rows):
        return np.zeros([rows, 1], np.int64)

    def num_bytes(self, state):
        return state.nbytes + self.fixed * len(state)

    def prefill(self, inputs, state):
        self.prefills += 1
        made = state[inputs["source"]]
        need = int((inputs["position"] + inputs["num_tokens"]).max())
        made = self._kept(self._resized(made, need))
        if len(made) > 1:
            self.scores.append(inputs["token_ids"].size * need)
        for row, ids in enumerate(inputs["token_ids"]):
            first, count = inputs["position"][row], inputs["num_tokens"][row]
            self._check(ids[:count])
            made[row, first : first + count] = ids[:count]
            self.read += int(count)
        return made

    def insert(self, inputs, state, fresh):
        capacity = int(inputs["capacity"].max())
        made, fresh = self._resized(state, capacity), self._resized(fresh, capacity)
        for row, slot in enumerate(inputs["slot"]):
            if 0 <= slot < len(made):
                made[slot] = fresh[row]
        return self._kept(made)

    def decode(self, inputs, state):
        self.calls += 1
        steps, reads = inputs["steps"], inputs["num_tokens"]
        last = inputs["position"] + reads - 1
        state = self._kept(self._resized(state, int((last + steps).max())))
        width = int(steps.max())
        if inputs["token_ids"].shape[1] > 1 and len(state) > 1:
            self.scores.append(inputs["token_ids"].size * int(last.max() + 1))
        ids = np.zeros([len(state), width], np.int32)
        counts, stopped = np.zeros(len(state), np.int32), np.zeros(len(state), bool)
        for row in range(len(state)):
            *before, token = inputs["token_ids"][row, : reads[row]].tolist()
            if steps[row]:
                self._check(before)
                state[row, last[row] - len(before) : last[row]] = before
                self.read += len(before)
            seen = [id for id in inputs["history"][row].tolist() if id >= 0]
            asked = inputs["temperature"][row], inputs["seed"][row]
            for step in range(steps[row]):
                self._check([token])
                place = last[row] + step
                state[row, place] = token
                drawn = draw(*asked, inputs["count"][row] + step)
                if inputs["repetition_penalty"][row] == 1:
                    seen = []
                token = next_id(state[row, : place + 1].tolist(), drawn, seen)
                if token == EOS:
                    stopped[row] = True
                    break
                ids[row, step] = token
                seen.append(token)
                counts[row] += 1
        return state, ids, counts, stopped

    def _resized(self, state, capacity):
        made = np.zeros([len(state), max(capacity, 1)], np.int64)
        kept = state[:, :capacity]
        made[:, : kept.shape[1]] = kept
        return made

    def _kept(self, state):
        self.largest = max(self.largest, self.num_bytes(state))
        if self.most_bytes is not None and state.nbytes > self.most_bytes:
            self.failures += 1
            raise MemoryError("out of memory\nand a long explanation")
        return state

    def _check(self, ids):
        if self.poison & {int(id) for id in ids}:
            self.failures += 1
            raise ValueError("cannot swallow this\nand a long explanation")
