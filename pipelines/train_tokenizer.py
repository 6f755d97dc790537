# SPDX-License-Identifier: Apache-2.0
"""`quern-tokenizer`: trains a tokenizer on a sample of the input."""

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from pipelines.beam.progress import Progress, amount, watch
from pipelines.job.input_files import (
    MOST_NAMED,
    InputCounts,
    InputFiles,
    check_unread,
)
from pipelines.job.own_files import without_own
from pipelines.prepare.input_flags import (
    add_cleaning_flags,
    add_input_flags,
    cleaning_config,
    reader_config,
)
from preprocessing.claims.claims import CLAIM_NAME, Claim, claimed
from preprocessing.foundation import storage
from preprocessing.foundation.commands import (
    CommandParser,
    UsageError,
    count_of,
    run,
    stopping_on_request,
)
from preprocessing.foundation.fingerprints import keys_of_offsets, order_hash
from preprocessing.reading.extents import Extent, ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent
from preprocessing.reading.text_sample import TextSample
from preprocessing.rules.normalize import CleaningConfig, clean
from preprocessing.tokenizer import tokenizer
from preprocessing.tokenizer.special_tokens import OBJECTIVE_TOKENS

# Of a large input, extents with this many times the sample's bytes are read: enough for
# a document to count wherever it lies, without reading a terabyte for 100 MB.
READ_FACTOR = 4
_MOST_SKIPPED = 0.05  # as quern-prepare's --max_reject_fraction


def main(argv: Sequence[str]) -> None:
    """Samples the input, trains and writes `tokenizer.json`."""
    values = _parser().parse_args(argv)
    reader, cleaning = reader_config(values), cleaning_config(values)
    _check(values)
    directory, _, name = values.output.rpartition("/")
    place = directory or ("/" if values.output.startswith("/") else ".")
    with (
        stopping_on_request(),
        claimed(place, f"--output {values.output}", f".{name}{CLAIM_NAME}") as claim,
    ):
        _check(values)  # again: the one that was waited for may have made it
        _make(values, reader, cleaning, claim)


def _make(
    values: argparse.Namespace,
    reader: ReaderConfig,
    cleaning: CleaningConfig | None,
    claim: Claim,
) -> None:
    """Samples, trains and writes."""
    start = time.monotonic()
    extents = plan_extents(without_own(storage.expand(values.input)), reader)
    chosen = _choose(extents, values.sample_bytes, values.seed)
    sample = _read(chosen, reader, cleaning, values)
    texts = sample.texts()
    size = amount(sample.text_bytes, "B")
    print(f"train: on {count_of(len(texts), 'document')}, {size}")
    data = tokenizer.train(texts, values.vocab_size, _special_tokens(values))
    claim.check()
    storage.write_atomically(values.output, data, durable=True)
    _report(values, time.monotonic() - start)


def cli() -> NoReturn:
    """The console script."""
    run(main)


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-tokenizer",
        "Trains a byte-level BPE tokenizer on a sample of the input's documents. The "
        "same input and flags give the same file.",
    )
    add_input_flags(parser)
    add_cleaning_flags(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the tokenizer.json to write; must not exist",
    )
    parser.add_argument(
        "--vocab_size",
        type=int,
        required=True,
        metavar="N",
        help="entries, the 256 bytes and the special tokens included; up to 65536 a "
        "dataset takes 2 bytes a token",
    )
    parser.add_argument(
        "--objective",
        nargs="+",
        default=[],
        choices=list(OBJECTIVE_TOKENS),
        metavar="NAME",
        help="adds the special tokens that an objective of quern-prepare marks texts "
        f"with, beside the usual 3: {', '.join(OBJECTIVE_TOKENS)}",
    )
    parser.add_argument(
        "--sample_bytes",
        type=int,
        default=100_000_000,
        metavar="N",
        help="text to train on, chosen by hash of the documents' keys",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the hash")
    return parser


def _special_tokens(values: argparse.Namespace) -> list[str]:
    """Returns the special tokens that the objectives ask for, in a fixed order."""
    return [
        token
        for name, tokens in OBJECTIVE_TOKENS.items()
        if name in values.objective
        for token in tokens
    ]


def _check(values: argparse.Namespace) -> None:
    """Refuses before any work what can be known before it."""
    if storage.exists(values.output):
        raise UsageError(
            f"wanted to write {values.output}, found that it exists. "
            "Remove it or name another --output"
        )
    smallest = tokenizer.SMALLEST_VOCABULARY + len(_special_tokens(values))
    if values.vocab_size < smallest:
        raise UsageError(
            f"wanted --vocab_size of {smallest} or more, found "
            f"{values.vocab_size}. 8192 to 65536 are usual"
        )
    if values.sample_bytes < 1:
        raise UsageError(
            f"wanted --sample_bytes of 1 or more, found {values.sample_bytes}. "
            "Leave it out for 100 MB"
        )
    _check_directory(values.output)


def _check_directory(output: str) -> None:
    """Makes the output's directory, or says now rather than later that it cannot."""
    directory = output.rpartition("/")[0]
    try:
        if directory:
            storage.make_directory(directory)
    except OSError as error:
        raise UsageError(
            f"wanted to write {output}, found that {directory} cannot be made "
            f"({error.strerror}). Name another --output"
        ) from error
    if not storage.is_cloud(output) and not os.access(directory or ".", os.W_OK):
        raise UsageError(
            f"wanted to write {output}, found {directory or '.'} not writable. "
            "Name another --output"
        )


def _choose(extents: list[Extent], sample_bytes: int, seed: int) -> list[Extent]:
    """Returns the extents to read: all, or of a large input some, by hash."""
    keys = [keys_of_offsets(extent.relative, [extent.start]) for extent in extents]
    order = np.argsort(order_hash(seed, np.concatenate(keys)), kind="stable")
    sizes = np.array([extent.size for extent in extents], np.int64)[order]
    wanted = order[np.cumsum(sizes) - sizes < READ_FACTOR * sample_bytes]
    return [extents[number] for number in np.sort(wanted)]


def _read(
    extents: list[Extent],
    reader: ReaderConfig,
    cleaning: CleaningConfig | None,
    values: argparse.Namespace,
) -> TextSample:
    """Reads extents, cleans as `quern-prepare` does, and keeps the sample.

    Raises:
        UsageError: they hold no text.
        WorkError: more of them cannot be read than the flags allow.
    """
    sample, rejected = TextSample(values.sample_bytes), Counter[str]()
    sizes = Counter[str]()
    for extent in extents:
        sizes[extent.relative] += extent.size
    numbers = {path: number for number, path in enumerate(sizes)}
    counts, done, total = InputCounts(), 0, sizes.total()
    with watch(lambda: Progress("read", done, total)):
        for extent in extents:
            for batch in read_extent(extent, reader):
                rejected.update(reject.reason for reject in batch.rejects)
                counts.add(numbers[extent.relative], batch)
                texts = clean(batch.texts, cleaning)
                sample.add(texts, order_hash(values.seed, batch.keys))
                done += batch.bytes_read
    files = InputFiles.of([*sizes], [*sizes.values()], counts)
    check_unread(files, values.max_unread_fraction, _MOST_SKIPPED)
    reasons = ", ".join(f"{count:,} {name}" for name, count in sorted(rejected.items()))
    if not sample.text_bytes:
        raise UsageError(
            "wanted text to train on, found none in the input "
            f"(rejected: {reasons or 'nothing'}). Check --input, --format, --text_field"
        )
    if rejected:
        print("\n".join([f"read: left out {reasons}", *files.lines(MOST_NAMED)]))
    return sample


def _report(values: argparse.Namespace, seconds: float) -> None:
    size = tokenizer.Tokenizer.load(values.output).vocab_size
    print(f"wrote {values.output}: {size:,} entries, in {seconds:.1f} s")
    if size < values.vocab_size:
        print(
            f"note: wanted {values.vocab_size:,} entries, the sample has words for "
            f"{size:,}; the dataset will use that number"
        )


if __name__ == "__main__":
    cli()
