# SPDX-License-Identifier: Apache-2.0
"""A runner of one's own, named by import path, prepares; no other file knows of it."""

from pathlib import Path

import pytest

from tests.pipelines.prepared import fingerprint, prepare

RUNNER = "tests.pipelines.beam.own_runner.OwnRunner"


@pytest.mark.slow
def test_a_runner_of_ones_own_writes_the_same_bytes(
    corpus: Path,
    tokenizer_file: Path,
    dataset: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
) -> None:
    flags = ("--runner", RUNNER, "--max_reject_fraction", "0.5")
    other = prepare(corpus, tokenizer_file, tmp_path / "other", *flags)
    assert "own runner: a job" in capfd.readouterr().err
    assert fingerprint(other) == fingerprint(dataset)
