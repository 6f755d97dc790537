# SPDX-License-Identifier: Apache-2.0
"""Keeps TensorFlow's own messages off the terminal; imports TensorFlow itself."""

import logging
import os


def quiet_tensorflow(debug: bool) -> None:
    """Silences TensorFlow's logs unless `debug`; call it before TensorFlow is imported.

    Args:
        debug: leave every message.
    """
    if debug:
        return
    # Read once by the C++ library when it is loaded: 3 leaves fatal messages only.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
