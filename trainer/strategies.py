# SPDX-License-Identifier: Apache-2.0
"""Chooses and makes the `tf.distribute` strategy of a run.

Nothing here happens at import: logical devices must be set before TensorFlow starts
its devices, and a multi-worker strategy before any operation runs.
"""

import json
import os

import tensorflow as tf

from preprocessing.commands import UsageError

STRATEGIES = (
    "auto",
    "one_device",
    "mirrored",
    "multi_worker",
    "tpu",
    "parameter_server",
)
_MISSING = {
    "tpu": "the TPU system initialisation and a host loop on the TPU",
    "parameter_server": "the coordinator that schedules steps on workers",
}


def make_strategy(name: str, logical_cpus: int = 1) -> tf.distribute.Strategy:
    """Makes the strategy that `--strategy` names.

    Args:
        name: one of `STRATEGIES`; "auto" looks at TF_CONFIG and the devices.
        logical_cpus: number of devices to split the CPU into. More than 1 only works
            before TensorFlow has started its devices, once in a process.

    Raises:
        UsageError: the name is unknown or not available yet, TF_CONFIG is missing or
            broken, or the devices were already started.
    """
    if name not in STRATEGIES:
        raise UsageError(
            f"wanted --strategy to be one of {', '.join(STRATEGIES)}, found {name!r}. "
            "Choose one"
        )
    _split_cpu(logical_cpus)
    roles = read_tf_config()
    chosen = choose(name, roles, len(tf.config.list_physical_devices("GPU")))
    if chosen in _MISSING:
        raise UsageError(
            f"wanted strategy {chosen}, found that Quern does not have "
            f"{_MISSING[chosen]} yet (it comes with the trainer issue). Use "
            "one_device, mirrored or multi_worker"
        )
    if chosen == "multi_worker":
        return _multi_worker(roles)
    devices = _devices()
    if chosen == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def choose(name: str, roles: frozenset[str], num_gpus: int) -> str:
    """Returns the strategy that `name` stands for.

    Args:
        name: one of `STRATEGIES`.
        roles: the task types of TF_CONFIG's cluster, empty without one.
        num_gpus: GPUs this process sees.
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
        config = json.loads(text)
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


def _split_cpu(logical_cpus: int) -> None:
    if logical_cpus < 1:
        raise UsageError(
            f"wanted --logical_cpus of 1 or more, found {logical_cpus}. Raise it"
        )
    if logical_cpus == 1:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
    try:
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError as error:
        raise UsageError(
            f"wanted to split the CPU into {logical_cpus} devices, found TensorFlow "
            "already started. Make the strategy before any other TensorFlow work"
        ) from error


def _multi_worker(roles: frozenset[str]) -> tf.distribute.Strategy:
    """Makes the strategy of one worker among those of TF_CONFIG.

    Collectives are RING on CPUs, where it is the only implementation, and chosen by
    TensorFlow (NCCL) on GPUs.
    """
    if not roles & {"worker", "chief"}:
        raise UsageError(
            "wanted TF_CONFIG naming workers for --strategy multi_worker, found none. "
            "Set it on every worker"
        )
    kinds = tf.distribute.experimental.CommunicationImplementation
    gpus = tf.config.list_physical_devices("GPU")
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.AUTO if gpus else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _devices() -> list[str]:
    """Returns the names of all GPUs, or of the logical CPUs where there is none."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]
