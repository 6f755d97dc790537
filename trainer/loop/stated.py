# SPDX-License-Identifier: Apache-2.0
"""What a process states of its run, for all of them to agree on before they connect."""

import hashlib
from collections.abc import Mapping

from preprocessing.foundation import storage
from trainer.distribution.agreement import SERVER, versions
from trainer.run import checkpoint_files
from trainer.run.config import RunConfig
from trainer.run.overrides import flattened
from trainer.run.rollback import ROLLBACKS_NAME, read_rollbacks

# How a process keeps watch and spreads its own work: no number of a step and no
# collective depends on them.
_OWN = ("loop.watchdog_seconds", "compute.lanes", "compute.peak_flops")


def stated(
    config: RunConfig, dataset: str, run: str | None, more: Mapping[str, str]
) -> dict[str, str]:
    """Returns the statement of a process that trains or evaluates.

    Args:
        config: what it computes.
        dataset: the hash that the data are known by.
        run: the directory of its run.
        more: flags that decide when processes wait for each other.
    """
    state = {} if run is None else _state(run)
    return {**versions(), **keys(config), "dataset": dataset, **state, **more}


def stated_by_server(config: RunConfig | None) -> dict[str, str]:
    """Returns the statement of a server of asynchronous training, which reads no data.

    Args:
        config: what its flags ask for; None if they say nothing without the run's
            directory, which it need not see.
    """
    said = {} if config is None else keys(config)
    if config is not None and config.data.sequence_length is None:
        del said["data.sequence_length"]  # which the dataset decides
    return {SERVER: "true", **versions(), **said}


def keys(config: RunConfig) -> dict[str, str]:
    """Returns the values that all processes of a run have to share, by their keys."""
    shared = {k: v for k, v in flattened(config).items() if k not in _OWN}
    return {key: str(value) for key, value in shared.items()}


def _state(run: str) -> dict[str, str]:
    """Returns where a run is entered, as this process sees its directory."""
    steps, rollbacks = checkpoint_files.steps(run), read_rollbacks(run)
    found = {
        "last checkpoint of --run": f"step {steps[-1]}" if steps else "none",
        "rollbacks of --run": "none",
    }
    if rollbacks:
        data = storage.read_bytes(storage.join(run, ROLLBACKS_NAME))
        digest = hashlib.sha256(data).hexdigest()[:12]
        found["rollbacks of --run"] = f"{len(rollbacks)} ({digest})"
    return found
