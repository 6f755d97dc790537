# SPDX-License-Identifier: Apache-2.0
# The Beam SDK harness for Flink, Spark and Dataflow workers, with Quern inside, so that
# nothing has to be staged. The tag must be the Beam version of constraints.txt.
# Build from the repository's root:
#   docker build -f deploy/containers/corpus-worker.Dockerfile -t quern-corpus-worker .
FROM apache/beam_python3.11_sdk:2.77.0

WORKDIR /opt/quern
COPY setup.py pyproject.toml constraints.txt ./
COPY preprocessing preprocessing
COPY pipelines pipelines
COPY trainer trainer
RUN pip install --no-cache-dir --constraint constraints.txt . && pip check

# As preprocessing/foundation/huge_pages.py has it for local workers.
ENV GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=2147483647

# The base image starts /opt/apache/beam/boot, which must stay the entry point.
