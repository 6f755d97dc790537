# SPDX-License-Identifier: Apache-2.0
# The trainer under the second lock, TensorFlow 2.21, on an official CUDA base image.
# Build from the repository's root:
#   docker build -f deploy/containers/trainer-gpu.Dockerfile -t quern-trainer-gpu .
#   docker run --gpus all --ipc=host -v "$PWD:/data" quern-trainer-gpu \
#     quern-train --data /data/dataset --run /data/run --preset 125m
FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

# The CUDA that the wheel was built with: the base image has the container runtime
# refuse, by name, a host whose driver is too old for it. CUDA's libraries, cuDNN and
# NCCL come with the wheel's extra, as the lock pins them.
FROM nvidia/cuda:12.5.1-base-ubuntu22.04
COPY --from=uv /uv /usr/local/bin/uv

# Ubuntu 22.04's own Python 3.11 is a release candidate, so uv brings one.
ENV UV_PYTHON_INSTALL_DIR=/opt/python UV_NO_CACHE=1 VIRTUAL_ENV=/opt/venv
RUN uv venv --python 3.11 --managed-python /opt/venv

WORKDIR /opt/quern
COPY setup.py pyproject.toml constraints-tf221.txt ./
COPY preprocessing preprocessing
COPY pipelines pipelines
COPY trainer trainer
RUN uv pip install --constraint constraints-tf221.txt ".[gpu]" && uv pip check

# XLA calls ptxas and links libdevice; both are in the nvidia-cuda-nvcc-cu12 package.
# The wheel finds the other libraries itself (TensorFlow 2.18 and later).
ENV CUDA_NVCC=/opt/venv/lib/python3.11/site-packages/nvidia/cuda_nvcc
ENV XLA_FLAGS=--xla_gpu_cuda_data_dir=$CUDA_NVCC
ENV PATH=/opt/venv/bin:$CUDA_NVCC/bin:$PATH
RUN test -x "$CUDA_NVCC/bin/ptxas" \
    && test -f "$CUDA_NVCC/nvvm/libdevice/libdevice.10.bc"

# Kernels that the driver compiles are kept in the user's home, up to 4 GiB of them.
ENV CUDA_CACHE_MAXSIZE=4294967296
RUN useradd --create-home --uid 1000 quern
USER 1000
WORKDIR /data
CMD ["quern-doctor"]
