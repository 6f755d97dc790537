# SPDX-License-Identifier: Apache-2.0
"""Workers and parameter servers of asynchronous training: they serve the coordinator.

Such a process reads no data and takes no decision. It ends when the coordinator does,
so that nothing is left behind where no launcher ends it.
"""

import time

import tensorflow as tf

from trainer.distribution.rendezvous import Cluster, answers
from trainer.machine.interruption import StopRequest

_LOOK_SECONDS = 2.0
_MISSED_LOOKS = 3  # A busy coordinator may miss one.
_FIRST_LOOKS = 30  # It waits a minute for all of its servers at most.


def serves(cluster: Cluster | None) -> bool:
    """Tells whether this process is a worker or server of asynchronous training."""
    return (
        cluster is not None
        and cluster.role in ("worker", "ps")
        and any(name.startswith("ps ") for name in cluster.addresses)
    )


def serve(cluster: Cluster, request: StopRequest) -> None:
    """Serves until the coordinator is gone, or a signal comes.

    Args:
        cluster: what TF_CONFIG says, whose coordinator this process has met.
        request: whether to stop.
    """
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    role, index = cluster.task.split()
    # Kept alive by this name: collected, it would stop to serve.
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=role, task_index=int(index), protocol="grpc"
    )
    seen, missed, first_looks = False, 0, _FIRST_LOOKS
    while request.reason() is None and missed < _MISSED_LOOKS:
        there = answers(cluster.addresses[cluster.first])
        first_looks -= 1
        # Until TensorFlow has the coordinator's port, nobody answers there.
        seen = seen or there or first_looks <= 0
        missed = 0 if there or not seen else missed + 1
        time.sleep(_LOOK_SECONDS)
    del server
