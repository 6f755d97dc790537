# SPDX-License-Identifier: Apache-2.0
"""The entry point of a local worker process: Beam's own, quicker and quiet.

Standard error is for the driver's words. Beam's worker prints a failing stage's
traceback there; the driver gets the same text over the channel and keeps the one line
that matters, or all of it with `--debug`.
"""

import logging
import os
import sys
import warnings

from pipelines.beam.internals import serve_as_worker
from pipelines.beam.quiet import import_beam_without_clouds

DEBUG_VARIABLE = "QUERN_DEBUG"


def main(argv: list[str]) -> None:
    """Runs Beam's worker loop until the driver closes the channel."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if DEBUG_VARIABLE not in os.environ:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for the process's life
    import_beam_without_clouds()
    serve_as_worker(argv)


if __name__ == "__main__":
    main(sys.argv)
