# SPDX-License-Identifier: Apache-2.0
"""What is used of TensorFlow's insides is there; else a test says what breaks."""

import ctypes

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute.sharded_variable import ShardedVariable

from trainer.compute.merge_call import call_merged
from trainer.compute.sharded_variables import is_sharded, shards_of
from trainer.machine import tensorflow_wheel


def broken(what: str, module: str) -> str:
    return f"TensorFlow {tf.__version__} changed inside: {what} (trainer/{module})"


@pytest.mark.smoke
def test_replicas_update_variables_together_once():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        variable = tf.Variable(1.0)

    def add(strategy, amount):
        strategy.extended.update(variable, lambda v, x: v.assign_add(x), (amount,))

    try:
        strategy.run(lambda: call_merged(strategy, add, (tf.constant(2.0),)))
    except AttributeError as error:
        pytest.fail(broken(f"no strategy can train: {error}", "merge_call.py"))
    assert float(variable) == 3.0


@pytest.mark.smoke
def test_a_weight_in_shards_is_told_from_others_and_made_of_shards():
    rows = [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)]
    made = ShardedVariable([tf.Variable(part) for part in rows])
    what = broken(
        "parameter servers' weights are saved, updated and averaged as modules",
        "sharded_variables.py",
    )
    assert is_sharded(made) and made.shape == (3, 3), what
    assert [shard.shape[0] for shard in shards_of(made)] == [2, 1], what
    again = type(made)([tf.Variable(part) for part in rows])
    np.testing.assert_array_equal(tf.convert_to_tensor(again), np.concatenate(rows))
    for other in tf.Variable(1.0), tf.Module(), [tf.Variable(1.0)]:
        assert not is_sharded(other), what


@pytest.mark.smoke
def test_the_wheels_hold_the_libraries_that_a_release_is_checked_with():
    try:
        # Not as the check loads them, nor with XLA switched off: other tests need it.
        _, runtime = [ctypes.CDLL(str(path)) for path in tensorflow_wheel.libraries()]
        assert runtime[tensorflow_wheel.DISABLE_XLA]
        assert tensorflow_wheel.text_ops().is_file()
    except (OSError, AttributeError, AssertionError) as error:
        what = f"quern-export --check loads no release: {error}"
        pytest.fail(broken(what, "tensorflow_wheel.py"))
    # A string of 22 bytes lies inside of a TF_TString, one of 23 behind a pointer.
    place = ctypes.create_string_buffer(tensorflow_wheel.STRING_BYTES)
    start = ctypes.addressof(place)
    copy = runtime.TF_StringCopy
    copy.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    get = runtime.TF_StringGetDataPointer
    get.argtypes, get.restype = [ctypes.c_void_p], ctypes.c_void_p
    inside = []
    for length in (tensorflow_wheel.STRING_BYTES - 2, tensorflow_wheel.STRING_BYTES):
        copy(start, b"x" * length, length)
        inside.append(start <= get(start) < start + tensorflow_wheel.STRING_BYTES)
    assert inside == [True, False], broken(
        "texts of a checked release are read from the wrong bytes",
        "tensorflow_wheel.py",
    )
