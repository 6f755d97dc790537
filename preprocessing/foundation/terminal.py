# SPDX-License-Identifier: Apache-2.0
"""Keeps what TensorFlow's C++ says of itself off the terminal, and nothing else.

XLA and what else logs through Abseil write lines such as `I0000 00:00:17….6 8786
service.cc:145] XLA service 0x55 initialized` to file descriptor 2, whatever
TF_CPP_MIN_LOG_LEVEL says: libtensorflow_cc holds a copy of Abseil's logging that no
function and no variable reaches. So descriptor 2 becomes a pipe to a small process that
passes on every other line. It outlives this one, hence a crash's last words too.
"""

import os
import re
import subprocess
import sys

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Abseil's information and warnings, and the line it puts before its first one. Errors
# pass, but for those of every start of TensorFlow 2.17 and later on a GPU.
_PREFIX = rb"\d{4} \d\d:\d\d:\d+\.\d+ +\d+ [\w./-]+:\d+\] "
CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|[IW]" + _PREFIX + rb"|E" + _PREFIX + rb"Unable to register cu\w+ factory"
)


def quiet_libraries() -> None:
    """Silences TensorFlow's C++ in this process; call it before that is loaded.

    Does nothing a second time; where TF_CPP_MIN_LOG_LEVEL asks for messages; or where
    `sys.stderr` is not the process's own, as within a test.
    """
    # Read once by the C++ library when it is loaded: 3 leaves fatal messages only.
    level = os.environ.setdefault(_LEVEL, "3")
    own = sys.stderr is not None and sys.stderr is sys.__stderr__
    if not own or sys.stderr.fileno() != 2 or level not in ("2", "3"):
        return
    sys.stderr.flush()
    code = "from preprocessing.foundation.terminal import pass_on; pass_on()"
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    kept = ("LD_LIBRARY_PATH", "PATH")
    variables = {name: os.environ[name] for name in kept if name in os.environ}
    # A session of its own: what a terminal or a launcher sends to all of ours, and ends
    # them, must not end it before it has passed on what they say.
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=2,
        stderr=subprocess.DEVNULL,
        env={**variables, "PYTHONPATH": home},
        cwd="/",
        start_new_session=True,
    )
    pipe = process.stdin
    if pipe is None:
        return
    # Python itself goes on writing where it wrote, by a descriptor of its own: the
    # progress line asks whether that is a terminal.
    direct = os.dup(2)
    os.dup2(pipe.fileno(), 2)
    pipe.close()
    sys.stderr = open(  # noqa: SIM115
        direct, "w", buffering=1, encoding="utf-8", errors="backslashreplace"
    )


def pass_on() -> None:
    """Copies standard input to standard output without `CHATTER`, to its end."""
    rest = b""
    while part := os.read(0, 1 << 16):
        *lines, rest = (rest + part).split(b"\n")
        _write(b"".join(line + b"\n" for line in lines if not CHATTER.match(line)))
    if not CHATTER.match(rest):
        _write(rest)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
