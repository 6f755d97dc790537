# SPDX-License-Identifier: Apache-2.0
"""Of standard error, only what libraries say of themselves is kept from people."""

import os
import pty
import subprocess
import sys

import pytest

from preprocessing.foundation.terminal import CHATTER

pytestmark = pytest.mark.slow

# As TensorFlow 2.16 and 2.21 wrote them.
SAID = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795802921.615448    8786 service.cc:145] XLA service 0x55f8a09e0920 in
I0000 00:00:1795802921.660086 8786 device_compiler.h:188] Compiled cluster using XLA!
W0000 00:00:1795802921.660086    8786 gpu_utils.cc:1] something slow
E0000 00:00:1795802921.660086    8786 cuda_fft.cc:477] Unable to register cuFFT factory
"""
MEANT = """\
E0000 00:00:1795802921.660086    8786 cuda_dnn.cc:10] could not open cuDNN
F0000 00:00:1795802921.660086    8786 service.cc:145] Check failed: x == y
*** Check failure stack trace: ***
terminate called after throwing an instance of 'std::bad_alloc'
I think that 3 is less than 4
WARNING: a sentence of somebody else, \u00e9
no line end"""
# Python writes first, then a library: by two ways, in no promised order.
PROGRAM = """
import os, sys
from preprocessing.foundation.terminal import quiet_libraries
quiet_libraries()
quiet_libraries()
print("python", sys.stderr.isatty(), file=sys.stderr)
for part in sys.stdin.buffer.read().splitlines(keepends=True):
    os.write(2, part)
{end}
"""


def run(end: str, **variables: str) -> subprocess.CompletedProcess:
    # Chosen by the test, not inherited: the level decides.
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end)],
        input=(SAID + MEANT).encode(),
        capture_output=True,
        env={**kept, **variables},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "end", ["os._exit(3)", "os.abort()", "os.kill(os.getpid(), 9)"]
)
def test_a_process_keeps_its_last_words_however_it_ends(end):
    done = run(end)
    assert done.returncode in (3, -6, -9)
    told = done.stderr.decode().replace("python False\n", "", 1)
    assert told == MEANT


def test_who_asks_for_messages_has_them_all():
    done = run("os._exit(0)", TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stderr.decode() == "python False\n" + SAID + MEANT


def test_a_terminal_is_still_one_for_the_progress_line():
    leader, follower = pty.openpty()
    program = PROGRAM.format(end="os._exit(0)")
    subprocess.run(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stderr=follower
    )
    os.close(follower)
    assert os.read(leader, 100) == b"python True\r\n"


@pytest.mark.filterwarnings("ignore")
def test_what_xla_says_when_it_compiles_is_kept_away():
    program = """
from trainer.machine.tensorflow_logs import quiet_tensorflow
quiet_tensorflow(False)
import tensorflow as tf
f = tf.function(lambda x: tf.nn.softmax(x @ x), jit_compile=True)
print(f(tf.ones([4, 4])).shape, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert (done.stdout, done.stderr) == (b"(4, 4)\n", b"")


def test_no_line_of_these_is_taken_for_another():
    lines = (SAID + MEANT).encode().splitlines()
    assert [bool(CHATTER.match(line)) for line in lines] == [True] * 5 + [False] * 7
