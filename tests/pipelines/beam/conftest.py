# SPDX-License-Identifier: Apache-2.0
"""Prism, and a server and a pool of workers that stay for a file's tests."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines import prepared
from tests.pipelines.beam import engines


@pytest.fixture(scope="session")
def prism() -> str:
    """Apache Beam's runner of portable jobs, the binary."""
    found = engines.prism_binary()
    if found is None:
        pytest.skip("no Prism: `make prism` builds it where Go is, PRISM names one")
    return str(found)


@pytest.fixture(scope="module")
def prism_address(prism: str) -> Iterator[str]:
    """Where a Prism answers that no command has started."""
    address = engines.free_address()
    with engines.prism_at(prism, address):
        yield address


@pytest.fixture(scope="module")
def pool_address() -> str:
    """Where the pool of workers is."""
    return engines.free_address()


@pytest.fixture(scope="module")
def pool(pool_address: str) -> Iterator[subprocess.Popen]:
    """quern-beam-worker."""
    with engines.pool_at(pool_address) as process:
        yield process


@pytest.fixture
def words(
    prism_address: str,
    pool_address: str,
    pool: subprocess.Popen,
    curated_corpus: Path,
    tokenizer_file: Path,
    tmp_path: Path,
) -> list[str]:
    """A curated preparation at the engine, into `out`."""
    flags = (*prepared.CURATED, *engines.there(prism_address, pool_address))
    return prepared.arguments(curated_corpus, tokenizer_file, tmp_path / "out", *flags)
