# SPDX-License-Identifier: Apache-2.0
"""The same bytes from every way to run a job: here, at Prism, with a pool's workers.

Two of these, a curated preparation and a generation, are in `test_prism.py` and
`test_worker_pool.py`, for the suite has time for no more.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import prepare_corpus, train_tokenizer
from tests.pipelines import generated, prepared
from tests.pipelines.beam import engines

pytestmark = pytest.mark.drill

OBJECTIVES = {
    "causal": ("causal",),
    "prefix": ("prefix",),
    "spans": ("span_corruption",),
    "spans in one": ("span_corruption", "--layout", "decoder"),
    "middles": ("fill_in_middle",),
    "pairs": ("pairs",),
    "pairs in one": ("pairs", "--layout", "decoder"),
}


@pytest.fixture(scope="module")
def own_tokenizer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the special tokens of every objective."""
    path = tmp_path_factory.mktemp("tok") / "tokenizer.json"
    words = ["--input", f"{corpus}/**/*", "--output", str(path), "--vocab_size", "400"]
    objectives = ["--objective", "fill_in_middle", "span_corruption"]
    train_tokenizer.main([*words, *objectives])
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pairs")
    lines = [
        {"id": f"q{n}", "text": f"how many are {n} and {n} ?", "target": f"{2 * n} !"}
        for n in range(300)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (directory / "pairs.jsonl").write_text(text)
    return directory


@pytest.fixture
def ways(
    prism: str, prism_address: str, pool_address: str, pool: subprocess.Popen
) -> dict[str, tuple[str, ...]]:
    """The flags of each way to run a job."""
    return {
        "one worker": ("--workers", "1"),
        "three workers": ("--workers", "3"),
        "Prism started": engines.started(prism),
        "Prism there": engines.there(prism_address, pool_address),
    }


@pytest.fixture
def same_from_each(
    ways: dict[str, tuple[str, ...]], own_tokenizer: Path, tmp_path: Path
) -> Callable[..., Path]:
    """Prepares in each way; returns one of the datasets, which are the same."""

    def run(*flags: str) -> Path:
        found = {}
        for number, way in enumerate(ways.values()):
            output = tmp_path / f"out-{number}"
            words = ["--tokenizer", str(own_tokenizer), "--output", str(output)]
            words += ["--sequence_length", "64", "--validation_fraction", "0.05"]
            words += ["--max_reject_fraction", "0.5", *flags, *way]
            prepare_corpus.main(words, prepared.SMALL)
            found[number] = prepared.fingerprint(output)
        first = found[0]
        differ = [way for n, way in enumerate(ways) if found[n] != first]
        assert not differ and len(first) > 5
        return tmp_path / "out-0"

    return run


def test_everything_that_judges_a_document(
    curated_corpus: Path, same_from_each: Callable[..., Path], tmp_path: Path
) -> None:
    lines = (curated_corpus / "c.jsonl").read_text(encoding="utf-8").splitlines()
    seen = json.loads(lines[7])["text"].splitlines()[0]
    evaluation = tmp_path / "evaluation.jsonl"
    evaluation.write_text(json.dumps({"question": seen, "choices": ["one"]}) + "\n")
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("bad.example\n")
    dataset = same_from_each(
        *("--input", f"{curated_corpus}/**/*", *prepared.CURATED),
        *("--decontaminate", str(evaluation), "--block_addresses", str(blocked)),
    )
    rejects = "".join(path.read_text() for path in (dataset / "rejects").iterdir())
    for reason in ("near_duplicate", "duplicate", "contaminated", "gopher_quality@1"):
        assert f'"{reason}"' in rejects, reason


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective(
    name: str, corpus: Path, pairs: Path, same_from_each: Callable[..., Path]
) -> None:
    flags = ["--objective", *OBJECTIVES[name]]
    if name.startswith("pairs"):
        same_from_each("--input", f"{pairs}/*", "--target_field", "target", *flags)
    else:
        same_from_each("--input", f"{corpus}/**/*", *flags)


def test_a_mixture(
    corpus: Path, pairs: Path, same_from_each: Callable[..., Path], tmp_path: Path
) -> None:
    mixture = tmp_path / "mixture.toml"
    mixture.write_text(
        f'[sources.mine]\ninput = "{corpus}/**/*"\nweight = 3\n'
        f'[sources.other]\ninput = "{pairs}/*"\nweight = 1\n'
    )
    same_from_each("--mixture", str(mixture))


@pytest.mark.parametrize("sampled", [False, True])
def test_a_generation(
    sampled: bool,
    ways: dict[str, tuple[str, ...]],
    generate: Callable[..., None],
    tmp_path: Path,
) -> None:
    found = {}
    for number, (name, way) in enumerate(ways.items()):
        output = tmp_path / f"out-{number}"
        generate(output, "--threads", "1", *generated.SEEDED * sampled, *way)
        found[name] = generated.shards(output)
    assert all(shards == found["one worker"] for shards in found.values())
