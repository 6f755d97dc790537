# SPDX-License-Identifier: Apache-2.0
"""quern-beam-worker: workers of Beam jobs on a machine without containers.

Started beside each task manager of an engine, it starts a worker for each job that the
engine runs with `--environment_type EXTERNAL --environment_config HOST:PORT`.
"""

import os
from collections.abc import Sequence
from typing import NoReturn

from pipelines.beam.quiet import import_beam_without_clouds
from pipelines.beam.versions import own_versions
from pipelines.beam.worker_pool import WorkerPool
from preprocessing.foundation.commands import (
    CommandParser,
    Interrupted,
    UsageError,
    run,
    stopping_on_request,
)
from preprocessing.foundation.huge_pages import restart_with_huge_pages

_PORT = 50000  # where Beam's own pools are looked for


def main(argv: Sequence[str]) -> None:
    """Serves engines until SIGTERM, SIGUSR1 or Ctrl-C; then no worker is left."""
    flags = _parser().parse_args(argv)
    if not 0 < flags.port < 1 << 16:
        raise UsageError(f"wanted --port between 1 and 65535, found {flags.port}")
    address = f"{flags.host}:{flags.port}"
    import_beam_without_clouds()
    pool = WorkerPool()
    try:
        with stopping_on_request(), pool.serving(address):
            had = ", ".join(f"{name} {own}" for name, own in own_versions().items())
            print(f"workers are to be had at {address}, of {had}", flush=True)
            pool.watch()
    except (Interrupted, KeyboardInterrupt):
        print("ended, and no worker is left", flush=True)


def _parser() -> CommandParser:
    parser = CommandParser("quern-beam-worker", "Starts workers for Beam's engines.")
    parser.add_argument(
        "--port", type=int, default=_PORT, metavar="N", help="where engines ask"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen at; whoever reaches it can run code as you, so let "
        "no other network be it than the engine's own (0.0.0.0: all)",
    )
    return parser


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    restart_with_huge_pages()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the error line says it
    run(main)


if __name__ == "__main__":
    cli()
