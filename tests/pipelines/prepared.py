# SPDX-License-Identifier: Apache-2.0
"""A small corpus with every kind of trouble, and ways to prepare it in tests.

Tasks and shards are cut for hundreds of megabytes; here the sizes are made small, so
that a few hundred documents fill several of each.
"""

import contextlib
import gzip
import hashlib
import json
import random
from pathlib import Path

from pipelines import prepare_corpus
from pipelines.job.plan import PlanSizes
from preprocessing.tokenizer import tokenizer

SMALL = PlanSizes(task_bytes=40_000, shard_input_bytes=60_000)
# The command for a process of its own, with tasks small enough to be killed among.
COMMAND = (
    "from functools import partial;"
    "from pipelines import prepare_corpus;"
    "from preprocessing.foundation.commands import run;"
    "from tests.pipelines.prepared import SMALL;"
    "run(partial(prepare_corpus.main, sizes=SMALL))"
)
WORDS = ("the", "cat", "sat", "on", "a", "mat", "été", "Ωmega", "日本", "код")


def some_text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) + str(rng.randrange(50)) for _ in range(words))


def documents(seed: int = 0, count: int = 300) -> list[dict[str, object]]:
    """Documents of 1 to 400 words; some ids are repeated, some texts are."""
    rng = random.Random(seed)
    made: list[dict[str, object]] = []
    for number in range(count):
        text = some_text(rng, rng.choice([1, 5, 20, 60, 150, 400]))
        if number % 17 == 3:
            text = str(made[number // 2]["text"])
        name = f"doc-{number if number % 31 != 7 else number // 3}"
        made.append({"id": name, "text": text})
    return made


def write_corpus(directory: Path) -> Path:
    """Writes JSONL, plain and compressed, and text files; returns the directory."""
    (directory / "deep").mkdir(parents=True)
    made = documents()
    lines = [json.dumps(document, ensure_ascii=False).encode() for document in made]
    broken = [b'{"text": "cut', b'{"title": "no text"}', b'{"text": 7}', b"\xff\xfe{}"]
    for number, line in enumerate(broken):
        lines.insert(40 * number + 11, line)
    lines.insert(100, b'{"text": "  "}')
    (directory / "a.jsonl").write_bytes(b"\n".join(lines[:200]) + b"\n")
    (directory / "deep" / "b.jsonl.gz").write_bytes(
        gzip.compress(b"\n".join(lines[200:]), mtime=0)
    )
    for number in range(5):
        text = some_text(random.Random(number), 100)
        (directory / "deep" / f"{number}.txt").write_text(text, encoding="utf-8")
    return directory


CURATED = (
    *("--rules", "gopher_quality@1:min_words=1,min_stop_words=0"),
    *("--deduplicate", "exact", "lines", "near"),
    *("--max_reject_fraction", "0.5"),
)


def write_curated_corpus(directory: Path) -> Path:
    """Writes `write_corpus` and a file with near duplicates, a footer and a reject."""
    write_corpus(directory)
    lines = []
    for number in range(60):
        words = some_text(random.Random(1000 + number - number % 6 // 5), 60)
        text = f"{words}{' more' * (number % 6 == 5)}\nall rights are reserved here"
        lines.append({"id": f"near-{number}", "text": text})
    lines.append({"id": "symbols", "text": "# one # two # three # four # five"})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (directory / "c.jsonl").write_text(text, encoding="utf-8")
    return directory


def write_tokenizer(path: Path) -> Path:
    texts = [str(document["text"]) for document in documents()]
    path.write_bytes(tokenizer.train(texts, 400))
    return path


def arguments(
    corpus: Path, tokenizer_file: Path, output: Path, *more: str
) -> list[str]:
    return [
        *("--input", f"{corpus}/**/*"),
        *("--tokenizer", str(tokenizer_file)),
        *("--output", str(output)),
        *("--sequence_length", "64", "--validation_fraction", "0.05"),
        *("--workers", "1"),  # in this process: another takes seconds to start
        *more,
    ]


def prepare(corpus: Path, tokenizer_file: Path, output: Path, *more: str) -> Path:
    """Prepares a corpus with small tasks and shards; `more` are flags."""
    prepare_corpus.main(arguments(corpus, tokenizer_file, output, *more), SMALL)
    return output


def fingerprint(dataset: Path) -> dict[str, str]:
    """Returns the SHA-256 of everything whose bytes are promised."""
    names = ["*.tfrecord", "*.parquet", "manifest.json", "tokenizer.json", "rejects/*"]
    files = [path for name in names for path in dataset.glob(name)]
    return {
        str(path.relative_to(dataset)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
    }


def states(output: Path) -> dict[str, tuple[int, int]]:
    """Returns size and time of every file there; the claim's go with its holder."""
    found = {}
    for path in output.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            told = path.stat()
            found[str(path.relative_to(output))] = (told.st_size, told.st_mtime_ns)
    return found
