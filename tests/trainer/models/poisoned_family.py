# SPDX-License-Identifier: Apache-2.0
"""A decoder that some rows break: what they are embedded in is not a number."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from trainer.models.decoder import Decoder, DecoderConfig
from trainer.models.language_model import PrecisionConfig
from trainer.models.parts.layers import Initializer

FAMILY = "tests.trainer.models.poisoned_family:Config"


@dataclass(frozen=True)
class Config(DecoderConfig):
    """A decoder's, and in `poison` the ids of the rows: `1 2 3;4 5 6` names two."""

    poison: str = ""

    def build(self, vocab_size, precision: PrecisionConfig, initializer: Initializer):
        return Poisoned(self, vocab_size, precision, initializer)


class Poisoned(Decoder):
    def _embed(self, tokens, positions):
        bad = np.array([row.split() for row in self.config.poison.split(";")], np.int32)
        embedded = super()._embed(tokens, positions)
        if tokens.shape[-1] != bad.shape[-1]:  # a prompt that is continued
            return embedded
        same = tf.reduce_all(tokens[:, None, :] == bad[None], axis=-1)
        hit = tf.reduce_any(same, axis=-1)
        at = tf.repeat(hit, tf.shape(tokens)[1])[:, None]
        return tf.where(at, float("nan"), embedded)


def pairs(rows: np.ndarray) -> list[str]:
    """Returns the `--set` pairs of a run that `rows`, `[rows, length]`, break."""
    named = ";".join(" ".join(map(str, row)) for row in rows.tolist())
    return [f"model.family={FAMILY}", f"model.poison={named}"]
