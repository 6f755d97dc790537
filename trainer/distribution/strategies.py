# SPDX-License-Identifier: Apache-2.0
"""Chooses and makes the `tf.distribute` strategy of a run.

Nothing here happens at import: logical devices must be set before TensorFlow starts
its devices, and a multi-worker strategy before any operation runs.
"""

import contextlib
import os

import tensorflow as tf

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError, WorkError, count_of
from trainer.distribution.agreement import Statement
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.devices import count_gpus, cut_devices, device_names
from trainer.distribution.rendezvous import connecting, read_cluster
from trainer.optimizers.optimizer import WHOLE_MATRIX

STRATEGIES = (
    "auto",
    "one_device",
    "mirrored",
    "multi_worker",
    "tpu",
    "parameter_server",
)
# Smaller weights stay whole: a shard costs a request in every step.
_MIN_SHARD_BYTES = 256 << 10
# Gradients are all-reduced in packs. With 4 MB two pinned workers on loopback reached
# 3,870 to 4,020 tokens/s, in one pack of 55 MB 3,760: a pack stays in the cache.
_RING_PACK_BYTES = 4 << 20
_NCCL_PACK_BYTES = 32 << 20
_WHOLE_DEVICES = DeviceOptions()
_NOTHING: Statement = {}


def make_strategy(
    name: str,
    options: DeviceOptions = _WHOLE_DEVICES,
    connect_timeout: float = 45.0,
    min_shard_bytes: int = _MIN_SHARD_BYTES,
    statement: Statement = _NOTHING,
) -> tf.distribute.Strategy:
    """Makes the strategy that `--strategy` names.

    Args:
        name: one of `STRATEGIES`; "auto" looks at TF_CONFIG and the devices.
        options: how devices are cut, which only works before TensorFlow has started
            them, once in a process; and how workers sum over each other.
        connect_timeout: seconds for all processes of a cluster to meet.
        min_shard_bytes: parameter servers share weights of twice that or more.
        statement: what all processes of a cluster have to agree on, beside how they
            take part in it.

    Raises:
        UsageError: the name is unknown, TF_CONFIG is missing or broken, there is no
            such device, the devices were already started, or the processes do not
            agree.
    """
    chosen = resolve(name, options)
    cut_devices(options)
    stated = {**_part_in_cluster(chosen, options), **statement}
    if chosen == "multi_worker":
        with connecting(connect_timeout, stated):
            return _multi_worker(options)
    if chosen == "parameter_server":
        with connecting(connect_timeout, stated):
            return _parameter_server(min_shard_bytes)
    if chosen == "tpu":
        return _tpu()
    devices = device_names()
    if chosen == "mirrored":
        return tf.distribute.MirroredStrategy(devices, _cross_device_ops(options))
    return tf.distribute.OneDeviceStrategy(devices[0])


def resolve(name: str, options: DeviceOptions = _WHOLE_DEVICES) -> str:
    """Returns the strategy that `name` stands for, checked against TF_CONFIG.

    Raises:
        UsageError: the name is unknown, TF_CONFIG missing or broken, or the devices
            cannot be cut or talk as `options` say.
    """
    if name not in STRATEGIES:
        raise UsageError(
            f"wanted --strategy to be one of {', '.join(STRATEGIES)}, found {name!r}. "
            "Choose one"
        )
    roles = read_tf_config()
    gpus = count_gpus()
    options.check(gpus)
    chosen = choose(name, roles, gpus * options.logical_gpus)
    if options.collectives != "auto" and chosen != "multi_worker":
        raise UsageError(
            f"wanted --collectives {options.collectives} for --strategy multi_worker, "
            f"found {chosen}, which has no workers to sum over. Leave it out"
        )
    wanted = {"multi_worker": {"worker", "chief"}, "parameter_server": {"ps"}}
    if chosen in wanted and not roles & wanted[chosen]:
        named = "workers" if chosen == "multi_worker" else "parameter servers"
        raise UsageError(
            f"wanted TF_CONFIG naming {named} for --strategy {chosen}, found none. "
            "Set it in every process, or let quern-launch do it"
        )
    return chosen


def refuse_to_train_alone(
    name: str, options: DeviceOptions, connect_timeout: float, statement: Statement
) -> None:
    """Raises `UsageError` where TF_CONFIG names others that would train the same run.

    They hear of it first, as they would wait for this process. Arguments are as for
    `make_strategy`.
    """
    chosen, cluster = resolve(name, options), read_cluster()
    alone = chosen in ("one_device", "mirrored")
    if not alone or cluster is None or len(cluster.addresses) < 2:
        return
    stated = {**_part_in_cluster(chosen, options), **statement}
    with contextlib.suppress(WorkError), connecting(connect_timeout, stated):
        pass
    raise UsageError(
        f"wanted --strategy multi_worker for the {len(cluster.addresses)} processes "
        f"that TF_CONFIG names, found {chosen}, which trains alone. Use auto, or unset "
        "TF_CONFIG"
    )


def count_replicas(name: str, options: DeviceOptions) -> int:
    """Returns how many replicas a strategy would have, without making it.

    Raises:
        UsageError: as `resolve`; or it is tpu, whose size only the TPU knows.
    """
    chosen = resolve(name, options)
    gpus = count_gpus()
    if chosen == "multi_worker":
        cluster = strict_json.loads(os.environ["TF_CONFIG"])["cluster"]
        processes = len(cluster.get("worker", ())) + len(cluster.get("chief", ()))
        # A worker without GPUs takes one CPU device, however many there are.
        return processes * max(gpus * options.logical_gpus, 1)
    if chosen == "mirrored":
        return options.local_replicas(gpus)
    if chosen == "tpu":
        return int(_tpu().num_replicas_in_sync)
    return 1


def check_sharding(name: str, optimizer: str) -> None:
    """Raises `UsageError` where an optimizer cannot work on weights in shards."""
    if resolve(name) == "parameter_server" and optimizer in WHOLE_MATRIX:
        raise UsageError(
            "wanted an optimizer that works on shards of a matrix, since parameter "
            f"servers share them, found {optimizer}. Use adamw, adam, sgd or lion"
        )


def choose(name: str, roles: frozenset[str], num_gpus: int) -> str:
    """Returns the strategy that `name` stands for.

    Args:
        name: one of `STRATEGIES`.
        roles: the task types of TF_CONFIG's cluster, empty without one.
        num_gpus: GPUs this process has, logical ones where they are cut.
    """
    if name != "auto":
        return name
    if "ps" in roles:
        return "parameter_server"
    if roles & {"worker", "chief"}:
        return "multi_worker"
    if tf.config.list_physical_devices("TPU") or "TPU_NAME" in os.environ:
        return "tpu"
    return "mirrored" if num_gpus > 1 else "one_device"


def read_tf_config() -> frozenset[str]:
    """Returns the task types that TF_CONFIG's cluster names; empty without TF_CONFIG.

    Raises:
        UsageError: TF_CONFIG is set but is not a JSON object with cluster and task.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        # TensorFlow reads the variable again and takes a blank one for broken JSON.
        os.environ.pop("TF_CONFIG", None)
        return frozenset()
    try:
        config = strict_json.loads(text)
        roles = frozenset(config["cluster"])
        if config["task"]["type"] not in roles:
            raise KeyError(config["task"]["type"])
        config["cluster"][config["task"]["type"]][config["task"]["index"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(
            'wanted TF_CONFIG as {"cluster": {"worker": ["host:port", …]}, "task": '
            '{"type": "worker", "index": 0}}, '
            f"found {text[:200]!r}. Correct it or unset it"
        ) from error
    return roles


def _part_in_cluster(chosen: str, options: DeviceOptions) -> dict[str, str]:
    """Returns how a process takes part in a cluster, by what people call it."""
    cluster, gpus = read_cluster(), count_gpus()
    if cluster is None:
        return {}
    stated = {"--strategy": chosen, "cluster of TF_CONFIG": str(cluster.addresses)}
    if chosen == "multi_worker":
        # A worker without GPUs takes one CPU device, however many there are.
        stated["devices"] = (
            count_of(gpus * options.logical_gpus, "GPU") if gpus else "a CPU"
        )
        stated["--collectives"] = "nccl" if options.uses_nccl(gpus) else "ring"
    return stated


def _cross_device_ops(options: DeviceOptions) -> tf.distribute.CrossDeviceOps | None:
    """Returns how mirrored replicas sum over each other, None for TensorFlow's choice.

    That is NCCL between GPUs, which refuses two ranks on one of them: logical GPUs sum
    on the first and copy the sum to the others.
    """
    return tf.distribute.ReductionToOneDevice() if options.logical_gpus > 1 else None


def _multi_worker(options: DeviceOptions) -> tf.distribute.Strategy:
    """Makes the strategy of one worker among those of TF_CONFIG.

    NCCL has to be named: what TensorFlow 2.16 and 2.21 call AUTO is the ring on GPUs
    too, since nothing sets `collective_nccl` in eager mode, and only that or the hint
    "nccl" makes `CollectiveParamResolverLocal::AssignCollectiveType` choose NCCL.
    """
    kinds = tf.distribute.experimental.CommunicationImplementation
    nccl = options.uses_nccl(count_gpus())
    communication = tf.distribute.experimental.CommunicationOptions(
        bytes_per_pack=_NCCL_PACK_BYTES if nccl else _RING_PACK_BYTES,
        implementation=kinds.NCCL if nccl else kinds.RING,
    )
    return tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=communication
    )


def _parameter_server(min_shard_bytes: int) -> tf.distribute.Strategy:
    """Makes the coordinator's strategy; large weights lie in shards on all servers."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes=min_shard_bytes,
        max_shards=resolver.cluster_spec().num_tasks("ps"),
    )
    return tf.distribute.ParameterServerStrategy(
        resolver, variable_partitioner=partitioner
    )


def _tpu() -> tf.distribute.Strategy:
    """Connects to the TPU that TPU_NAME names, or this machine's own."""
    name = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or ["no reason"])[0]
        raise UsageError(
            f"wanted a TPU ({name}) for --strategy tpu, found: {reason[:200]}. Run on "
            "a TPU VM, or set TPU_NAME"
        ) from None
    return tf.distribute.TPUStrategy(resolver)
