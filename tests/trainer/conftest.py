# SPDX-License-Identifier: Apache-2.0
"""What the trainer's tests share: one small dataset, written once."""

from pathlib import Path

import pytest

from preprocessing.manifest import Manifest, read_manifest
from tests.datasets import write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """A dataset of 64 tokens a row, to be left as it is."""
    return write_dataset(tmp_path_factory.mktemp("shared") / "dataset")


@pytest.fixture(scope="session")
def manifest(dataset) -> Manifest:
    """The manifest of `dataset`."""
    return read_manifest(str(dataset))
