# SPDX-License-Identifier: Apache-2.0
"""The devices of this process: counted, cut into logical ones, and named.

Devices can be cut only before TensorFlow has started them, once in a process.
"""

import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.distribution.device_options import DeviceOptions
from trainer.machine.device_memory import gpu_memory

# Of a GPU's free memory: contexts, libraries and collectives live beside TensorFlow's
# pools. TensorFlow alone leaves 6 % of a large card to them.
_POOLED = 0.9


def count_gpus() -> int:
    """Returns the physical GPUs that TensorFlow sees."""
    return len(tf.config.list_physical_devices("GPU"))


def cut_devices(options: DeviceOptions) -> None:
    """Cuts the CPU or the GPUs as `options` say; whole ones are left as they are.

    Raises:
        UsageError: there is nothing to cut, the devices were already started, or a
            GPU's free memory is not known.
    """
    gpus = tf.config.list_physical_devices("GPU")
    options.check(len(gpus))
    if options.logical_cpus > 1:
        _cut(tf.config.list_physical_devices("CPU")[0], options.logical_cpus, None)
    if options.logical_gpus > 1:
        free = gpu_memory("free")
        if free is None:
            raise UsageError(
                "wanted nvidia-smi to tell the GPUs' free memory for --logical_gpus, "
                "found it missing or silent. Put it on the PATH"
            )
        for gpu in gpus:
            _cut(gpu, options.logical_gpus, share_mib(free, options.logical_gpus))


def share_mib(free: int, parts: int) -> int:
    """Returns the MiB of one of `parts` logical GPUs, of `free` bytes.

    Raises:
        UsageError: less than a MiB is left for each.
    """
    share = int(_POOLED * free / parts) >> 20
    if share < 1:
        raise UsageError(
            f"wanted memory for {parts} logical GPUs, found {free >> 20} MiB free. End "
            "what holds it, or cut fewer"
        )
    return share


def device_names() -> list[str]:
    """Returns the names of all logical GPUs, or of the CPUs where there is none."""
    kind = "GPU" if count_gpus() else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def _cut(device: tf.config.PhysicalDevice, parts: int, mib: int | None) -> None:
    part = tf.config.LogicalDeviceConfiguration(memory_limit=mib)
    try:
        tf.config.set_logical_device_configuration(device, [part] * parts)
    except RuntimeError as error:
        raise UsageError(
            f"wanted to split the {device.device_type} into {parts} devices, found "
            "TensorFlow already started. Make the strategy before any other "
            "TensorFlow work"
        ) from error
