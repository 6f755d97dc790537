# SPDX-License-Identifier: Apache-2.0
"""From raw text to a served model: every stage as its own process, as a user runs it.

The corpus is a part of the standard library of the running interpreter. Each test reads
what the chain left behind and asserts what the contracts promise of it.
"""

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from tokenizers import Tokenizer

pytestmark = [pytest.mark.smoke, pytest.mark.slow]

PACKAGES = ("json", "email", "html", "http", "logging", "xml", "urllib", "concurrent")
SEQUENCE_LENGTH = 64
PROMPTS = [
    {"id": "first", "prompt": "def main("},
    {"id": 2, "prompt": "import os\nimport "},
    {"id": "first", "prompt": "a second time"},
    {"id": 4, "text": ""},
    {"id": 5},
    {"prompt": "größer als 東京 🙂"},
]


@dataclass(frozen=True)
class Chain:
    """What the stages made, and what each printed."""

    root: Path
    said: dict[str, str]


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Chain:
    root = tmp_path_factory.mktemp("chain")
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__", "test*")
        shutil.copytree(library / name, root / "raw" / name, ignore=ignore)
    (root / "prompts.jsonl").write_text("\n".join(map(json.dumps, PROMPTS)))
    said = {stage: run(stage, flags, root) for stage, flags in STAGES.items()}
    return Chain(root, said)


INPUT = ["--input", "raw/**/*.py", "--format", "text"]
STAGES = {
    "pipelines.train_tokenizer": [
        *INPUT,
        *("--output", "tokenizer.json", "--vocab_size", "600"),
    ],
    "pipelines.prepare_corpus": [
        *INPUT,
        *("--tokenizer", "tokenizer.json", "--output", "dataset"),
        *("--sequence_length", str(SEQUENCE_LENGTH), "--validation_fraction", "0.1"),
        *("--workers", "1"),
    ],
    "trainer.task": [
        *("--data", "dataset", "--run", "run", "--preset", "tiny"),
        *("--set", "loop.total_steps=20", "loop.log_every=5", "loop.evaluate_every=0"),
    ],
    "trainer.evaluate": ["--run", "run", "--data", "dataset"],
    "trainer.export": ["--run", "run", "--output", "models/library", "--check"],
    "pipelines.batch_generate": [
        *("--model", "models/library", "--input", "prompts.jsonl"),
        *("--output", "generated", "--max_new_tokens", "12", "--workers", "1"),
    ],
}


def run(module: str, flags: list[str], root: Path) -> str:
    """Runs one stage to its end; returns its standard output."""
    home = str(Path(__file__).resolve().parent.parent)
    ended = subprocess.run(
        [sys.executable, "-m", module, *flags],
        cwd=root,
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{module}: {ended.stdout}\n{ended.stderr}"
    return ended.stdout


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def test_the_tokenizer_file_opens_in_hugging_face_tokenizers(chain):
    tokenizer = Tokenizer.from_file(str(chain.root / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 600
    text = "def f(x):\n\treturn 'größer'  # 東京"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_dataset_holds_every_document_and_its_counters_agree(chain):
    manifest = read_json(chain.root / "dataset/manifest.json")
    counts, files = manifest["counts"], list((chain.root / "raw").rglob("*.py"))
    assert counts["read"] == len(files)
    assert counts["read"] == counts["kept"] + sum(counts["rejected"].values())
    made = counts["tokens_encoded"] + counts["overlap_tokens"]
    assert made == counts["tokens_written"] + counts["dropped_tokens"]
    assert counts["dropped_tokens"] == 0
    for split in ("train", "validation"):
        for shard in manifest["splits"][split]["shards"]:
            data = (chain.root / "dataset" / shard["name"]).read_bytes()
            assert len(data) == shard["size"]
            assert hashlib.sha256(data).hexdigest() == shard["sha256"]


def test_the_loss_falls_and_no_step_appears_twice(chain):
    lines = (chain.root / "run/metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    steps = [line["step"] for line in logged if "loss" in line]
    assert steps == [5, 10, 15, 20]
    losses = [line["loss"] for line in logged if "loss" in line]
    assert losses[-1] < losses[0] < 1.1 * math.log(600)


def test_the_evaluations_numbers_agree_with_each_other(chain):
    result = json.loads(chain.said["trainer.evaluate"].splitlines()[-1])
    assert set(result) == {"loss", "perplexity", "bits_per_byte", "tokens"}
    assert result["perplexity"] == pytest.approx(math.exp(result["loss"]))
    manifest = read_json(chain.root / "dataset/manifest.json")
    text_bytes = manifest["splits"]["validation"]["text_bytes"]
    bits = result["loss"] * result["tokens"] / math.log(2)
    # BOS stands before every document, so each byte of the split is a target once.
    assert result["bits_per_byte"] == pytest.approx(bits / text_bytes)


def test_the_release_can_be_traced_to_the_dataset_and_the_step(chain):
    release = chain.root / "models/library/1"
    lineage = read_json(release / "assets/lineage.json")
    manifest = (chain.root / "dataset/manifest.json").read_bytes()
    tokenizer = (chain.root / "tokenizer.json").read_bytes()
    assert lineage["dataset_hash"] == hashlib.sha256(manifest).hexdigest()
    assert lineage["tokenizer_sha256"] == hashlib.sha256(tokenizer).hexdigest()
    assert (release / "assets/tokenizer.json").read_bytes() == tokenizer
    assert lineage["step"] == 20
    assert lineage["config"] == read_json(chain.root / "run/config.json")
    assert (release / "assets.extra/tf_serving_warmup_requests").stat().st_size > 0
    assert [p.name for p in (chain.root / "models/library").glob("[!.]*")] == ["1"]


def test_the_release_answers_through_the_c_api_as_the_trainer_does(chain):
    printed = chain.said["trainer.export"]
    assert "loads with XLA off" in printed
    assert re.search(r"answers ([1-9]\d+) of \1 requests as the trainer did", printed)
    lineage = read_json(chain.root / "models/library/1/assets/lineage.json")
    assert lineage["config"]["model"]["family"] == "decoder"
    assert lineage["context"] == SEQUENCE_LENGTH


def test_every_prompt_is_answered_once_in_order(chain):
    paths = sorted((chain.root / "generated").glob("*.jsonl"))
    lines = [json.loads(line) for path in paths for line in path.open()]
    again, nameless = "prompts.jsonl:3", "prompts.jsonl:6"
    assert [line["id"] for line in lines] == ["first", 2, again, 4, 5, nameless]
    assert [index for index, line in enumerate(lines) if "error" in line] == [2, 4]
    for line in (lines[0], lines[1], lines[3], lines[5]):
        assert set(line) == {"id", "text", "num_tokens", "finish_reason"}
        assert line["num_tokens"] <= 12
