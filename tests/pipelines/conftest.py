# SPDX-License-Identifier: Apache-2.0
"""One small corpus and its dataset, prepared once for the tests that only read it."""

from pathlib import Path

import pytest

from tests.pipelines import prepared


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared.write_corpus(tmp_path_factory.mktemp("corpus") / "input")


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared.write_tokenizer(tmp_path_factory.mktemp("tok") / "tokenizer.json")


@pytest.fixture(scope="session")
def dataset(
    corpus: Path, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("prepared") / "dataset"
    return prepared.prepare(
        corpus,
        tokenizer_file,
        output,
        "--workers",
        "1",
        "--max_reject_fraction",
        "0.5",
    )
