# SPDX-License-Identifier: Apache-2.0
"""Whether a change made anything slower: this checkout beside an earlier one, in turns.

    python -m tests.benchmarks.before_after --before CHECKOUT [--web_corpus DIRECTORY]

Each part of what the benchmarks measure is done by the code of both checkouts, on the
same inputs, by the rule for speed bars (`turns.py`), but that no turns are added to
decide between equals: quotients are after / before. The earlier checkout works by its
own copy of this file, and needs the same installed packages. Curation needs the corpus
of `web_corpus.py`; it is left out where none is named.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from preprocessing.foundation.commands import CommandParser
from tests.benchmarks.peers import Peer, start_peer
from tests.benchmarks.turns import LEAST_TURNS, Comparison, spread

PARTS = ("rows", "train_step", "generate", "prepare", "curate")
CORPUS_BYTES = 100 * 10**6
STEPS, SHARDS = 5, 1


def main() -> None:
    """Starts both sides of each part, lets them take turns, and prints a line each."""
    if len(sys.argv) > 1 and sys.argv[1] == "worker":
        work_for(sys.argv[2], Path(sys.argv[3]))
        return
    parser = CommandParser("before_after.py", "Compare this checkout with another.")
    parser.add_argument("--before", required=True, help="the earlier checkout")
    parser.add_argument("--web_corpus", help="of tests.benchmarks.web_corpus")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="of each case")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder)
        if flags.web_corpus:
            (inputs / "web").symlink_to(Path(flags.web_corpus).resolve())
        for part in flags.parts:
            if part != "curate" or flags.web_corpus:
                compare(part, Path(flags.before), inputs, flags.turns)


def compare(part: str, before: Path, inputs: Path, turns: int) -> None:
    """Prints how both checkouts compare in a part, case by case.

    Of processes that live at the same time the one started first is up to a third
    slower, whichever code it runs, and four of one checkout do not come to 1 by after,
    before, before, after alone (0.94). So four are started in this order and then four
    in the other, and a turn's speed is the geometric mean of a side's four.
    """
    after, before = Path(__file__).resolve().parents[2], before.resolve()
    first = speeds(part, (after, before, before, after), inputs, turns)
    second = speeds(part, (before, after, after, before), inputs, turns)
    for case, outer in first.items():
        inner = second[case]
        ours = _mean(outer[:, [0, 3]], inner[:, [1, 2]])
        theirs = _mean(outer[:, [1, 2]], inner[:, [0, 3]])
        print(
            f"{part + ', ' + case:32}{spread(ours, '.4g'):>28}"
            f"{spread(theirs, '.4g'):>28}   {Comparison(ours, theirs)}",
            flush=True,
        )


def speeds(
    part: str, checkouts: Sequence[Path], inputs: Path, turns: int
) -> dict[str, np.ndarray]:
    """Returns the speed of each case of a part in each of some processes.

    Args:
        part: whose work the processes do.
        checkouts: whose code each process runs, in the order they are started.
        inputs: the folder of what they read.
        turns: how often each is asked, one after another.

    Returns:
        float64 [turns, processes] by the case's name.
    """
    sides = [start(part, checkout, inputs) for checkout in checkouts]
    seen = {
        case: np.array([[side.ask(case) for side in sides] for _ in range(turns)])
        for case in sides[0].facts["cases"]
    }
    for side in sides:
        side.close()
    return seen


def _mean(*columns: np.ndarray) -> list[float]:
    """Returns each turn's geometric mean."""
    means: list[float] = np.exp(np.log(np.hstack(columns)).mean(1)).tolist()
    return means


def start(part: str, checkout: Path, inputs: Path) -> Peer:
    """Starts a process that does the work of a part with the code of a checkout."""
    # From inside it, for the commands that the work starts look there first.
    command = ["env", f"--chdir={checkout}", f"PYTHONPATH={checkout}"]
    command += ["TF_CPP_MIN_LOG_LEVEL=3"]
    command += [sys.executable, "-m", "tests.benchmarks.before_after", "worker"]
    command += [part, str(inputs)]
    peer = start_peer(f"{part} of {checkout}", command)
    if peer is None:
        sys.exit(1)
    return peer


def work_for(part: str, inputs: Path) -> None:
    """Does the work of a part whenever it is asked to; answers with its speed."""
    answers, out = sys.stdout, os.dup(1)
    with tempfile.TemporaryDirectory() as work:
        os.dup2(2, 1)  # what the work itself prints is no answer
        answers = os.fdopen(out, "w")
        cases = dict(WORK[part](Path(work), inputs))
        for measured in cases.values():
            measured()  # warm
        print(json.dumps({"cases": list(cases)}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(cases[json.loads(line)]()), file=answers, flush=True)


Cases = Iterator[tuple[str, Callable[[], float]]]


def rows(work: Path, _: Path) -> Cases:
    """Yields the ways of reading rows; million tokens a second of processor time."""
    import numpy as np

    from preprocessing.contracts.records import RecordFormat
    from preprocessing.contracts.shards import Shards
    from tests.benchmarks import rows as benchmark
    from trainer.data.input_pipeline import SubRows

    layout = RecordFormat(benchmark.SEQUENCE_LENGTH, 50_257)
    written = benchmark.write_rows(str(work), layout, SHARDS)
    manifest = benchmark.manifest_of(layout, written)
    shards = Shards(str(work), manifest, "train")
    sub_rows = SubRows(str(work), manifest, "train", benchmark.SEQUENCE_LENGTH)
    order = np.random.default_rng(1).permutation(shards.num_rows)
    ways = {
        "shards, shuffled": partial(benchmark.read_shards, shards, order),
        "stream, second epoch": partial(benchmark.read_stream, sub_rows, 1),
    }
    for name, read in ways.items():
        yield name, partial(per_cpu_second, read)


def per_cpu_second(read: Callable[[], int]) -> float:
    """Returns million tokens for each second of processor time."""
    began = time.process_time()
    tokens = read()
    return tokens / (time.process_time() - began) / 1e6


def train_step(_: Path, __: Path) -> Cases:
    """Yields the precisions; tokens a second."""
    from tests.benchmarks import train_step as benchmark
    from trainer.compute.lanes import count_cores, share_threads
    from trainer.distribution.strategies import make_strategy

    share_threads(count_cores(), count_cores())
    features = benchmark.random_rows(STEPS)

    def speed(train: Callable[..., object]) -> float:
        began = time.perf_counter()
        train(features, STEPS).loss_sum.numpy()
        return STEPS * benchmark.TOKENS / (time.perf_counter() - began)

    for precision in ("float32", "bfloat16"):
        loop, _flops = benchmark.build_ours(precision, make_strategy("one_device"))
        yield precision, partial(speed, loop)


def generate(work: Path, _: Path) -> Cases:
    """Yields the cases of prompts; tokens a second."""
    from tests.benchmarks import generate as benchmark
    from trainer.compute.lanes import count_cores

    release = benchmark.write_model(work, "float32")
    model = benchmark.LoadedRelease(str(release), count_cores())

    def speed(case: "benchmark.Case") -> float:
        return benchmark.answer_all(case, model).tokens_per_second

    for name in ("equal 8", "32 slots", "mixed"):
        yield name, partial(speed, benchmark.make_case(name, model.tokenizer))


def prepare(work: Path, inputs: Path) -> Cases:
    """Yields the whole job; MB a second a core."""
    from tests.benchmarks import prepare as benchmark

    corpus = benchmark.build_corpus(inputs / "corpus", CORPUS_BYTES)
    tokenizer = benchmark._train(inputs, corpus)
    cores = os.cpu_count() or 1
    yield "JSONL", partial(benchmark.run_quern, work, corpus, tokenizer, cores)


def curate(work: Path, inputs: Path) -> Cases:
    """Yields the whole job; documents a second a core."""
    from argparse import Namespace

    from tests.benchmarks import curate as benchmark

    flags = Namespace(cores=os.cpu_count() or 1, every_language=False)
    tokenizer = benchmark.train(inputs, inputs / "web")
    run = partial(benchmark.run_quern, inputs / "web", work, tokenizer, flags)
    yield "web_en, near", benchmark.Side(run).turn


WORK: dict[str, Callable[[Path, Path], Cases]] = {
    "rows": rows,
    "train_step": train_step,
    "generate": generate,
    "prepare": prepare,
    "curate": curate,
}

if __name__ == "__main__":
    main()
