# SPDX-License-Identifier: Apache-2.0
"""The modules that a document, a gradient and a prompt pass, in any checkout.

The commands of a checkout prepare a dataset of a few documents with default flags,
train two steps on it, export the run and answer prompts. Every process of theirs is
watched (`walk_trace.py`), workers too. Functions that begin a walk are known by names
that both checkouts have. What is counted is modules of the rooms, two ways:

    runs     a function of the module is called on the walk. All that takes part:
             clocks, plans and storage with it.
    gives    a function of the module returns or yields the followed thing itself: one
             marked document, as text, as ids, or as the row or record that holds it.
             What a reader has to open to follow it; who only looks at it (a hash) or
             never sees it (a clock) is left out. A step and an answer are traced
             graphs, whose tensors hold nothing to find: their walks have no such count.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

ROOMS = ("preprocessing", "pipelines", "trainer")
# Each with the functions that begin it, and those that it does not enter.
WALKS = {
    "document to record": (("tokenize_task", "pack_shard"), ()),
    "gradient to update": (("ReplicaStep.__call__",), ("LocalSums.__call__",)),
    "prompt to text": (("answer", "TextModel.generate"), ()),
}
TRACE = Path(__file__).with_name("walk_trace.py")
DOCUMENT = "Quietly the zebra walked across seven frozen lakes."
COMMANDS = (
    "pipelines.train_tokenizer --input {work}/corpus.jsonl --output {work}/t.json "
    "--vocab_size 512",
    "pipelines.prepare_corpus --input {work}/corpus.jsonl --tokenizer {work}/t.json "
    "--output {work}/dataset --sequence_length 128 --workers 1",
    "trainer.task --data {work}/dataset --run {work}/run --preset tiny --set "
    "loop.total_steps=2",
    "trainer.export --run {work}/run --output {work}/models",
    "pipelines.batch_generate --model {work}/models/1 --input {work}/corpus.jsonl "
    "--output {work}/answers --prompt_field id --max_new_tokens 4 --workers 1",
)
Passed = dict[str, dict[str, list[str]]]  # walk -> way -> modules


def passed(checkout: Path) -> Passed:
    """Returns the modules that each walk passes, by way, in a checkout."""
    checkout = checkout.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_corpus(work / "corpus.jsonl")
        first, *others = (each.format(work=work) for each in COMMANDS)
        command(checkout, first, (checkout,))
        (work / "out").mkdir()
        (work / "hook").mkdir()
        shutil.copy(TRACE, work / "hook" / "sitecustomize.py")
        told = {
            "root": str(checkout),
            "rooms": ROOMS,
            "out": f"{work}/out",
            "walks": WALKS,
            "marks": [mark.hex() for mark in marks(work / "t.json")],
        }
        (work / "told.json").write_text(json.dumps(told))
        for each in others:
            watched = {"WALK_TRACE": f"{work}/told.json"}
            command(checkout, each, (work / "hook", checkout), watched)
        lines = {
            line
            for path in (work / "out").iterdir()
            for line in path.open().readlines()
        }
    found: Passed = {walk: {"runs": [], "gives": []} for walk in WALKS}
    for line in sorted(lines):
        walk, way, module = line.rstrip("\n").split("\t")
        found[walk][way].append(module)
    unseen = [walk for walk, ways in found.items() if not ways["runs"]]
    if unseen:
        sys.exit(f"{checkout}: nothing began {', '.join(unseen)}. Name what does")
    return found


def write_corpus(path: Path) -> None:
    """Writes some of Python's library, and the document that is followed."""
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:40]
    texts = [DOCUMENT, *(each.read_text(encoding="utf-8")[:3000] for each in library)]
    rows = [json.dumps({"id": str(at), "text": text}) for at, text in enumerate(texts)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def marks(tokenizer: Path) -> list[bytes]:
    """Returns bytes that tell the document: of its text, and of its ids in memory.

    As records have them, varints, as well.
    """
    encoded = Tokenizer.from_file(str(tokenizer)).encode(DOCUMENT)
    ids = encoded.ids[2:-2]  # without what its neighbours may change
    arrays = [np.array(ids, kind).tobytes() for kind in ("<u2", "<i4", "<i8")]
    return [DOCUMENT[5:-5].encode(), *arrays, b"".join(map(varint, ids))]


def varint(number: int) -> bytes:
    """Returns a number as protocol buffers write it."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def command(
    checkout: Path,
    line: str,
    path: Iterable[Path],
    more: dict[str, str] | None = None,
) -> None:
    """Runs a checkout's command to its end; its own error ends everything."""
    done = subprocess.run(
        [sys.executable, "-m", *line.split()],
        cwd=checkout,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **(more or {}),
        },
    )
    if done.returncode:
        sys.exit(f"{checkout}: {line}\n{done.stderr[-3000:]}")
