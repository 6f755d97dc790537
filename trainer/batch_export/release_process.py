# SPDX-License-Identifier: Apache-2.0
"""Measures one release in a process of its own, as a stock TensorFlow Serving has it.

    load -> prompts, one and eight at a time -> the most memory held so far -> the split

TensorFlow's Python is never imported: what is held besides the release is 100 MB or so
of Python, numpy and Arrow, the same for every release. `judged.py` starts this and
reads the line of JSON that it prints.
"""

import argparse
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

# Beside a trainer whose GPU is its own, as the release check does.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

from preprocessing.contracts import releases
from preprocessing.contracts.manifest import Manifest, read_manifest
from preprocessing.contracts.row_segments import row_segments
from preprocessing.contracts.shards import Shards
from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import WorkError, run
from preprocessing.foundation.terminal import quiet_libraries
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.batch_export.split_texts import SplitText, check_readable, split_texts
from trainer.release.c_api import Session, TensorFlowLibrary

# Ids of a prompt and of its continuation, where a context has room for them: a turn of
# a model of 1 B parameters takes seconds on two cores.
_PROMPT, _NEW, _TURNS = 32, 32, 5
_TOGETHER = 8
# Texts and bytes that one call scores; its windows are read in groups of 2,048 places.
_TEXTS, _BYTES = 32, 1 << 18


class ReleaseProcess:
    """A loaded release, and the dataset it is measured on.

    Args:
        directory: of the release, local.
        dataset: encoded with its tokenizer.
        split: of the dataset.

    Raises:
        UsageError: the dataset is none that the release can read.
        WorkError: the release does not load.
    """

    def __init__(self, directory: str, dataset: str, split: str) -> None:
        self._lineage = releases.read_lineage(directory)
        self._manifest: Manifest = read_manifest(dataset)
        check_readable(self._manifest, dataset, self._lineage.tokenizer_sha256)
        self._dataset, self._split = dataset, split
        self._tokenizer = Tokenizer.restore(
            storage.join(directory, releases.TOKENIZER_ASSET),
            bos_id=self._lineage.bos_id,
            eos_id=self._lineage.eos_id,
            pad_id=self._lineage.pad_id,
        )
        self._session = Session(TensorFlowLibrary(), directory)

    def measured(self) -> dict[str, Any]:
        """Returns what `ReleaseFigures` holds, but for its size and the trainer's.

        Raises:
            WorkError: the split is damaged, or has no text, or a score is not finite.
        """
        speeds = self._speeds()
        memory = _most_memory()  # before the split's texts are held as well
        return {
            **speeds,
            "peak_memory": memory,
            "dataset": self._manifest.dataset_hash,
            "split": self._split,
            **self._scored(),
        }

    def _speeds(self) -> dict[str, float | None]:
        prompts = self._prompts()
        one, most = [prompts[:1]] * _TURNS, self._room()
        self._timed(prompts, most, 0)  # memory and threads, as warm-up requests do
        self._timed(prompts[:1], 1, 0)
        first = [self._timed(each, 1, 0)[0] for each in one]
        rates = dict[str, float | None]()
        for count in (1, _TOGETHER):
            turns = [
                self._timed(
                    prompts[turn : turn + 1] if count == 1 else prompts, most, turn
                )
                for turn in range(_TURNS)
            ]
            seconds, made = (sum(each) for each in zip(*turns, strict=True))
            rates[f"tokens_per_second_{count}"] = made / seconds if made else None
        return {**rates, "first_token_seconds": median(first)}

    def _prompts(self) -> list[str]:
        """Returns the beginnings of the first segments of the split's first rows."""
        shards = Shards(self._dataset, self._manifest, self._split)
        count = min(_TOGETHER, shards.num_rows)
        if not count:
            raise WorkError(
                f"wanted rows in the split {self._split} of {self._dataset}, found "
                "none. Prepare a larger corpus or a larger --validation_fraction"
            )
        rows = shards.read(np.arange(count))
        found = []
        for row in range(count):
            ids = row_segments({n: x[row] for n, x in rows.items()})[0].ids
            found.append(self._tokenizer.decode(ids[: self._room()].tolist()))
        return (found * _TOGETHER)[:_TOGETHER]

    def _room(self) -> int:
        """Returns the ids of a prompt, and as many of its continuation."""
        context = self._lineage.context
        return _NEW if context is None else max(min(_PROMPT, context // 2 - 1), 1)

    def _timed(self, prompts: Sequence[str], most: int, seed: int) -> tuple[float, int]:
        """Returns the seconds of a call of `generate`, and the ids that it made.

        Sampled from the whole distribution: greedy, a model that ends at once would do
        so in every turn.
        """
        asked: dict[str, Any] = {
            each.name: [each.warmup] * len(prompts)
            for each in SIGNATURES["generate"].inputs
        }
        asked |= {
            "prompt": list(prompts),
            "max_new_tokens": [most] * len(prompts),
            "temperature": [1.0] * len(prompts),
            "top_k": [0] * len(prompts),
            "seed": [seed * _TOGETHER + row for row in range(len(prompts))],
        }
        fed = SIGNATURES["generate"].fed(asked)
        start = time.perf_counter()
        found = self._session.run("generate", fed)
        seconds = time.perf_counter() - start
        return seconds, int(np.asarray(found["num_tokens"]).sum())

    def _scored(self) -> dict[str, Any]:
        nats, text_bytes, odd = 0.0, 0, 0
        texts = split_texts(
            self._dataset, self._manifest, self._split, self._tokenizer, self._length()
        )
        for batch in _batches(texts):
            found = self._session.run("score", {"text": [each.text for each in batch]})
            # float64: the sum keeps the digits of the last document
            nats -= float(np.sum(found["log_likelihood"], dtype=np.float64))
            text_bytes += int(np.sum(found["num_bytes"], dtype=np.int64))
            tokens = np.array([each.tokens for each in batch])
            cut = np.array([each.odd for each in batch])
            odd += int(np.sum(cut | (np.asarray(found["num_tokens"]) != tokens)))
        if not text_bytes or not math.isfinite(nats):
            what = "text" if math.isfinite(nats) else "finite scores"
            raise WorkError(
                f"wanted {what} of the split {self._split} of {self._dataset}, found "
                f"{nats} nats over {text_bytes:,} bytes. Name another --data or --split"
            )
        return {
            "bits_per_byte": nats / math.log(2) / text_bytes,
            "documents": len(texts),
            "odd_documents": odd,
        }

    def _length(self) -> int:
        """Returns by how many ids the windows advance that `score` reads."""
        data = self._lineage.config.get("data", {})
        length = data.get("sequence_length")
        return int(length or self._manifest.sequence_length)


def _batches(texts: Sequence[SplitText]) -> list[list[SplitText]]:
    """Cuts texts into batches of like length, so many and so many bytes at most."""
    batches: list[list[SplitText]] = [[]]
    held = 0
    for each in sorted(texts, key=lambda one: len(one.text)):
        full = len(batches[-1]) == _TEXTS or held + len(each.text) > _BYTES
        if full and batches[-1]:
            batches.append([])
            held = 0
        batches[-1].append(each)
        held += len(each.text)
    return [batch for batch in batches if batch]


def _most_memory() -> int | None:
    """Returns the most bytes that this process held, None where Linux does not say.

    Not `getrusage`: what it gives a process begins with the high-water mark of the one
    that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) << 10 if found else None


def main(argv: Sequence[str]) -> None:
    """Prints what is measured of the release that `argv` names, as a line of JSON."""
    parser = argparse.ArgumentParser("python -m trainer.batch_export.release_process")
    for name in ("release", "dataset", "split"):
        parser.add_argument(name)
    values = parser.parse_args(argv)
    quiet_libraries()
    measured = ReleaseProcess(values.release, values.dataset, values.split).measured()
    print(strict_json.dumps(measured), flush=True)


def cli() -> NoReturn:
    """Runs it on the process's arguments."""
    run(main)


if __name__ == "__main__":
    cli()
