# SPDX-License-Identifier: Apache-2.0
"""The command `quern-train`: trains a language model on a dataset."""

import argparse
import itertools
import math
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from preprocessing.foundation.commands import CommandParser, UsageError, run
from trainer.distribution.device_options import (
    DeviceOptions,
    add_device_flags,
    device_options,
)
from trainer.machine.tensorflow_logs import quiet_tensorflow

if TYPE_CHECKING:
    from trainer.loop.plan import ConfigSource


def main(argv: Sequence[str]) -> None:
    """Trains, or resumes what the run's directory holds.

    Raises:
        UsageError: something is wrong with the flags, dataset or run's directory.
        WorkError: a row is damaged, or a checkpoint cannot be written.
        Interrupted: saved, and stopped on request.
    """
    parser = _parser()
    flags = parser.parse_args(argv)
    if flags.list_presets or flags.list_keys:
        _list(flags)
        return
    if not flags.data:
        raise UsageError("wanted --data DATASET to train on, found none. Name one")
    if not (flags.run or flags.dry_run):
        raise UsageError("wanted --run DIR to train in, found none. Name a directory")
    for name in ("max_duration", "connect_timeout", "device_memory"):
        value = getattr(flags, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(
                f"wanted --{name} above 0 and finite, found {value}. Change it"
            )
    options = device_options(flags)
    # TensorFlow takes seconds to load; --help and wrong flags need none of it.
    quiet_tensorflow(flags.debug)
    from trainer.distribution.rendezvous import meet_coordinator, read_cluster
    from trainer.distribution.servers import serve, serves
    from trainer.distribution.strategies import read_tf_config
    from trainer.loop.plan import configured, plan
    from trainer.loop.profiling import parse_profile
    from trainer.loop.stated import stated_by_server
    from trainer.loop.train_run import train
    from trainer.machine.interruption import stop_request

    source = _source(flags)
    if flags.dry_run:
        _dry_run(flags, source, options)
        return
    read_tf_config()
    cluster = read_cluster()
    if cluster is not None and serves(cluster):
        said = stated_by_server(configured(source, flags.run))
        meet_coordinator(cluster, flags.connect_timeout, said)
        with stop_request(None) as request:
            serve(cluster, request)
        return
    profile = None if flags.profile is None else parse_profile(flags.profile, flags.run)
    planned = plan(
        flags.data,
        flags.run,
        source,
        flags.strategy,
        options,
        flags.connect_timeout,
        flags.profile,
    )
    train(planned, flags.run, flags.max_duration, profile)


def _list(flags: argparse.Namespace) -> None:
    """Prints the presets, or the keys with the values that flags give them."""
    told, allowed = "--list_presets", set()
    if flags.list_keys:
        told, allowed = "--list_keys", {"preset", "config", "set"}
    said = ("data", "run", "init_from", "dry_run", "profile", "max_duration")
    beside = [
        f"--{name}"
        for name in ("preset", "config", "set", *said)
        if getattr(flags, name) and name not in allowed
    ]
    if beside:
        raise UsageError(
            f"wanted {told} without what it does not look at, found "
            f"{', '.join(beside)}. Leave it out"
        )
    quiet_tensorflow(flags.debug)
    from trainer.loop.listings import list_keys, list_presets

    # As argparse wraps its help: 80 columns where there is no terminal.
    width = shutil.get_terminal_size().columns - 2
    source = _source(flags)
    lines = list_keys(source, width) if flags.list_keys else list_presets(width)
    print("\n".join(lines), flush=True)


def _source(flags: argparse.Namespace) -> "ConfigSource":
    """Returns where the configuration comes from."""
    from trainer.loop.plan import ConfigSource

    return ConfigSource(flags.preset, flags.config, _pairs(flags), flags.init_from)


def _pairs(flags: argparse.Namespace) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(flags.set))


def _dry_run(
    flags: argparse.Namespace, source: "ConfigSource", options: DeviceOptions
) -> None:
    """Prints what the run would be, and fails if it would not fit."""
    from trainer.compute.lanes import count_cores
    from trainer.distribution.devices import count_gpus
    from trainer.distribution.strategies import count_replicas
    from trainer.loop.batch_layout import lanes_of, spread
    from trainer.loop.dry_run import check_fits, needed, show, sketch_run
    from trainer.loop.plan import read_data
    from trainer.machine.device_memory import device_memory

    data, config = read_data(flags.data, flags.run, source)
    size, where = data.manifest.vocab_size, (flags.strategy, options)
    lanes = lanes_of(config, size, *where, count_cores())
    layout = spread(config.data, count_replicas(*where), lanes)
    sketched = sketch_run(data, config)
    memory = needed(sketched, config, layout)
    print("\n".join(show(data, config, layout, sketched, memory)), flush=True)
    available = device_memory()
    if flags.device_memory is not None:
        available = int(flags.device_memory * (1 << 30))
    check_fits(memory, available, options.sharing(count_gpus()))


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-train",
        "Train a language model on a prepared dataset. A --run that exists is resumed, "
        "with the same dataset; only loop.*, samples.* and compute.* may change then.",
    )
    _add_what(parser)
    _add_how(parser)
    _add_lists(parser)
    return parser


def _add_what(parser: CommandParser) -> None:
    """Adds the flags that say what is trained."""
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        metavar="DATASET",
        help="the dataset: a directory or cloud URI; several are mixed by data.weights",
    )
    add("--run", help="directory of the run: configuration, checkpoints, metrics")
    add(
        "--init_from",
        metavar="DIR",
        help="begin with the published weights in a directory of Hugging Face's form, "
        "local or cloud, whose config.json says what the model is; see "
        "docs/published-weights.md",
    )
    add("--preset", help="a named configuration: see --list_presets")
    add("--config", help="JSON or TOML file of keys, applied over the preset")
    add(
        "--set",
        nargs="+",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="keys to change, over preset and file, items of a list by commas; "
        "repeatable, the last wins; see --list_keys",
    )
    add(
        "--profile",
        metavar="FIRST:LAST",
        help="write a TensorBoard profile of these steps",
    )
    add(
        "--dry_run",
        action="store_true",
        help="print size, cost and memory of the run, and train nothing; fails if it "
        "does not fit",
    )
    add(
        "--device_memory",
        type=float,
        metavar="GIB",
        help="for --dry_run: what a device has, instead of this machine's",
    )


def _add_how(parser: CommandParser) -> None:
    """Adds the flags that say on what, and for how long."""
    add = parser.add_argument
    add(
        "--strategy",
        default="auto",
        help="auto, one_device, mirrored, multi_worker, tpu, parameter_server (auto "
        "looks at TF_CONFIG and the devices)",
    )
    add_device_flags(parser)
    add(
        "--max_duration",
        type=float,
        metavar="SECONDS",
        help="save and stop with status 42 after this time",
    )
    add(
        "--connect_timeout",
        type=float,
        default=45.0,
        metavar="SECONDS",
        help="for all processes of a cluster to meet",
    )


def _add_lists(parser: CommandParser) -> None:
    """Adds the flags that print what there is, and train nothing."""
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--list_presets",
        action="store_true",
        help="print every preset with its sizes, and train nothing",
    )
    add(
        "--list_keys",
        action="store_true",
        help="print every key of the configuration with its value and meaning, as "
        "--preset, --config and --set make it; needs none of them, and trains nothing",
    )


def cli() -> NoReturn:
    """The console script."""
    run(main)


if __name__ == "__main__":
    cli()
