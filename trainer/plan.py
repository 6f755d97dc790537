# SPDX-License-Identifier: Apache-2.0
"""Settles what a run will be before anything is built or written.

Whatever can be known to be wrong from flags, files and devices is found here.
"""

from dataclasses import dataclass

from preprocessing.commands import UsageError
from preprocessing.manifest import Manifest, read_manifest
from trainer.config import RunConfig, resolved, with_file, with_pairs
from trainer.models.model import build_model
from trainer.presets import preset
from trainer.run_directory import is_run, read_run
from trainer.strategies import make_strategy
from trainer.train_step import Layout
from trainer.workers import Workers, workers_of


@dataclass(frozen=True)
class ConfigSource:
    """Where a configuration comes from: preset, then file, then `--set` pairs."""

    preset: str | None
    file: str | None
    pairs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A run whose flags have been found to make sense."""

    dataset: str
    manifest: Manifest
    config: RunConfig
    layout: Layout
    workers: Workers

    @property
    def sequence_length(self) -> int:
        """Inputs per row."""
        return self.config.data.sequence_length or self.manifest.sequence_length


def plan(
    dataset: str,
    run: str | None,
    source: ConfigSource,
    strategy_name: str,
    logical_cpus: int,
) -> Plan:
    """Reads the dataset's manifest and settles the configuration and strategy.

    Raises:
        UsageError: any of them is not what it should be.
    """
    manifest = read_manifest(dataset)
    config = resolved(configure(source, run), manifest)
    strategy = make_strategy(strategy_name, logical_cpus)
    replicas = strategy.num_replicas_in_sync
    data = config.data
    micro = data.micro_batch_size or max(1, data.global_batch_size // replicas)
    layout = Layout(data.global_batch_size, micro, replicas)
    return Plan(dataset, manifest, config, layout, workers_of(strategy))


def configure(source: ConfigSource, run: str | None) -> RunConfig:
    """Returns the configuration of a new run, or of the one at `run` with changes.

    Raises:
        UsageError: nothing says what to train, or a key or value is refused.
    """
    if source.preset is not None:
        base = preset(source.preset)
    elif run is not None and source.file is None and is_run(run):
        base = read_run(run).config
    elif source.file is not None:
        base = RunConfig()
    else:
        raise UsageError(
            "wanted --preset NAME or --config FILE for a new run, found neither. Try "
            "--preset laptop"
        )
    if source.file is not None:
        base = with_file(base, source.file)
    return with_pairs(base, source.pairs)


def show(planned: Plan) -> list[str]:
    """Returns what `--dry_run` prints: size, cost and memory of the run."""
    config, manifest = planned.config, planned.manifest
    model = build_model(
        config.model, manifest.vocab_size, config.precision, config.seed
    )
    length = planned.sequence_length
    tokens = config.loop.total_steps * config.data.global_batch_size * length
    stored = manifest.splits["train"].rows * manifest.sequence_length
    flops = model.flops_per_token(length)
    copies = 2 if config.optimizer.name == "sgd" else 4
    state = 4 * copies * model.num_parameters
    layout = planned.layout
    return [
        f"parameters        {model.num_parameters:,}",
        f"FLOPs per token   {flops:,.0f}",
        f"tokens to train   {tokens:,} ({tokens / max(stored, 1):.2f} epochs)",
        f"FLOPs to train    {tokens * flops:.3g}",
        f"replicas          {layout.num_replicas}, each {layout.accumulation} x "
        f"{layout.micro_batch_size} rows a step",
        f"memory a replica  about {_gib(state)} for weights, gradients and moments, "
        f"and {_gib(_activation_bytes(planned))} for activations",
    ]


def _activation_bytes(planned: Plan) -> int:
    """Estimates the activations kept for the backward pass of one micro-batch.

    Per token and layer about 10 vectors of d_model and 3 of the inner width, and one
    row of attention weights per head; then logits and their gradient in float32.
    """
    config, length = planned.config.model, planned.sequence_length
    size = 2 if planned.config.precision.compute == "bfloat16" else 4
    layer = 10 * config.d_model + 3 * config.hidden_dim
    attention = 2 * config.num_heads * length if config.family == "decoder" else 0
    per_token = config.num_layers * (layer + attention) * size
    per_token += 2 * 4 * planned.manifest.vocab_size
    return planned.layout.micro_batch_size * length * per_token


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"
