# SPDX-License-Identifier: Apache-2.0
"""How fast `quern-prepare` turns JSONL into a dataset, start-up included.

    python -m tests.benchmarks.prepare --work DIRECTORY [--peer_python PYTHON]

The corpus is text found on this machine (sources, documentation and pages below the
Python installation, /usr/share and /usr/lib), as JSONL, repeated until it is 1 GB, each
copy under a first line of its own so that it counts as another document. The table
gives MB of input per second and per core: bytes / (wall x cores pinned). The peer is
datatrove on the first 20 MB of the same, on one core; both take turns (`turns.py`).
"""

import argparse
import hashlib
import json
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.peers import peer_script
from tests.benchmarks.turns import LEAST_TURNS, in_turns, spread

EXTENSIONS = (".py", ".pyi", ".md", ".rst", ".txt", ".html", ".js", ".json", ".h", ".c")
EXTENSIONS += (".hpp", ".pl", ".pm", ".sh", ".css", ".xml", ".svg", ".tcl", ".cmake")
MOST_COPIES = 5
SHARD_BYTES = 256 << 20
PEER_BYTES = 20 << 20


def main() -> None:
    """Builds the corpus if it is not there, runs the job and prints the table."""
    flags = _flags()
    work = Path(flags.work)
    work.mkdir(parents=True, exist_ok=True)
    corpus = build_corpus(work / "corpus", flags.megabytes * 10**6)
    tokenizer = Path(flags.tokenizer or _train(work, corpus))
    ours = partial(run_quern, work, corpus, tokenizer, flags.cores)
    if not has_peer(flags.peer_python):
        print(f"quern-prepare: {spread([ours() for _ in range(flags.turns)], '.1f')}")
        return
    part = peer_part(work, corpus)
    theirs = partial(run_peer, work, part, tokenizer, flags.peer_python)
    found = in_turns(ours, theirs, flags.turns)
    print(f"\nMB/s per core on {flags.cores} cores: {spread(found.ours, '.1f')}")
    print(f"datatrove, on one core: {spread(found.theirs, '.2f')}")
    print(f"Quern / datatrove: {found}")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, help="a directory with 6 GB free")
    parser.add_argument("--cores", type=int, default=2, help="cores to pin to")
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="at least")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the input")
    parser.add_argument("--tokenizer", help="a tokenizer.json; trained here if absent")
    parser.add_argument(
        "--peer_python",
        default=sys.executable,
        metavar="PYTHON",
        help="an interpreter that has datatrove",
    )
    return parser.parse_args()


def build_corpus(directory: Path, wanted: int) -> Path:
    """Writes JSONL of `wanted` bytes, and says how much of it is unique text."""
    if not (directory / "built.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        unique = unique_bytes = 0
        lines: list[tuple[str, str]] = []
        for text in found_texts():
            lines.append((f"{unique}", text))
            unique, unique_bytes = unique + 1, unique_bytes + len(text.encode())
            if unique_bytes >= wanted:
                break
        copies, size = _write_copies(directory, lines, wanted)
        facts = {"unique_bytes": unique_bytes, "documents": unique, "copies": copies}
        (directory / "built.json").write_text(json.dumps({**facts, "bytes": size}))
    facts = json.loads((directory / "built.json").read_text())
    print(
        f"corpus: {facts['bytes'] / 1e6:,.0f} MB of JSONL, of which "
        f"{facts['unique_bytes'] / 1e6:,.0f} MB of text are unique "
        f"({facts['documents']:,} files, up to {facts['copies']} copies)"
    )
    return directory


def _write_copies(
    directory: Path, lines: list[tuple[str, str]], wanted: int
) -> tuple[int, int]:
    size = part = 0
    file = (directory / "part-000.jsonl").open("wb")
    for copy in range(MOST_COPIES):
        for name, text in lines:
            first = f"copy {copy} of text {name}\n" if copy else ""
            record = {"id": f"{copy}-{name}", "text": first + text}
            size += file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            if size >= wanted:
                file.close()
                return copy + 1, size
            if file.tell() >= SHARD_BYTES:
                file.close()
                part += 1
                file = (directory / f"part-{part:03d}.jsonl").open("wb")
    file.close()
    return MOST_COPIES, size


def found_texts() -> Iterator[str]:
    """Yields the different texts below the usual places, in a fixed order.

    A file of more than 64 KB counts as several documents of that size.
    """
    roots = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")]
    roots += [sys.prefix, "/usr/share", "/usr/lib"]
    seen: set[bytes] = set()
    for root in roots:
        for path in sorted(Path(root).rglob("*")):
            if path.suffix not in EXTENSIONS or not path.is_file():
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            for start in range(0, len(text), 1 << 16):
                part = text[start : start + (1 << 16)]
                digest = hashlib.blake2b(part.encode(), digest_size=16).digest()
                if len(part) >= 64 and digest not in seen:
                    seen.add(digest)
                    yield part


def _train(work: Path, corpus: Path) -> Path:
    path = work / "tokenizer.json"
    if not path.exists():
        command = [sys.executable, "-m", "pipelines.train_tokenizer"]
        command += ["--input", f"{corpus}/*.jsonl", "--output", str(path)]
        subprocess.run([*command, "--vocab_size", "32768"], check=True)
    return path


def run_quern(work: Path, corpus: Path, tokenizer: Path, cores: int) -> float:
    """Runs the job on `cores` cores, prints its table, returns MB/s per core."""
    output = work / "dataset"
    subprocess.run(["rm", "-rf", str(output)], check=True)
    pinned = ["taskset", "-c", f"0-{cores - 1}"]
    command = [sys.executable, "-m", "pipelines.prepare_corpus", "--input"]
    command += [f"{corpus}/*.jsonl", "--tokenizer", str(tokenizer)]
    command += ["--output", str(output), "--sequence_length", "2048"]
    start = time.monotonic()
    subprocess.run([*pinned, *command, "--workers", str(cores)], check=True)
    wall = time.monotonic() - start
    timings = json.loads((output / "timings.json").read_text())
    size = timings["input_bytes"] / 1e6
    speed = size / wall / cores
    print(f"\n{'part':<18}{'worker s':>10}{'MB/s':>10}")
    for part, seconds in sorted(timings["worker_seconds"].items(), key=lambda x: -x[1]):
        print(f"{part:<18}{seconds:>10.1f}{size / max(seconds, 1e-9):>10.0f}")
    cpu = timings["worker_cpu_seconds"]
    print(f"{'CPU of the steps':<18}{cpu:>10.1f}{size / cpu:>10.0f}")
    print(f"{'wall x cores':<18}{wall * cores:>10.1f}{speed:>10.1f}")
    print(f"peak memory of a worker: {timings['peak_worker_memory'] / 1e6:,.0f} MB")
    print(f"quern-prepare: {speed:.1f} MB/s per core on {cores} cores")
    return speed


def has_peer(python: str) -> bool:
    """Returns whether an interpreter has datatrove, and says so where it has not."""
    found = subprocess.run(
        [python, "-c", "import datatrove"], stderr=subprocess.DEVNULL
    )
    if found.returncode:
        print(
            "datatrove is not installed for --peer_python "
            "(tests/benchmarks/requirements.txt): skipped"
        )
    return not found.returncode


def peer_part(work: Path, corpus: Path) -> Path:
    """Writes the first 20 MB of the corpus for the peer; returns the file."""
    part = work / "peer" / "input" / "part.jsonl"
    part.parent.mkdir(parents=True, exist_ok=True)
    with (corpus / "part-000.jsonl").open("rb") as source:
        part.write_bytes(source.read(PEER_BYTES) + source.readline())
    return part


def run_peer(work: Path, part: Path, tokenizer: Path, python: str) -> float:
    """Runs datatrove's reader and DocumentTokenizer; returns MB/s."""
    script = peer_script("prepare_datatrove.py")
    command = ["taskset", "-c", "0", python, str(script)]
    command += [str(part.parent), str(work / "peer" / "out"), str(tokenizer)]
    start = time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return part.stat().st_size / 1e6 / (time.monotonic() - start)


if __name__ == "__main__":
    main()
