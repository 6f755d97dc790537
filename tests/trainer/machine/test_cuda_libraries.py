# SPDX-License-Identifier: Apache-2.0
"""Which of CUDA's libraries a wheel wants, and which of them open, from where."""

import pytest

from trainer.machine import cuda_libraries

# As TensorFlow's builds and their metadata say.
EXTRAS = {
    "2.16": "nvidia-cudnn-cu12 ==8.9.7.29 ; extra == 'and-cuda'",
    "2.21": 'nvidia-cudnn-cu12<10.0,>=9.3.0.75; extra == "and-cuda"',
}
BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}


def loader(*names):
    """Opens these names, and files of the tests; refuses all else as glibc does."""

    def load(name):
        if name not in names and "/" not in name:
            raise OSError(f"{name}: cannot open shared object file")

    return load


def put(nvidia, package, name):
    folder = nvidia / package / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")


def test_a_wheel_wants_seven_libraries_and_its_own_cudnn():
    seven = (
        "libcudart.so.12 libcublas.so.12 libcublasLt.so.12 libcufft.so.11 "
        "libcusolver.so.11 libcusparse.so.12 "
    )
    assert (
        cuda_libraries.wanted_names("12.5.1", "9") == (seven + "libcudnn.so.9").split()
    )
    assert cuda_libraries.wanted_names("12.3", "8") == (seven + "libcudnn.so.8").split()
    assert cuda_libraries.wanted_names("14.0", "11") == []


@pytest.mark.parametrize(("version", "least"), [("2.16", "8.9.7"), ("2.21", "9.3.0")])
def test_the_least_cudnn_is_what_the_extra_asks_for(version, least):
    lines = ["numpy>=1.26", EXTRAS[version]]
    assert cuda_libraries.least_cudnn(lines) == least
    assert cuda_libraries.least_cudnn(["numpy>=1.26"]) == ""


@pytest.mark.parametrize(
    ("number", "text"), [(8907, "8.9.7"), (90300, "9.3.0"), (91002, "9.10.2")]
)
def test_the_number_of_cudnn_is_read_by_its_generation(number, text):
    assert cuda_libraries.cudnn_text(number) == text


def test_a_library_opens_by_the_loader_first_then_from_the_wheels(tmp_path):
    put(tmp_path, "cudnn", "libcudnn.so.9")
    name = "libcudnn.so.9"
    on_path = cuda_libraries.open_library(name, tmp_path, loader(name))
    assert on_path == cuda_libraries.Library(name, "loader")
    beside = cuda_libraries.open_library(name, tmp_path, loader())
    assert beside == cuda_libraries.Library(name, "wheel")


def test_a_library_of_another_version_is_named(tmp_path):
    name = "libcublas.so.12"
    absent = cuda_libraries.open_library(name, tmp_path, loader())
    assert (absent.place, absent.instead) == ("", "") and name in absent.error
    newer = loader("libcublas.so.13")
    assert cuda_libraries.open_library(name, tmp_path, newer).instead == (
        "libcublas.so.13"
    )
    put(tmp_path, "cu13", "libcublas.so.13")
    assert cuda_libraries.open_library(name, tmp_path, loader()).instead == (
        "libcublas.so.13"
    )


def test_a_wheel_without_cuda_wants_nothing(tmp_path):
    assert cuda_libraries.find_cuda({"is_cuda_build": False}, (), tmp_path) is None


def test_what_xla_compiles_with_is_found_beside_tensorflow(tmp_path):
    compiler = tmp_path / "nvidia" / "cuda_nvcc"
    for name in ("bin/ptxas", "nvvm/libdevice/libdevice.10.bc"):
        (compiler / name).parent.mkdir(parents=True)
        (compiler / name).write_bytes(b"")
    found = cuda_libraries.find_cuda(BUILD, [EXTRAS["2.21"]], tmp_path)
    assert found.ptxas == str(compiler / "bin/ptxas")
    assert found.libdevice.startswith(str(compiler))
    assert (found.cuda, found.least_cudnn) == ("12.5.1", "9.3.0")


def test_versions_are_compared_as_numbers():
    assert cuda_libraries.older("525.9.1", "525.60.13")
    assert not cuda_libraries.older("9.10.2", "9.3.0")
