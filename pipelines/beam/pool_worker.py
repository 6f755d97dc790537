# SPDX-License-Identifier: Apache-2.0
"""The entry point of a worker that a pool starts: asks the engine, then works.

It does for machines without containers what the boot program of Beam's image does,
which asks for the job's options; but nothing is staged: Quern is installed here. It
ends when the engine's channel does, in the middle of a step too, so that no job is
worked at that is gone.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from pipelines.beam.internals import provisioned, serve_as_worker
from pipelines.beam.quiet import import_beam_without_clouds


def main(argv: Sequence[str]) -> None:
    """Works until the engine closes the channel, and ends the process."""
    warnings.simplefilter("ignore")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("id", "logging_endpoint", "provision_endpoint", "control_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    asked = parser.parse_args(argv)
    os.environ["WORKER_ID"] = asked.id  # Beam reads it where it is imported
    import_beam_without_clouds()
    os.environ.update(
        provisioned(
            asked.id,
            asked.provision_endpoint,
            asked.control_endpoint,
            asked.logging_endpoint,
        )
    )
    status = 1
    try:
        serve_as_worker([])
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
