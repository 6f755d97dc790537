# SPDX-License-Identifier: Apache-2.0
"""A worker of other versions than the command's reads nothing, and names them."""

import pickle
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
from apache_beam.internal import pickler

import pipelines
from pipelines.beam import versions
from pipelines.prepare.prepare_graph import Numbers
from preprocessing.foundation.commands import UsageError
from tests.pipelines import prepared
from tests.pipelines.beam import engines

OWN = {"Quern": "0.1.0 (code 00c0ffee)", "Beam": "2.77.0", "Python": "3.11"}


def test_a_process_knows_its_versions_and_its_code() -> None:
    found = versions.own_versions()
    assert re.fullmatch(r"0\.1\.0 \(code [0-9a-f]{8}\)", found["Quern"])
    assert found["Beam"] == metadata.version("apache-beam")
    assert found["Python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("name", OWN)
def test_each_version_that_differs_is_named(name: str) -> None:
    versions.check_same(OWN, dict(OWN))
    with pytest.raises(UsageError) as caught:
        versions.check_same(OWN, {**OWN, name: "7"})
    told = str(caught.value)
    assert f"{name} 7 for {OWN[name]}" in told
    assert not [other for other in OWN if other != name and f"{other} " in told[60:]]


def test_a_step_of_other_versions_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickler.dumps(Numbers(3))
    assert pickler.loads(sent).count == 3
    monkeypatch.setattr(versions, "own_versions", lambda: OWN)
    # What cannot be read is never looked at.
    with pytest.raises(UsageError, match=r"Beam 2\.77\.0 for 1\.0"):
        versions.read_step({**OWN, "Beam": "1.0"}, b"no pickle")
    with pytest.raises(pickle.UnpicklingError):
        versions.read_step(OWN, b"no pickle")
    with pytest.raises(UsageError, match="code 00c0ffee"):
        pickler.loads(sent)


@pytest.mark.slow
def test_workers_with_other_code_are_refused_by_an_engines_job(
    prism_address: str, corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    home, address = Path(pipelines.__file__).parents[1], engines.free_address()
    for room in ("preprocessing", "pipelines", "trainer"):
        shutil.copytree(home / room, tmp_path / "other" / room)
    with (tmp_path / "other" / "pipelines" / "batch_generate.py").open("a") as file:
        file.write("# one line more\n")
    flags = engines.there(prism_address, address)
    other = tmp_path / "other"
    with engines.pool_at(address, other), pytest.raises(UsageError) as caught:
        prepared.prepare(corpus, tokenizer_file, tmp_path / "out", *flags)
    own = versions.own_versions()["Quern"]
    assert re.search(
        rf"found on \S+: Quern 0\.1\.0 \(code [0-9a-f]{{8}}\) for {re.escape(own)}\. "
        "Install the same there",
        str(caught.value),
    )
