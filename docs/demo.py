# SPDX-License-Identifier: Apache-2.0
"""`make demo`: from the Python standard library to a served model, by commands alone.

The corpus is what every machine with Python has: the sources and documentation strings
of the running interpreter's own library. Everything after it is Quern's console
commands, in the order a user would type them; a failing one ends the demo with its own
error. All output lies in ./demo, which is made anew.
"""

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

DEMO = Path("demo")
CORPUS = DEMO / "corpus.jsonl"
TOKENIZER = DEMO / "tokenizer.json"
DATASET = DEMO / "dataset"
RUN = DEMO / "run"
RELEASE = DEMO / "models" / "python"
PROMPTS = DEMO / "prompts.jsonl"
GENERATED = DEMO / "generated"

MIN_CORPUS_BYTES = 10_000_000
# What is not the library's own code: other packages, and tests that some systems ship
# and others leave out.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
STEPS = 1000
# The console commands and their flags, in order.
COMMANDS = {
    "quern-tokenizer": f"--input={CORPUS} --output={TOKENIZER} --vocab_size=4096",
    "quern-prepare": f"--input={CORPUS} --tokenizer={TOKENIZER} --output={DATASET} "
    "--sequence_length=256 --validation_fraction=0.02",
    "quern-train": f"--data={DATASET} --run={RUN} --preset=laptop "
    f"--strategy=one_device --set loop.total_steps={STEPS} "
    f"loop.evaluate_every={STEPS} loop.save_every={STEPS // 2} loop.log_every=50 "
    "data.global_batch_size=4 model.dropout=0 optimizer.peak_learning_rate=3e-3",
    "quern-evaluate": f"--run={RUN} --data={DATASET} --split=validation",
    "quern-export": f"--run={RUN} --output={RELEASE} --check",
    "quern-generate": f"--model={RELEASE} --input={PROMPTS} --output={GENERATED} "
    "--max_new_tokens=48 --temperature=0.5",
}
STARTS = (
    "def __init__(self,",
    "import os\nimport sys\n",
    "class Error(",
    '    """Return the',
    "    for name in",
    "        raise ValueError(",
)


def main() -> None:
    """Runs every stage and prints what came of it."""
    begin = time.monotonic()
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    corpus_bytes = write_corpus(Path(sysconfig.get_path("stdlib")))
    write_prompts()
    spent = {
        "tokenizer": train_tokenizer(),
        "prepare": prepare(),
        "train": train(),
    }
    quality = evaluate()
    spent["export"] = export()
    spent["generate"] = generate()
    print_summary(corpus_bytes, spent, quality, time.monotonic() - begin)


def write_corpus(library: Path) -> int:
    """Writes the library's sources, one document each, and returns their bytes."""
    total = 0
    with CORPUS.open("w", encoding="utf-8") as file:
        for name, text in library_sources(library):
            file.write(json.dumps({"id": name, "text": text}) + "\n")
            total += len(text.encode())
    if total < MIN_CORPUS_BYTES:
        print(
            f"error: wanted {MIN_CORPUS_BYTES:,} bytes of Python source in {library}, "
            f"found {total:,}. Use an interpreter with its whole standard library",
            file=sys.stderr,
        )
        sys.exit(2)
    print(f"corpus: {total / 1e6:.1f} MB of Python from {library}", flush=True)
    return total


def library_sources(library: Path) -> Iterator[tuple[str, str]]:
    """Yields (path inside the library, text) in sorted order."""
    for path in sorted(library.rglob("*.py")):
        inside = path.relative_to(library)
        if not LEFT_OUT.intersection(inside.parts):
            yield inside.as_posix(), path.read_text(encoding="utf-8")


def write_prompts() -> None:
    """Writes the prompts, each named by its number."""
    lines = [json.dumps({"id": i, "prompt": text}) for i, text in enumerate(STARTS)]
    PROMPTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def train_tokenizer() -> float:
    """Trains the byte-level BPE; returns seconds, as all stages do."""
    return call("quern-tokenizer")


def prepare() -> float:
    """Cleans, deduplicates, encodes, shuffles and packs the corpus, in Beam."""
    return call("quern-prepare")


def train() -> float:
    """Trains a small decoder under tf.distribute."""
    return call("quern-train")


def evaluate() -> dict[str, float]:
    """Returns the validation loss, perplexity, bits per byte and tokens."""
    command = announced("quern-evaluate")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def export() -> float:
    """Writes a release for TensorFlow Serving and checks it as one would load it."""
    return call("quern-export")


def generate() -> float:
    """Continues the prompts with the release, in Beam."""
    return call("quern-generate")


def announced(name: str) -> list[str]:
    """Prints one of `COMMANDS` as a user would type it; returns what to run."""
    print(f"\n$ {name} {COMMANDS[name]}", flush=True)
    return [str(Path(sys.executable).parent / name), *shlex.split(COMMANDS[name])]


def call(name: str) -> float:
    """Runs a console command and returns its seconds; its failure ends the demo."""
    command = announced(name)
    begin = time.monotonic()
    status = subprocess.run(command).returncode
    if status:
        sys.exit(status)
    return time.monotonic() - begin


def print_summary(
    corpus_bytes: int, spent: dict[str, float], quality: dict[str, float], total: float
) -> None:
    """Prints the continuations, the quality, each stage's speed and what lies where."""
    answers = sorted(read_lines(GENERATED.glob("*.jsonl")), key=lambda line: line["id"])
    for answer in answers:
        print(f"\n--- prompt {answer['id']}\n{STARTS[int(answer['id'])]}", end="")
        print(
            f"\033[1m{answer['text']}\033[0m" if sys.stdout.isatty() else answer["text"]
        )
    steps = read_lines([RUN / "metrics.jsonl"])
    speeds = sorted(s["tokens_per_second"] for s in steps if "tokens_per_second" in s)
    made = sum(answer["num_tokens"] for answer in answers)
    megabytes = corpus_bytes / 1e6
    print(f"""
validation: {quality["bits_per_byte"]:.3f} bits per byte, loss {quality["loss"]:.3f}

stage       seconds  speed (seconds and MB/s include each command's start)
tokenizer   {spent["tokenizer"]:7.1f}  {megabytes / spent["tokenizer"]:.1f} MB/s
prepare     {spent["prepare"]:7.1f}  {megabytes / spent["prepare"]:.1f} MB/s
train       {spent["train"]:7.1f}  {speeds[len(speeds) // 2]:,.0f} tokens/s (median)
export      {spent["export"]:7.1f}  reloaded and compared with the trainer
generate    {spent["generate"]:7.1f}  {made} tokens for {len(answers)} prompts
all         {total:7.1f}

dataset report    {DATASET / "report.html"}
TensorBoard logs  {RUN} (.venv/bin/tensorboard --logdir {RUN})
exported model    {newest_version()}""")


def read_lines(paths: Iterator[Path] | list[Path]) -> list[dict]:
    """Returns the JSON objects of all the files' lines."""
    return [json.loads(line) for path in paths for line in path.open(encoding="utf-8")]


def newest_version() -> Path:
    """Returns the release's directory of the highest number."""
    versions = (path for path in RELEASE.iterdir() if path.name.isdigit())
    return max(versions, key=lambda path: int(path.name))


if __name__ == "__main__":
    main()
