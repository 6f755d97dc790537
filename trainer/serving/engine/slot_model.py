# SPDX-License-Identifier: Apache-2.0
"""What the engine drives: a model behind three calls, whose states are opaque."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Inputs = Mapping[str, np.ndarray]
State = Any


class SlotModel(Protocol):
    """A model that decodes in slots; see the signatures of the same names.

    A call that fails raises, and leaves the states that it was given as they were.
    """

    def empty(self, rows: int) -> State:
        """Returns a state of so many rows that have read nothing."""

    def prefill(self, inputs: Inputs, state: State) -> State:
        """Reads pieces of prompts, each from its source row of a state."""

    def insert(self, inputs: Inputs, state: State, fresh: State) -> State:
        """Puts rows of a fresh state into slots."""

    def decode(
        self, inputs: Inputs, state: State
    ) -> tuple[State, np.ndarray, np.ndarray, np.ndarray]:
        """Returns the next state, token_ids, num_tokens and stopped."""

    def num_bytes(self, state: State) -> int:
        """Returns the bytes that a state takes."""


@dataclass(frozen=True)
class CacheSize:
    """The bytes that a row's state takes, and how many there may be in all.

    Attributes:
        fixed: bytes of a row whatever its positions.
        by_position: more for each position.
        limit: bytes of all rows' states; 0 sets no limit. While a call runs, its
            state goes in and another comes out: both count.
    """

    fixed: float
    by_position: float
    limit: int

    def rows(self, positions: int) -> int | None:
        """Returns how many rows of so many positions fit; None is any number."""
        if not self.limit:
            return None
        return int(self.limit // max(self.bytes_of_row(positions), 1))

    def bytes_of_row(self, positions: int) -> float:
        """Returns what a row takes while a call runs."""
        return 2 * (self.fixed + self.by_position * positions)


def cache_size(model: SlotModel, limit: int) -> CacheSize:
    """Measures the state of one row for two numbers of positions, and draws a line."""
    few, many = (model.num_bytes(_state(model, count)) for count in (16, 24))
    by_position = (many - few) / 8
    return CacheSize(few - 16 * by_position, by_position, limit)


def _state(model: SlotModel, positions: int) -> State:
    inputs = {
        "slot": np.zeros(1, np.int32),
        "capacity": np.full(1, positions, np.int32),
    }
    return model.insert(inputs, model.empty(1), model.empty(1))
