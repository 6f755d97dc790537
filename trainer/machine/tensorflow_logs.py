# SPDX-License-Identifier: Apache-2.0
"""Keeps TensorFlow's own messages off the terminal; imports TensorFlow itself."""

import logging

from preprocessing.foundation.terminal import quiet_libraries


def quiet_tensorflow(debug: bool) -> None:
    """Silences TensorFlow's logs unless `debug`; call it before TensorFlow is imported.

    Args:
        debug: leave every message.
    """
    if debug:
        return
    quiet_libraries()
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
