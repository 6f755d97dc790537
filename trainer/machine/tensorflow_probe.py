# SPDX-License-Identifier: Apache-2.0
"""What TensorFlow can do on this machine, as a child process saw it.

A wheel can kill the process that imports it (no AVX, a broken driver). In a child that
becomes a finding of `quern-doctor`, not its end.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

from preprocessing.foundation.terminal import quiet_libraries
from trainer.machine.cuda_libraries import CudaLibraries, find_cuda
from trainer.serving.sentencepiece_proto import ScoredPiece, model_proto


@dataclass(frozen=True)
class TensorflowProbe:
    """What a child process saw of TensorFlow; an empty error means it worked.

    `cuda` is None for a wheel without CUDA, and where it was not asked for.
    """

    version: str
    import_error: str
    schemes: tuple[str, ...]
    io_error: str
    text_error: str
    gpus: tuple[str, ...]
    cuda: CudaLibraries | None


def probe_tensorflow(try_cuda: bool) -> TensorflowProbe:
    """Imports TensorFlow and its companions in a child process and reports.

    Args:
        try_cuda: whether CUDA's libraries are opened, which maps over a gigabyte.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as child:
        try:
            return child.submit(_probe, try_cuda).result()
        except BrokenProcessPool:
            error = "importing it killed the process"
            return TensorflowProbe("", error, (), error, error, (), None)


def _probe(try_cuda: bool) -> TensorflowProbe:
    quiet_libraries()
    try:
        import tensorflow as tf
    except Exception as error:
        text = _one_line(error)
        return TensorflowProbe("", text, (), text, text, (), None)
    io_error = _failure(_load_io)
    return TensorflowProbe(
        version=tf.__version__,
        import_error="",
        schemes=tuple(tf.io.gfile.get_registered_schemes()),
        io_error=io_error,
        text_error=_failure(_use_text),
        gpus=tuple(gpu.name for gpu in tf.config.list_physical_devices("GPU")),
        cuda=_find_cuda(tf) if try_cuda else None,
    )


def _find_cuda(tf: ModuleType) -> CudaLibraries | None:
    """Called last: TensorFlow has looked for its libraries by then."""
    build = tf.sysconfig.get_build_info()
    try:
        requirements = metadata.requires("tensorflow") or ()
    except metadata.PackageNotFoundError:  # a wheel of another name, or a build
        requirements = ()
    return find_cuda(build, requirements, Path(str(tf.__file__)).parents[1])


def _load_io() -> None:
    """Loads tensorflow-io, whose import only warns when its native code does not."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_io  # noqa: F401


def _use_text() -> None:
    """Runs the ops that a release holds: their library must match TensorFlow's ABI."""
    import tensorflow_text

    model = model_proto([ScoredPiece(0, b"a", 0.0)])
    tensorflow_text.SentencepieceTokenizer(model=model).tokenize(["a"]).to_list()


def _failure(work: Callable[[], None]) -> str:
    try:
        work()
    except Exception as error:
        return _one_line(error)
    return ""


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
