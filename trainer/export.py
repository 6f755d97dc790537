# SPDX-License-Identifier: Apache-2.0
"""quern-export: turns a run's checkpoint into a release TensorFlow Serving can load.

checkpoint -> float32 model + tokenizer in one graph -> SavedModel
           -> tokenizer, lineage, warm-up requests beside it
           -> --check: another process reloads it as a stock server would
           -> visible as OUTPUT/VERSION, or not at all
"""

import argparse
import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

# TensorFlow's C++ side reads it once, on import: only errors reach standard error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from preprocessing.commands import CommandParser, UsageError, WorkError, run
from preprocessing.releases import (
    LINEAGE_NAME,
    SAVED_MODEL_NAME,
    TOKENIZER_ASSET,
    WARMUP_NAME,
    Lineage,
)
from preprocessing.tokenizer import Tokenizer
from trainer.checkpoints import Run, open_run
from trainer.expected import expected_answers
from trainer.generate import Decoding
from trainer.models.model import PrecisionConfig
from trainer.publish import staged
from trainer.signatures import TextModel
from trainer.warmup_requests import Request, write_requests

_PACKAGES = ("quern", "tensorflow", "tensorflow-text", "tokenizers")


def main(argv: Sequence[str]) -> None:
    """Exports the run that `argv` names."""
    values = _parse(argv)
    # A server on any machine computes in float32; the run's own type may be bfloat16.
    opened = open_run(values.run, values.step, PrecisionConfig())
    tokenizer = _open_tokenizer(opened)
    with staged(values.output, values.version) as (staging, version):
        name = os.path.basename(values.output.rstrip("/"))
        write_release(opened, tokenizer, staging, name)
        if values.check:
            _check(staging)
    print(f"exported step {opened.step} as {values.output.rstrip('/')}/{version}")


def write_release(opened: Run, tokenizer: Tokenizer, directory: str, name: str) -> None:
    """Writes everything of Door 3 into a local directory.

    Args:
        opened: the run, its model computing in float32.
        tokenizer: the run's.
        directory: where; nothing there is looked at.
        name: the model's, for the warm-up requests.

    Raises:
        UsageError: the graph cannot reproduce the tokenizer.
        WorkError: the files cannot be written.
    """
    decoding = decoding_of(opened)
    length = opened.config.data.sequence_length
    module = TextModel(opened.model, tokenizer, decoding, length)
    answers = expected_answers(opened.model, tokenizer, decoding, length)
    lineage = _lineage(opened, decoding, answers)
    files = {
        TOKENIZER_ASSET: tokenizer.json_bytes,
        LINEAGE_NAME: lineage.to_bytes(),
        WARMUP_NAME: write_requests(name, warmup_requests()),
    }
    try:
        tf.saved_model.save(module, directory, signatures=module.signatures())
        for path, data in files.items():
            target = Path(directory, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    except (OSError, tf.errors.OpError) as error:
        raise WorkError(
            f"wanted to write the release, found: {error}. Free some space and export "
            "again; nothing was published"
        ) from error


def decoding_of(opened: Run) -> Decoding:
    """Returns what generation must know of a run besides its weights."""
    manifest, config = opened.manifest, opened.config
    recurrent = config.model.family == "recurrent"
    return Decoding(
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
        context=None if recurrent else config.data.sequence_length,
    )


def warmup_requests() -> list[Request]:
    """Returns one small request per signature: each traces memory and thread pools."""
    text = [b"Once upon a time"]
    one = np.ones(1, np.int32)
    settings = {
        "max_new_tokens": one * 2,
        "temperature": np.ones(1, np.float32),
        "top_k": one * 40,
        "top_p": np.ones(1, np.float32),
        "seed": one.astype(np.int64),
    }
    return [
        Request("serving_default", {"prompt": text}),
        Request("generate", {"prompt": text, **settings}),
        Request("score", {"text": text}),
        Request("tokenize", {"text": text}),
    ]


def _lineage(opened: Run, decoding: Decoding, answers: dict[str, object]) -> Lineage:
    manifest = opened.manifest
    return Lineage(
        dataset_hash=manifest.dataset_hash,
        tokenizer_sha256=manifest.tokenizer_sha256,
        config=dataclasses.asdict(opened.config),
        step=opened.step,
        vocab_size=manifest.vocab_size,
        bos_id=decoding.bos_id,
        eos_id=decoding.eos_id,
        pad_id=decoding.pad_id,
        context=decoding.context,
        versions={name: metadata.version(name) for name in _PACKAGES},
        expected=answers,
    )


def _open_tokenizer(opened: Run) -> Tokenizer:
    manifest = opened.manifest
    tokenizer = Tokenizer.restore(
        opened.tokenizer_path,
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )
    if tokenizer.sha256 != manifest.tokenizer_sha256:
        raise UsageError(
            f"wanted the tokenizer the dataset was made with, found another in "
            f"{opened.tokenizer_path}. Copy the dataset's tokenizer.json back"
        )
    return tokenizer


def _check(directory: str) -> None:
    """Checks an unpublished release in a process that never imports TensorFlow."""
    home = str(Path(__file__).resolve().parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    ended = subprocess.run(
        [sys.executable, "-m", "trainer.check_release", directory],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(ended.stdout, end="", flush=True)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        reason = lines[-1].removeprefix("error: ")
        raise WorkError(f"{reason}. The release was not published")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        "quern-export",
        "Exports a checkpoint as a SavedModel in TensorFlow Serving's layout: text "
        "in, text out, the tokenizer in the graph. Writes OUTPUT/VERSION with "
        f"{SAVED_MODEL_NAME} and what belongs to it; never overwrites a version.",
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="the run to export")
    parser.add_argument(
        "--output",
        required=True,
        metavar="MODELS/NAME",
        help="the model's directory; its last part is the name clients use",
    )
    parser.add_argument(
        "--step", type=int, help="checkpoint to export (default: the newest)"
    )
    parser.add_argument(
        "--version", type=int, help="version to write (default: highest + 1)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="before publishing, reload the release as a stock TensorFlow Serving "
        "would and compare its answers with the trainer's",
    )
    return parser.parse_args(argv)


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


if __name__ == "__main__":
    cli()
