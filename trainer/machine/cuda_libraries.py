# SPDX-License-Identifier: Apache-2.0
"""Which CUDA libraries TensorFlow's wheel wants, and which of them open.

TensorFlow registers no GPU at all where a single one of them does not open, and names
it in a line that is easily missed. Called in the process that imported TensorFlow, and
after it looked for GPUs: a library opened here first would be found by TensorFlow too.
"""

import ctypes
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.version import Version

# CUDA's major version -> (library, the version in its name). cuFFT and cuSOLVER count
# on their own; cuDNN's is the wheel's.
_NAMES = {
    12: (
        ("libcudart", 12),
        ("libcublas", 12),
        ("libcublasLt", 12),
        ("libcufft", 11),
        ("libcusolver", 11),
        ("libcusparse", 12),
    )
}
_CUDNN_PACKAGE = re.compile(r"nvidia-cudnn-cu\d+")
_TOOLKIT = Path("/usr/local/cuda")
Place = Literal["loader", "wheel", ""]


@dataclass(frozen=True)
class Library:
    """A shared library that TensorFlow wants.

    Attributes:
        name: with the version that is wanted, such as "libcudnn.so.9".
        place: where it opens: by the loader's own path, from the nvidia packages beside
            TensorFlow, or nowhere.
        error: what the loader said, where it does not open.
        instead: the same library of another version that is there; or empty.
    """

    name: str
    place: Place
    error: str = ""
    instead: str = ""


@dataclass(frozen=True)
class CudaLibraries:
    """What a wheel wants of CUDA, and what of it there is.

    Attributes:
        cuda: the version it was built with, such as "12.5.1".
        capabilities: what it holds kernels for: "sm_80" machine code, "compute_90" PTX.
        libraries: what it opens.
        cudnn: the version of the cuDNN that opens; empty where none does.
        least_cudnn: the least that the wheel's extra asks for; or empty.
        ptxas: the assembler that XLA calls; empty where there is none.
        libdevice: the device functions that XLA links; empty where there are none.
    """

    cuda: str
    capabilities: tuple[str, ...]
    libraries: tuple[Library, ...]
    cudnn: str
    least_cudnn: str
    ptxas: str
    libdevice: str


def find_cuda(
    build: Mapping[str, Any], requirements: Iterable[str], packages: Path
) -> CudaLibraries | None:
    """Looks for what a wheel wants; None where it was built without CUDA.

    Args:
        build: `tf.sysconfig.get_build_info()`.
        requirements: what the wheel's metadata asks for, extras included.
        packages: the folder that TensorFlow's package lies in.
    """
    if not build.get("is_cuda_build"):
        return None
    cuda, cudnn = str(build["cuda_version"]), str(build["cudnn_version"])
    names = wanted_names(cuda, cudnn)
    nvidia = packages / "nvidia"
    return CudaLibraries(
        cuda=cuda,
        capabilities=tuple(build.get("cuda_compute_capabilities", ())),
        libraries=tuple(open_library(name, nvidia) for name in names),
        cudnn=_cudnn_version(names[-1], nvidia) if names else "",
        least_cudnn=least_cudnn(requirements),
        ptxas=_ptxas(nvidia),
        libdevice=_first(
            root / "nvvm/libdevice/libdevice.10.bc"
            for root in (nvidia / "cuda_nvcc", packages / "tensorflow/cuda", _TOOLKIT)
        ),
    )


def wanted_names(cuda: str, cudnn: str) -> list[str]:
    """Returns the libraries of a CUDA and a cuDNN, cuDNN last; none if not known."""
    names = _NAMES.get(int(cuda.partition(".")[0]), ())
    listed = [f"{stem}.so.{version}" for stem, version in names]
    return [*listed, f"libcudnn.so.{cudnn.partition('.')[0]}"] if listed else []


def least_cudnn(requirements: Iterable[str]) -> str:
    """Returns the least version of cuDNN that requirements allow, or nothing."""
    for line in requirements:
        wanted = Requirement(line)
        if _CUDNN_PACKAGE.fullmatch(wanted.name):
            bounds = [s for s in wanted.specifier if s.operator in ("==", ">=")]
            # The fourth number counts builds, which the library does not tell.
            return ".".join(bounds[0].version.split(".")[:3]) if bounds else ""
    return ""


def open_library(
    name: str, nvidia: Path, load: Callable[[str], Any] = ctypes.CDLL
) -> Library:
    """Opens a library as TensorFlow does: by the loader, then in the wheels' folders.

    Args:
        name: its name and version.
        nvidia: the folder of the nvidia packages.
        load: opens a shared library by name or path, or raises `OSError`.
    """
    try:
        load(name)
        return Library(name, "loader")
    except OSError as error:
        reason = " ".join(str(error).split())
    for path in sorted(nvidia.glob(f"*/lib/{name}")):
        try:
            load(str(path))
            return Library(name, "wheel")
        except OSError as error:
            reason = " ".join(str(error).split())
    return Library(name, "", reason, _another_version(name, nvidia, load))


def _another_version(name: str, nvidia: Path, load: Callable[[str], Any]) -> str:
    stem, _, version = name.rpartition(".")
    for path in sorted(nvidia.glob(f"*/lib/{stem}.*")):
        if path.name != name:
            return path.name
    for other in (int(version) + 1, int(version) - 1):
        try:
            load(f"{stem}.{other}")
        except OSError:
            continue
        return f"{stem}.{other}"
    return ""


def _cudnn_version(name: str, nvidia: Path) -> str:
    for path in (name, *(str(path) for path in sorted(nvidia.glob(f"*/lib/{name}")))):
        try:
            return cudnn_text(ctypes.CDLL(path).cudnnGetVersion())
        except (OSError, AttributeError):
            continue
    return ""


def cudnn_text(number: int) -> str:
    """Returns cuDNN's number as a version: 8907 is 8.9.7, 91002 is 9.10.2."""
    major = 10_000 if number >= 90_000 else 1_000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def older(found: str, wanted: str) -> bool:
    """Tells whether a version lies below another."""
    return Version(found) < Version(wanted)


def _ptxas(nvidia: Path) -> str:
    roots = (nvidia / "cuda_nvcc", _TOOLKIT)
    return _first(root / "bin/ptxas" for root in roots) or shutil.which("ptxas") or ""


def _first(paths: Iterable[Path]) -> str:
    return next((str(path) for path in paths if path.exists()), "")
