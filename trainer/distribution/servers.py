# SPDX-License-Identifier: Apache-2.0
"""Workers and parameter servers of asynchronous training: they serve the coordinator.

Such a process reads no data and takes no decision. It ends when the coordinator does,
so that nothing is left behind where no launcher ends it.
"""

import time

import tensorflow as tf

from preprocessing.foundation.commands import WorkError
from trainer.distribution.rendezvous import Cluster, answers, check_port
from trainer.machine.interruption import StopRequest

_LOOK_SECONDS = 2.0
_MISSED_LOOKS = 3  # A busy coordinator may miss one.


def serves(cluster: Cluster | None) -> bool:
    """Tells whether this process is a worker or server of asynchronous training."""
    return (
        cluster is not None
        and cluster.role in ("worker", "ps")
        and any(name.startswith("ps ") for name in cluster.addresses)
    )


def serve(cluster: Cluster, connect_timeout: float, request: StopRequest) -> None:
    """Serves until the coordinator is gone, or a signal comes.

    Args:
        cluster: what TF_CONFIG says.
        connect_timeout: seconds for the coordinator to appear.
        request: whether to stop.

    Raises:
        UsageError: the port is in use.
        WorkError: the coordinator did not appear.
    """
    check_port(cluster.addresses[cluster.task])
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    role, index = cluster.task.split()
    # Kept alive by this name: collected, it would stop to serve.
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=role, task_index=int(index), protocol="grpc"
    )
    chief = cluster.addresses["chief 0"]
    end, seen, missed = time.monotonic() + connect_timeout, False, 0
    while request.reason() is None and missed < _MISSED_LOOKS:
        there = answers(chief)
        seen, missed = seen or there, 0 if there or not seen else missed + 1
        if not seen and time.monotonic() > end:
            raise WorkError(
                f"wanted the coordinator at {chief} within {connect_timeout:g} s, "
                "found none. Start quern-train with the same TF_CONFIG as chief 0"
            )
        time.sleep(_LOOK_SECONDS)
    del server
