# SPDX-License-Identifier: Apache-2.0
# The trainer, with the CUDA libraries that TensorFlow's own wheel asks for.
# Build from the repository's root:
#   docker build -f deploy/containers/trainer.Dockerfile -t quern-trainer .
#   docker run --gpus all -v "$PWD:/data" quern-trainer \
#     quern-train --data /data/dataset --run /data/run --preset laptop
FROM python:3.11-slim-bookworm

WORKDIR /opt/quern
COPY setup.py pyproject.toml constraints.txt ./
COPY preprocessing preprocessing
COPY pipelines pipelines
COPY trainer trainer
RUN pip install --no-cache-dir --constraint constraints.txt . \
    "tensorflow[and-cuda]==2.16.2" && pip check

# The 2.16 wheel does not add the nvidia packages' folders to the loader's path
# (tensorflow#63362); quern-doctor says so too.
ENV NVIDIA=/usr/local/lib/python3.11/site-packages/nvidia
ENV LD_LIBRARY_PATH=$NVIDIA/cublas/lib:$NVIDIA/cuda_cupti/lib:$NVIDIA/cuda_nvrtc/lib:$NVIDIA/cuda_runtime/lib:$NVIDIA/cudnn/lib:$NVIDIA/cufft/lib:$NVIDIA/curand/lib:$NVIDIA/cusolver/lib:$NVIDIA/cusparse/lib:$NVIDIA/nccl/lib:$NVIDIA/nvjitlink/lib
ENV PATH=$NVIDIA/cuda_nvcc/bin:$PATH

RUN useradd --create-home --uid 1000 quern
USER 1000
WORKDIR /data
CMD ["quern-doctor"]
