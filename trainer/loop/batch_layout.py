# SPDX-License-Identifier: Apache-2.0
"""How a run's batches are laid out on the devices at hand, to train and to evaluate."""

import math

from trainer.compute.lanes import choose_lanes
from trainer.data.input_pipeline import DataConfig
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.devices import count_gpus
from trainer.distribution.strategies import count_replicas, resolve
from trainer.loop.memory import sketch
from trainer.run.config import RunConfig
from trainer.step.layout import Layout


def micro_batch_rows(data: DataConfig, replicas: int) -> int:
    """Returns the rows that a replica puts through the model at once.

    A ramp's first step is the smallest, and a replica's share of it has to do.
    """
    smallest = data.batch_schedule.smallest
    return data.micro_batch_size or max(1, smallest // replicas)


def lanes_of(
    config: RunConfig,
    vocab_size: int,
    strategy_name: str,
    options: DeviceOptions,
    cores: int,
) -> int:
    """Returns the lanes of a micro-batch, as the configuration says or as is best.

    Args:
        config: of the run; its `compute.lanes` of 0 leaves it to this function.
        vocab_size: of its datasets.
        strategy_name: as `--strategy`.
        options: how the devices are cut.
        cores: for all replicas of this process.

    Raises:
        UsageError: there is no such strategy.
    """
    if config.compute.lanes:
        return config.compute.lanes
    chosen = resolve(strategy_name, options)
    # A parameter server's worker has several steps in flight, which keeps it busy.
    if chosen in ("tpu", "parameter_server") or count_gpus():
        return 1
    rows = micro_batch_rows(config.data, count_replicas(strategy_name, options))
    length = config.sequence_length
    drawn = sketch(config.model, vocab_size, config.precision)
    row_flops = drawn.model.flops_per_token(length) * length
    return choose_lanes(rows, row_flops, cores // options.logical_cpus)


def spread(data: DataConfig, replicas: int, lanes: int = 1) -> Layout:
    """Returns how a global batch falls to replicas, micro-batches and lanes.

    Raises:
        UsageError: it does not divide, nor does the first one of a ramp.
    """
    micro = micro_batch_rows(data, replicas)
    Layout(data.batch_schedule.smallest, micro, replicas)
    return Layout(data.global_batch_size, micro, replicas, lanes)


def spread_evaluation(data: DataConfig, replicas: int, lanes: int) -> Layout:
    """Returns how the rows of an evaluation fall to replicas and lanes.

    A batch is one of training's micro-batches on each replica, of which there may be
    any number. Lanes that a run was told divide the micro-batches of its own devices;
    here there are as many of them as divide these.
    """
    micro = micro_batch_rows(data, replicas)
    return Layout(micro * replicas, micro, replicas, math.gcd(micro, lanes))
