# SPDX-License-Identifier: Apache-2.0
"""What lies inside TensorFlow's wheels, and is promised nowhere.

The names of the shared libraries, TensorFlow Text's among them, the size of a string,
and one C++ function that the C API lacks: a server calls it when it starts, so that
nothing is compiled by XLA. As seen in TensorFlow 2.16 to 2.21 for Linux, where names
are mangled as the Itanium C++ ABI says.
"""

import ctypes
import importlib.util
from pathlib import Path

from preprocessing.foundation.commands import WorkError

_FRAMEWORK = "libtensorflow_framework.so.2"
_RUNTIME = "libtensorflow_cc.so.2"
_TEXT_OPS = "python/ops/_sentencepiece_tokenizer.so"
# void tensorflow::DisableXlaCompilation(), as tensorflow_model_server's main.cc calls.
DISABLE_XLA = "_ZN10tensorflow21DisableXlaCompilationEv"
# sizeof(TF_TString), fixed by tstring's ABI.
STRING_BYTES = 24


def libraries() -> tuple[Path, Path]:
    """Returns TensorFlow's shared libraries, in the order they are to be loaded."""
    home = _package("tensorflow")
    return home / _FRAMEWORK, home / _RUNTIME


def load_runtime() -> ctypes.CDLL:
    """Loads TensorFlow's shared libraries, and nothing of its Python.

    Raises:
        WorkError: TensorFlow is not installed, or its libraries have other names.
    """
    try:
        loaded = [
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in libraries()
        ]
    except OSError as error:
        raise WorkError(
            f"wanted to load TensorFlow's {_FRAMEWORK} and {_RUNTIME}, found: {error}. "
            "Install what constraints.txt lists"
        ) from None
    return loaded[-1]


def disable_xla(runtime: ctypes.CDLL) -> None:
    """Switches XLA off, as a stock TensorFlow Serving does.

    Raises:
        WorkError: the libraries have no such function.
    """
    try:
        function = runtime[DISABLE_XLA]
    except AttributeError:
        raise WorkError(
            f"wanted {DISABLE_XLA} in {_RUNTIME}, to check with XLA off as a server "
            "runs, found none. Install what constraints.txt lists"
        ) from None
    function()


def text_ops() -> Path:
    """Returns the library with the ops that run the tokenizer's merges."""
    return _package("tensorflow_text") / _TEXT_OPS


def _package(name: str) -> Path:
    """Finds an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise WorkError(
            f"wanted the package {name}, found none. Install what constraints.txt lists"
        )
    return Path(spec.submodule_search_locations[0])
