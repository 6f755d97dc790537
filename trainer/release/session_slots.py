# SPDX-License-Identifier: Apache-2.0
"""Drives a release's slots through the C API, with the engine of batch generation.

What `generate` answered when the release was made, `prefill`, `insert` and `decode`
have to answer too, a few ids at a time, in fewer slots than there are prompts.
"""

from collections.abc import Sequence

import numpy as np

from preprocessing.contracts.releases import Lineage
from preprocessing.contracts.signatures import FRESH, SIGNATURES, STATE, STOP_DIVIDER
from preprocessing.foundation.commands import WorkError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.release.c_api import Session
from trainer.release.warmup_requests import Request
from trainer.serving.engine.engine import Engine
from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.requests import Finished, SlotRequest
from trainer.serving.engine.slot_model import Inputs

_SLOTS, _STEPS = 3, 5
_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
State = list[np.ndarray]


class SessionSlots:
    """A slot model of a session's signatures.

    Args:
        session: of the release.
        empty: an empty state of one row.
    """

    def __init__(self, session: Session, empty: State) -> None:
        self._session, self._empty = session, empty

    def empty(self, rows: int) -> State:
        """Returns zeros."""
        return [np.zeros([rows, *each.shape[1:]], each.dtype) for each in self._empty]

    def prefill(self, inputs: Inputs, state: State) -> State:
        """Reads pieces of prompts."""
        return self._run("prefill", inputs, {STATE: state})[0]

    def insert(self, inputs: Inputs, state: State, fresh: State) -> State:
        """Puts rows into slots."""
        return self._run("insert", inputs, {STATE: state, FRESH: fresh})[0]

    def decode(
        self, inputs: Inputs, state: State
    ) -> tuple[State, np.ndarray, np.ndarray, np.ndarray]:
        """Continues rows."""
        state, (token_ids, num_tokens, stopped) = self._run(
            "decode", inputs, {STATE: state}
        )
        return state, token_ids, num_tokens, stopped

    def num_bytes(self, state: State) -> int:
        """Returns the bytes of all arrays."""
        return sum(each.nbytes for each in state)

    def _run(
        self, name: str, inputs: Inputs, states: dict[str, State]
    ) -> tuple[State, list[np.ndarray]]:
        fed = dict(inputs)
        for prefix, arrays in states.items():
            fed |= {f"{prefix}_{index}": each for index, each in enumerate(arrays)}
        found = self._session.run(name, fed)
        made = {key: np.asarray(value) for key, value in found.items()}
        state = [made[f"{STATE}_{index}"] for index in range(len(self._empty))]
        return state, [made[each.name] for each in SIGNATURES[name].outputs]


def slot_differences(
    session: Session,
    lineage: Lineage,
    warmups: Sequence[Request],
    tokenizer: Tokenizer,
) -> tuple[list[str], int]:
    """Returns a sentence for each prompt that slots continue otherwise than `generate`.

    Args:
        session: of the release.
        lineage: with what `generate` answered.
        warmups: of which that of `prefill` shows an empty state.
        tokenizer: its own.

    Returns:
        The sentences, and how many prompts there are.

    Raises:
        WorkError: a call fails.
    """
    expected = lineage.expected["generate"]
    asked, wanted = expected["inputs"], expected["outputs"]
    tokens = session.run(
        "tokenize", SIGNATURES["tokenize"].fed({"text": asked["prompt"]})
    )
    shown = next(each for each in warmups if each.signature == "prefill").inputs
    count = sum(name.startswith(f"{STATE}_") for name in shown)
    empty = [np.asarray(shown[f"{STATE}_{index}"]) for index in range(count)]
    spelled = tokenizer.token_bytes()
    engine = Engine(SessionSlots(session, empty), _SLOTS, spelled, steps=_STEPS)
    pairs = zip(tokens["token_ids"], tokens["num_tokens"], strict=True)
    for row, (ids, length) in enumerate(pairs):
        most = asked["max_new_tokens"][row]
        read, limit = as_read(ids[:length].tolist(), most, lineage)
        settings = {name: asked[name][row] for name in _SETTINGS}
        stop = asked["stop"][row].encode().split(STOP_DIVIDER.encode())
        stop = tuple(text for text in stop if text)
        engine.add(SlotRequest(row, read, limit, stop=stop, **settings))
    found = list[Finished]()
    while not engine.idle:
        found += engine.step()
    sentences = []
    for each in sorted(found, key=lambda end: end.key):
        if each.error:
            raise WorkError(
                f"wanted prefill, insert and decode to run, found: {each.error}. "
                "Export again"
            )
        row = each.key
        ids = wanted["token_ids"][row][: wanted["num_tokens"][row]]
        told = {name: wanted[name][row] for name in ("text", "finish_reason")}
        text = tokenizer.decode(each.ids, each.num_bytes)
        if ([*each.ids], text, each.reason) != (ids, *told.values()):
            sentences.append(
                f"wanted the slots' ids for {asked['prompt'][row][:40]!r} to be the "
                f"trainer's {ids}, found {[*each.ids]}. Report it with the release"
            )
    return sentences, len(found)
