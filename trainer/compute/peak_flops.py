# SPDX-License-Identifier: Apache-2.0
"""The peak FLOP/s of a device, which model FLOP/s utilisation is measured against.

An accelerator's peak is its published dense figure without sparsity; a CPU has none
that means much, so it is measured at start with a matrix product. A device that is not
in the table has no known peak, and `mfu` is then null rather than wrong.
"""

import time

import tensorflow as tf

# Words of the name TensorFlow reports -> (float32, which TensorFlow runs as TF32 where
# the device has it; bfloat16 tensor cores, None where it has none), dense, from the
# makers' data sheets. A row with more words stands before the row it refines.
_PUBLISHED = (
    ("H200", 494.7e12, 989.4e12),
    ("H100 PCIe", 378e12, 756e12),
    ("H100 NVL", 417.5e12, 835e12),
    ("H100", 494.7e12, 989.4e12),
    ("A100", 156e12, 312e12),
    ("L40S", 183e12, 362e12),
    ("L4", 60e12, 121e12),
    ("A10G", 35e12, 70e12),
    ("T4", 8.1e12, None),
    ("V100", 15.7e12, None),
)
_MATMUL_SIZE = 1024
_SECONDS = 0.3


def peak_flops(compute: str, at_once: int) -> float | None:
    """Returns the peak of one device of this process in FLOP/s, None if unknown.

    Args:
        compute: "float32" or "bfloat16", the type of matrix products.
        at_once: operations that a CPU is given at once: replicas, in lanes each.
    """
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return measured_cpu_flops(compute, at_once)
    details = tf.config.experimental.get_device_details(devices[0])
    return published_flops(details.get("device_name", ""), compute)


def published_flops(device_name: str, compute: str) -> float | None:
    """Returns the published peak of an accelerator, None if it is not in the table."""
    words = set(device_name.replace("-", " ").split())
    for name, float32, bfloat16 in _PUBLISHED:
        if words.issuperset(name.split()):
            return bfloat16 if compute == "bfloat16" else float32
    return None


def measured_cpu_flops(
    compute: str, at_once: int = 1, size: int = _MATMUL_SIZE, seconds: float = _SECONDS
) -> float:
    """Measures the FLOP/s of square matrix products on all cores, best of several.

    Args:
        compute: their type.
        at_once: how many are made at once.
        size: rows and columns.
        seconds: how long it may take.
    """
    matrices = [
        tf.cast(tf.fill([size, size], 1.0 + i), compute) for i in range(at_once)
    ]

    @tf.function(autograph=False)
    def multiply(matrices: list[tf.Tensor]) -> tf.Tensor:
        corners = [tf.matmul(a, a)[0, 0] for a in matrices]
        return tf.add_n(corners)

    multiply(matrices).numpy()  # traces, and wakes the thread pool
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        multiply(matrices).numpy()
        best = min(best, time.perf_counter() - began)
    return 2 * at_once * size**3 / best
