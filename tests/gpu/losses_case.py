# SPDX-License-Identifier: Apache-2.0
"""Trains small models on one device, for `test_losses_equal.py`.

    python -m tests.gpu.losses_case XLA DIRECTORY SUBJECT…

Writes DIRECTORY/SUBJECT.npz once a subject is done: the losses of 20 steps, and the
mean gradients of the first batch, one after another.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.trainer.distribution.strategies_case import (
    ADAMW,
    BATCH,
    MODEL,
    VOCAB,
    first_gradients,
    rows,
)
from trainer.compute.compilation import Compilation
from trainer.distribution.strategies import make_strategy
from trainer.models.model import ModelConfig, PrecisionConfig, build_model, with_family
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.published.known_families import described
from trainer.step.guard import GuardConfig
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig
from trainer.step.train_step import ReplicaStep, make_train_loop, make_train_state

STEPS = 20


@dataclass(frozen=True)
class Subject:
    """A model, what updates it, and the type of its products."""

    model: ModelConfig = MODEL
    optimizer: OptimizerConfig = ADAMW
    compute: str = "float32"


def _named(name: str, rate: float = 1e-3) -> OptimizerConfig:
    return dataclasses.replace(ADAMW, name=name, peak_learning_rate=rate)


# Of a published family's `config.json`.
_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def _published(model_type: str, **fields: object) -> Subject:
    """Returns a model of a published family, which has what `MODEL` has not."""
    return Subject(described({"model_type": model_type, **fields}, model_type)[0])


# Each family, each optimizer and each type once: every subject is a compilation. Those
# in narrow types are `adamw` otherwise, which they are compared with.
SUBJECTS: Mapping[str, Subject] = {
    "adamw": Subject(),
    "bfloat16": Subject(compute="bfloat16"),
    "recurrent-adam": Subject(with_family(MODEL, "recurrent"), _named("adam", 1e-2)),
    "chunked-sgd": Subject(
        dataclasses.replace(
            MODEL, num_layers=2, attention="chunked", attention_chunk=8, remat="full"
        ),
        OptimizerConfig(
            name="sgd", peak_learning_rate=0.1, warmup_steps=0, momentum=0.9
        ),
    ),
    "untied-muon": Subject(
        dataclasses.replace(MODEL, tie_embeddings=False), _named("muon")
    ),
    "experts": Subject(
        dataclasses.replace(
            MODEL, num_experts=4, expert_dim=32, balance_loss=0.01, router_z_loss=1e-3
        )
    ),
    "gpt2": _published(
        "gpt2",
        vocab_size=VOCAB,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=64,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
    "gemma3": _published(
        "gemma3_text",
        **_SIZES,
        query_pre_attn_scalar=16,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "qwen3_moe": _published(
        "qwen3_moe",
        **_SIZES,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        norm_topk_prob=True,
    ),
    "adafactor": Subject(optimizer=_named("adafactor", 1e-2)),
    "lion": Subject(optimizer=_named("lion", 3e-4)),
    "float16": Subject(compute="float16"),
}


def train(subject: Subject, xla: str) -> dict[str, np.ndarray]:
    """Returns a subject's losses and first gradients."""
    strategy = make_strategy("one_device")
    with strategy.scope():
        precision = PrecisionConfig(compute=subject.compute)
        model = build_model(subject.model, VOCAB, precision, seed=0)
        state = make_train_state(model, subject.optimizer, GuardConfig(), STEPS)
    layout = Layout(BATCH, BATCH // 2, 1)
    step = ReplicaStep(state, strategy, layout, LossConfig(), 0, Compilation(xla))
    features = {name: values[:STEPS] for name, values in rows().items()}
    gradient = first_gradients(strategy, step, features)
    metrics = make_train_loop(step, strategy)(features, STEPS)
    loss = metrics.loss_sum.numpy() / metrics.weight_sum.numpy()
    return {"loss": loss, "gradient": gradient}


def main() -> None:
    xla, directory, *names = sys.argv[1:]
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for name in names:
        found = train(SUBJECTS[name], xla)
        half = Path(directory, f"{name}.half")
        with half.open("wb") as file:
            np.savez(file, **found)
        os.replace(half, Path(directory, f"{name}.npz"))


if __name__ == "__main__":
    main()
