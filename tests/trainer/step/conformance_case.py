# SPDX-License-Identifier: Apache-2.0
"""Every model and every optimizer, for `test_conformance.py`; alone: on two replicas.

    python -m tests.trainer.step.conformance_case OUTPUT SUBJECT...

Writes the losses of some steps of each subject on two logical CPUs.
"""

import dataclasses
import sys
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from trainer.compute.compilation import Compilation
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.strategies import make_strategy
from trainer.models.decoder import DecoderConfig
from trainer.models.model import ModelConfig, PrecisionConfig, build_model, with_family
from trainer.optimizers.optimizer import OPTIMIZERS, OptimizerConfig
from trainer.run.presets import preset
from trainer.run.published_presets import SIZES
from trainer.step.guard import GuardConfig
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig
from trainer.step.step_metrics import StepMetrics
from trainer.step.train_step import (
    ReplicaStep,
    TrainState,
    make_train_loop,
    make_train_state,
)

STEPS, BATCH, LENGTH, VOCAB = 6, 4, 16, 24
_SMALL = DecoderConfig(num_layers=1, d_model=32, num_heads=2, ffn_dim=48)
_MODELS = {
    "decoder": _SMALL,
    "decoder, grouped and untied": dataclasses.replace(
        _SMALL, num_layers=2, num_heads=4, num_kv_heads=2, tie_embeddings=False
    ),
    "decoder, chunked and recomputed": dataclasses.replace(
        _SMALL, attention="chunked", attention_chunk=4, remat="full", dropout=0.1
    ),
    "decoder, of learned positions, biases and parallel halves": dataclasses.replace(
        _SMALL,
        position="learned",
        max_positions=LENGTH,
        norm="layer",
        norm_bias=True,
        parallel_residual=True,
        attention_bias="all",
        ffn="plain",
        ffn_bias=True,
        activation="gelu",
    ),
    "decoder, of windows, caps and norms around": dataclasses.replace(
        _SMALL,
        num_layers=2,
        layer_pattern="wf",
        window=4,
        qk_norm="head",
        norm_placement="around",
        norm_offset=1.0,
        attention_cap=5.0,
        logit_cap=5.0,
    ),
    "decoder, of experts that are penalised": dataclasses.replace(
        _SMALL,
        num_layers=2,
        num_experts=4,
        expert_dim=24,
        expert_pattern="de",
        balance_loss=0.1,
        router_z_loss=0.01,
    ),
    "recurrent": dataclasses.replace(with_family(_SMALL, "recurrent"), num_layers=2),
}
_ADAMW = OptimizerConfig(peak_learning_rate=1e-2, warmup_steps=2)
# A small one of each published family: the parts above have the same laws in less time.
FAMILIES = tuple(name for name in SIZES if name.startswith("tiny-"))
# Name -> (model, optimizer): each model with AdamW, each optimizer with the decoder.
SUBJECTS: Mapping[str, tuple[ModelConfig, OptimizerConfig]] = {
    **{name: (config, _ADAMW) for name, config in _MODELS.items()},
    **{
        f"optimizer {name}": (_SMALL, dataclasses.replace(_ADAMW, name=name))
        for name in OPTIMIZERS
        if name != "adamw"
    },
    "optimizer adamw with averages": (
        _SMALL,
        dataclasses.replace(_ADAMW, ema_decay=0.9),
    ),
    **{name: (preset(name).model, _ADAMW) for name in FAMILIES},
}


def rows(steps: int = STEPS) -> dict[str, np.ndarray]:
    """Returns rows of two segments of different lengths, `[steps, batch, …]`."""
    random = np.random.default_rng(3)
    start = random.integers(0, VOCAB, [steps, BATCH, 1])
    tokens = (start + np.arange(LENGTH + 1)) % VOCAB
    lengths = np.zeros([steps, BATCH, 4], np.int32)
    lengths[:, :, 0] = random.integers(2, 9, [steps, BATCH])
    lengths[:, :, 1] = random.integers(2, 9, [steps, BATCH])
    return {"tokens": tokens.astype(np.int32), "segment_lengths": lengths}


def make_subject(
    name: str,
    strategy: tf.distribute.Strategy,
    seed: int = 0,
    compute: str = "float32",
) -> tuple[TrainState, ReplicaStep]:
    """Returns a fresh train state and its step."""
    config, optimizer = SUBJECTS[name]
    with strategy.scope():
        model = build_model(config, VOCAB, PrecisionConfig(compute=compute), seed)
        state = make_train_state(model, optimizer, GuardConfig(), STEPS)
    layout = Layout(BATCH, 2, strategy.num_replicas_in_sync)
    return state, ReplicaStep(
        state, strategy, layout, LossConfig(), 0, Compilation.NONE
    )


def mean_loss(metrics: StepMetrics[tf.Tensor]) -> np.ndarray:
    """Returns the loss of each step."""
    return metrics.loss_sum.numpy() / metrics.weight_sum.numpy()


def main() -> None:
    two = make_strategy("mirrored", DeviceOptions(logical_cpus=2))
    results = {}
    for name in sys.argv[2:]:
        _, step = make_subject(name, two)
        results[name] = mean_loss(make_train_loop(step, two)(rows(), STEPS))
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
