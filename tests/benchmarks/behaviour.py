# SPDX-License-Identifier: Apache-2.0
"""What a change of structure must leave as it is: hashes, losses and answers.

    python -m tests.benchmarks.behaviour > after.txt        about 4 minutes

Run it on both sides of a change, on one machine, and compare what it prints. It uses
the commands alone, on the running interpreter's own library: the hash of the manifest
of five datasets (plain, two curated, pairs of an objective, a mixture), the last loss
of five runs of 50 steps (each digit counts), and a hash of the answers that a release
is checked against. Datasets are the same on any machine, losses on one.
"""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

# Of the library, what other systems leave out or add is no part of it.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
PREPARE = {
    "plain": "--input {work}/code.jsonl --sequence_length 128",
    "curated code": (
        "--input {work}/code.jsonl --sequence_length 128 --rules gopher_repetition@1 "
        "--deduplicate exact near lines --seed 3"
    ),
    "curated prose": (
        "--input {work}/prose.jsonl --sequence_length 64 "
        "--rules c4@datatrove:terminal_punctuation=0 personal_data@1:phones=0 "
        "--block_addresses {work}/blocked.txt --decontaminate {work}/held.jsonl "
        "--decontaminate_ngram 8 --validation_fraction 0.1"
    ),
    "fill in the middle": (
        "--input {work}/prose.jsonl --sequence_length 64 --objective fill_in_middle"
    ),
    "mixture": "--mixture {work}/mixture.json --sequence_length 64",
}
MIXTURE = {
    "sources": {
        "code": {"input": "code.jsonl", "weight": 2},
        "prose": {"input": "prose.jsonl", "weight": 1},
    }
}
SHORT = (
    "data.sequence_length=64 data.global_batch_size=8 loop.total_steps=50 "
    "loop.evaluate_every=0 loop.save_every=50 loop.log_every=10"
)
TRAIN = {
    "decoder": "--preset tiny",
    "recurrent": "--preset tiny --set model.family=recurrent model.d_model=48",
    "muon, accumulating": (
        "--preset tiny --set optimizer.name=muon data.micro_batch_size=2"
    ),
    "bfloat16": "--preset tiny --set precision.compute=bfloat16",
    "dropout, two replicas": (
        "--preset tiny --strategy mirrored --logical_cpus 2 --set model.dropout=0.1"
    ),
}


def main() -> None:
    """Prints one line for each thing that must stay."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_inputs(work)
        tokenizer = f"{work}/tokenizer.json"
        command(
            "pipelines.train_tokenizer",
            f"--input {work}/code.jsonl --output {tokenizer} --vocab_size 2048 "
            "--objective fill_in_middle",
        )
        for name, flags in PREPARE.items():
            output = work / name.replace(" ", "_")
            flags = flags.format(work=work)
            command(
                "pipelines.prepare_corpus",
                f"{flags} --tokenizer {tokenizer} --output {output} --workers 2",
            )
            print(f"dataset {name}: {digest((output / 'manifest.json').read_bytes())}")
        for name, flags in TRAIN.items():
            run = work / f"run_{len(name)}"
            command(
                "trainer.task", f"--data {work}/plain --run {run} {flags} --set {SHORT}"
            )
            print(f"run {name}: {last_losses(run)}", flush=True)
            if name in ("decoder", "recurrent"):
                answers(name, run, work)


def answers(name: str, run: Path, work: Path) -> None:
    """Exports a run, has the release checked, and prints what it answers."""
    models = work / f"models_{name}"
    command("trainer.export", f"--run {run} --output {models} --check")
    lineage = json.loads((models / "1/assets/lineage.json").read_bytes())
    texts = json.dumps(readable(lineage["expected"]), sort_keys=True)
    print(f"release of {name}: {digest(texts.encode())}", flush=True)


def readable(expected: Mapping[str, Mapping]) -> dict[str, object]:
    """Returns what a release answers, scores to the digits that a check compares."""
    return {
        signature: {
            output: [round(v, 3) if isinstance(v, float) else v for v in values]
            for output, values in answer["outputs"].items()
        }
        for signature, answer in expected.items()
    }


def last_losses(run: Path) -> str:
    """Returns the last training loss and the validation loss, all digits."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    names = ("loss", "validation_loss", "bits_per_byte")
    last = {name: line[name] for line in lines for name in names if name in line}
    return ", ".join(f"{name} {value!r}" for name, value in last.items())


def write_inputs(work: Path) -> None:
    """Writes code, its documentation as prose, and the files that rules read."""
    code = list(library(Path(sysconfig.get_path("stdlib"))))
    rows = [{"id": name, "text": text} for name, text in code]
    write_lines(work / "code.jsonl", rows)
    prose = [
        {"id": f"{name}:{i}", "text": text, "url": f"https://{name[0]}.example/{name}"}
        for name, source in code
        for i, text in enumerate(source.split('"""')[1::2])
        if len(text) > 200
    ]
    write_lines(work / "prose.jsonl", prose)
    write_lines(work / "held.jsonl", prose[::97])
    (work / "blocked.txt").write_text("t.example\n")
    sources = MIXTURE["sources"].items()
    mixture = {n: {**s, "input": [f"{work}/{s['input']}"]} for n, s in sources}
    (work / "mixture.json").write_text(json.dumps({"sources": mixture}))


def library(folder: Path) -> Iterable[tuple[str, str]]:
    """Yields (path inside the library, text) in sorted order."""
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if not LEFT_OUT.intersection(inside.parts):
            yield inside.as_posix(), path.read_text(encoding="utf-8")


def write_lines(path: Path, rows: Iterable[Mapping]) -> None:
    """Writes JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def command(module: str, flags: str) -> None:
    """Runs a command to its end; its own error ends everything."""
    done = subprocess.run(
        [sys.executable, "-m", module, *flags.split()],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        sys.exit(f"{module} {flags}\n{done.stderr[-3000:]}")


def digest(data: bytes) -> str:
    """Returns SHA-256 in hex, its beginning: enough to tell two apart."""
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    main()
