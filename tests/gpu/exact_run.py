# SPDX-License-Identifier: Apache-2.0
"""`quern-train` with products in float32, and with deterministic operations if asked.

python -m tests.gpu.exact_run free|deterministic FLAG…
"""

import sys

import tensorflow as tf

from trainer import task


def main() -> None:
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if sys.argv.pop(1) == "deterministic":
        tf.config.experimental.enable_op_determinism()
    task.cli()


if __name__ == "__main__":
    main()
