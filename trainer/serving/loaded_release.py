# SPDX-License-Identifier: Apache-2.0
"""A release in memory, for whoever uses one: text and settings in, text out."""

import atexit
import gc
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from preprocessing.claims.scratch import scratch_directory
from preprocessing.contracts import releases
from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation import storage
from preprocessing.foundation.globs import literal_directory
from preprocessing.foundation.terminal import quiet_libraries
from preprocessing.tokenizer.tokenizer import Tokenizer

quiet_libraries()

import tensorflow as tf  # noqa: E402
import tensorflow_text  # noqa: E402, F401  # registers the tokenizer's ops

from trainer.serving.slot_models import slots_of_signatures  # noqa: E402


class LoadedRelease:
    """A release as TensorFlow loads it, with its lineage and tokenizer.

    Args:
        release: its directory, local or cloud.
        threads: cores it may use.

    Raises:
        UsageError: it is none, or an older one without the signatures of slots.
    """

    def __init__(self, release: str, threads: int) -> None:
        _limit_threads(threads)
        self.lineage = releases.read_lineage(release)
        releases.check_used(release)
        self.tokenizer = Tokenizer.restore(
            storage.join(release, releases.TOKENIZER_ASSET),
            bos_id=self.lineage.bos_id,
            eos_id=self.lineage.eos_id,
            pad_id=self.lineage.pad_id,
        )
        with scratch_directory() as copy:
            if storage.is_cloud(release):
                releases.copy_tree(release, copy)
                release = copy
            with literal_directory(release) as name:
                self._module = tf.saved_model.load(name)
        self.slots = slots_of_signatures(self._module.signatures)
        atexit.register(_let_go, weakref.ref(self))

    def generate(self, requests: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
        """Continues each prompt; `requests` are the inputs of the signature.

        Returns:
            {text, num_tokens, finish_reason} of each row.
        """
        found = self.answer("generate", requests)
        columns = [found[k].numpy() for k in ("text", "num_tokens", "finish_reason")]
        return [
            {
                "text": text.decode(),
                "num_tokens": int(count),
                "finish_reason": reason.decode(),
            }
            for text, count, reason in zip(*columns, strict=True)
        ]

    def score(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Scores each text as a whole document.

        Returns:
            {log_likelihood, num_tokens, num_bytes, is_greedy} of each row.

        Raises:
            ValueError: a log-likelihood is not finite.
        """
        return _scores(self.answer("score", {"text": texts}))

    def score_continuations(
        self, pairs: Sequence[tuple[str, str | None]]
    ) -> list[dict[str, Any]]:
        """Scores what follows each prompt; returns and raises as `score` does."""
        prompts, continuations = ([each[i] for each in pairs] for i in (0, 1))
        values = {"prompt": prompts, "continuation": continuations}
        return _scores(self.answer("score_continuation", values))

    def embed(self, texts: Sequence[str], pooling: str) -> list[dict[str, Any]]:
        """Turns each text into a vector; `pooling` is "mean" or "last".

        Returns:
            {embedding, num_tokens} of each row.

        Raises:
            ValueError: a number is not finite.
        """
        found = self.answer("embed", {"text": texts})
        columns = found[pooling].numpy(), found["num_tokens"].numpy().tolist()
        return [
            {"embedding": _floats(vector, "a vector"), "num_tokens": count}
            for vector, count in zip(*columns, strict=True)
        ]

    def answer(self, name: str, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Runs a signature on one value a row of each of its inputs."""
        signature = SIGNATURES[name]
        fed = signature.fed(values)
        inputs = {
            each.name: tf.constant(fed[each.name], each.dtype)
            for each in signature.inputs
        }
        return self._module.signatures[name](**inputs)


def _let_go(held: "weakref.ref[LoadedRelease]") -> None:
    """Takes a release apart while Python's modules are still there.

    TensorFlow's functions call its modules when they end. Whoever holds a release until
    the process ends, as Beam's workers do, would see "Exception ignored in: <function
    AtomicFunction.__del__ …" for each of them.
    """
    release = held()
    if release is not None:
        vars(release).clear()
        gc.collect()  # they hold each other


def _limit_threads(threads: int) -> None:
    """Gives TensorFlow the cores of one worker: N workers share the machine."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow already runs in this process (one worker runs in the driver, and
        # a second job there): its pools are fixed and stay as they are.
        return


def _scores(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = {name: value.numpy().tolist() for name, value in found.items()}
    sums = _floats(found["log_likelihood"].numpy(), "a log-likelihood")
    names = ("num_tokens", "num_bytes", "is_greedy")
    return [
        {"log_likelihood": total, **{name: columns[name][row] for name in names}}
        for row, total in enumerate(sums)
    ]


def _floats(values: np.ndarray, what: str) -> list[float]:
    """Returns float32 numbers with no more digits than tell them apart."""
    if not np.isfinite(values).all():
        raise ValueError(f"wanted {what} of finite numbers, found NaN or infinity")
    return [float(text) for text in values.astype(str)]
