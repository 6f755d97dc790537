# SPDX-License-Identifier: Apache-2.0
"""Settles what a run will be before anything is built or written.

Whatever can be known to be wrong from flags, files and devices is found here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from preprocessing.contracts.manifest import Manifest, read_manifest
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from trainer.compute.lanes import count_cores, share_threads
from trainer.data.mixed_rows import (
    check_mixable,
    combined_hash,
    dataset_names,
    mixing_weights,
)
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.strategies import (
    check_sharding,
    make_strategy,
    refuse_to_train_alone,
)
from trainer.distribution.workers import Workers, workers_of
from trainer.loop.batch_layout import lanes_of, spread
from trainer.loop.published_start import (
    check_keys,
    check_tokenizer,
    described_by,
    with_published,
)
from trainer.loop.stated import stated
from trainer.published.published_model import PublishedModel, open_published
from trainer.run.config import RunConfig, resolved, with_file, with_pairs
from trainer.run.presets import preset
from trainer.run.run_directory import is_run, read_run
from trainer.step.layout import Layout


@dataclass(frozen=True)
class ConfigSource:
    """Where a configuration comes from: preset, then file, then `--set` pairs.

    The model's keys come from `init_from` instead of a preset, a directory of published
    weights.
    """

    preset: str | None
    file: str | None
    pairs: tuple[str, ...]
    init_from: str | None = None


@dataclass(frozen=True)
class Data:
    """The datasets of a run.

    Attributes:
        paths: where they are.
        manifests: what they are; the first speaks for the tokenizer.
        weights: how much each gives to the training rows, in any unit.
    """

    paths: tuple[str, ...]
    manifests: tuple[Manifest, ...]
    weights: tuple[float, ...]

    @property
    def manifest(self) -> Manifest:
        """The first dataset's."""
        return self.manifests[0]

    @property
    def hash(self) -> str:
        """What a run is bound to: a dataset's hash, or one of all and their weights."""
        return combined_hash(self.manifests, self.weights)

    @property
    def names(self) -> tuple[str, ...]:
        """A short name of each."""
        return dataset_names(self.paths)


@dataclass(frozen=True)
class RunPlan:
    """A run whose flags make sense; `config` has a sequence length.

    Attributes:
        data: the datasets.
        config: of the run.
        layout: how its batches are spread.
        workers: the processes that train it.
        total_steps_before: of the run that is resumed; None of a new one.
        published: the weights that it begins with; None of ones drawn.
    """

    data: Data
    config: RunConfig
    layout: Layout
    workers: Workers
    total_steps_before: int | None = None
    published: PublishedModel | None = None


def plan(
    datasets: Sequence[str],
    run: str | None,
    source: ConfigSource,
    strategy_name: str,
    options: DeviceOptions,
    connect_timeout: float,
    profile: str | None = None,
) -> RunPlan:
    """Reads the datasets' manifests and settles the configuration and strategy.

    All processes of the run have agreed on them then; `profile` is what `--profile`
    says, which decides where their inner loops end.

    Raises:
        UsageError: any of them is not what it should be.
    """
    data, config = read_data(datasets, run, source)
    check_sharding(strategy_name, config.optimizer.name)
    cores, size = count_cores(), data.manifest.vocab_size
    lanes = lanes_of(config, size, strategy_name, options, cores)
    share_threads(lanes * options.logical_cpus, cores)
    published = None if source.init_from is None else open_published(source.init_from)
    flags = {
        "--profile": profile or "none",
        "--init_from": "none" if published is None else published.digest,
    }
    statement = stated(config, data.hash, run, flags)
    refuse_to_train_alone(strategy_name, options, connect_timeout, statement)
    before = read_run(run).config.loop.total_steps if run and is_run(run) else None
    strategy = make_strategy(
        strategy_name, options, connect_timeout=connect_timeout, statement=statement
    )
    replicas = strategy.num_replicas_in_sync
    layout = spread(config.data, replicas, lanes)
    return RunPlan(data, config, layout, workers_of(strategy), before, published)


def read_data(
    datasets: Sequence[str], run: str | None, source: ConfigSource
) -> tuple[Data, RunConfig]:
    """Returns the datasets of a run and its configuration, which must fit.

    Raises:
        UsageError: they do not, or cannot be read.
    """
    manifests = tuple(read_manifest(dataset) for dataset in datasets)
    names = dataset_names(datasets)
    check_mixable(manifests, names)
    if source.init_from is not None:
        check_tokenizer(datasets[0], manifests[0], source.init_from)
    config = resolved(configure(source, run), manifests)
    config.optimizer.check_fits(config.loop.total_steps)
    length = config.sequence_length
    sizes = [m.splits["train"].rows * (m.sequence_length // length) for m in manifests]
    weights = mixing_weights(config.data.weights, sizes)
    return Data(tuple(datasets), manifests, weights), config


def configure(source: ConfigSource, run: str | None) -> RunConfig:
    """Returns the configuration of a new run, or of the one at `run` with changes.

    Raises:
        UsageError: nothing says what to train, or a key or value is refused.
    """
    published, resumes = described_by(source.init_from), False
    if source.preset is not None:
        base = preset(source.preset)
    elif run is not None and source.file is None and is_run(run):
        base, resumes = read_run(run).config, True
    elif source.file is not None or published is not None:
        base = RunConfig()
    else:
        raise UsageError(
            "wanted --preset NAME or --config FILE for a new run, found neither. Try "
            "--preset laptop"
        )
    if published is not None and not resumes:
        base = with_published(base, published)
    if source.file is not None:
        base = with_file(base, source.file)
    config = with_pairs(base, source.pairs)
    if published is not None:
        check_keys(config, published)
    return config


def configured(source: ConfigSource, run: str | None) -> RunConfig | None:
    """Returns `configure`'s result; None where this process sees too little for it.

    A server of asynchronous training computes what its coordinator says, and may have
    neither the run's directory nor the configuration's file.

    Raises:
        UsageError: a key or value that it does see is refused.
    """
    named = (source.file, source.init_from)
    unseen = any(path is not None and not storage.exists(path) for path in named)
    nowhere = source.preset is None and not any(named)
    if unseen or (nowhere and not (run is not None and is_run(run))):
        return None
    return configure(source, run)
