# SPDX-License-Identifier: Apache-2.0
"""Machines with GPUs as they were described, for `test_gpu_findings.py` and others.

The H100's driver, name and memory are those of a machine that was seen; what its wheel
holds and asks for is read off TensorFlow 2.21's files.
"""

from dataclasses import replace

from trainer.machine.cuda_libraries import CudaLibraries, Library, wanted_names
from trainer.machine.nvml import HOST, NOT_ASKED, NVLINK, PEER, Driver, Gpu

GIB = 1 << 30
H100 = Gpu("NVIDIA H100 80GB HBM3", (9, 0), 81_559 << 20, 80_994 << 20)
ONE_H100 = Driver("580.159.04", "13.0", (H100,))
EIGHT_H100 = Driver(
    "580.159.04",
    "13.0",
    (H100,) * 8,
    tuple((a, b, NVLINK) for a in range(8) for b in range(a + 1, 8)),
)
# Two pairs under one host: NVLink within a pair, nothing but the host between them.
FOUR_IN_PAIRS = replace(
    EIGHT_H100,
    gpus=(H100,) * 4,
    links=(
        (0, 1, NVLINK),
        (0, 2, PEER),
        (0, 3, HOST),
        (1, 2, HOST),
        (1, 3, NOT_ASKED),
        (2, 3, NVLINK),
    ),
)

NAMES = wanted_names("12.5.1", "9")
WHEEL_2_21 = CudaLibraries(
    cuda="12.5.1",
    capabilities=("sm_60", "sm_70", "sm_80", "sm_89", "compute_90"),
    libraries=tuple(Library(name, "wheel") for name in NAMES),
    cudnn="9.28.0",
    least_cudnn="9.3.0",
    ptxas="nvidia/cuda_nvcc/bin/ptxas",
    libdevice="nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc",
)
_CUDNN_ERROR = "libcudnn.so.9: cannot open shared object file"
WITHOUT_CUDNN = replace(
    WHEEL_2_21,
    libraries=(*WHEEL_2_21.libraries[:-1], Library(NAMES[-1], "", _CUDNN_ERROR)),
    cudnn="",
)
# PyTorch's packages for CUDA 13 hold cuDNN 9 and cuSPARSE 12 under the same names.
_THIRTEEN = {
    "libcudart.so.12": "libcudart.so.13",
    "libcublas.so.12": "libcublas.so.13",
    "libcublasLt.so.12": "libcublasLt.so.13",
    "libcufft.so.11": "libcufft.so.12",
    "libcusolver.so.11": "libcusolver.so.12",
}
CUDA_13_ONLY = replace(
    WHEEL_2_21,
    libraries=tuple(
        Library(name, "", f"{name}: cannot open shared object file", _THIRTEEN[name])
        if name in _THIRTEEN
        else Library(name, "loader")
        for name in NAMES
    ),
    cudnn="9.19.0",
)
SEEN = ("/physical_device:GPU:0",)
