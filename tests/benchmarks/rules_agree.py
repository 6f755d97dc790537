# SPDX-License-Identifier: Apache-2.0
"""Whether the rules decide as datatrove 0.10 does, on the same documents.

    python -m tests.benchmarks.rules_agree --peer_python PYTHON --corpus GLOB.jsonl

Documents are JSON objects a line, with `id`, `text` and `language`. Two comparisons: by
datatrove's own words and sentences, where every decision has to agree, and by Quern's,
where 98 % have to. Lines and paragraphs need no list: they are defined exactly, and
tests/preprocessing/rules/test_lines.py holds them to it.
"""

import argparse
import glob
import hashlib
import heapq
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.rules import (
    c4,
    fineweb,
    gopher_quality,
    gopher_repetition,
    lines,
    words,
)
from preprocessing.rules.measures.views import Spans, View, view
from preprocessing.rules.measures.words import Words
from preprocessing.rules.verdicts import Failure
from tests.benchmarks.peers import peer_script

PEER = peer_script("rules_agree_datatrove.py")
LEAST_AGREEMENT = 0.98
C4_ALL_LINES = replace(c4.DATATROVE, terminal_punctuation=0)
Failures = Mapping[str, list[Failure]]


@dataclass(frozen=True)
class Document:
    """One document of the sample."""

    name: str
    text: str
    language: str


def main() -> int:
    """Runs both sides and prints the tables; 1 if they agree too seldom."""
    flags = _flags()
    documents = sample(flags.corpus, flags.documents)
    languages = Counter(document.language for document in documents)
    others = 1 - languages["en"] / len(documents)
    print(f"{len(documents)} documents, {others:.0%} not English: ", end="")
    print(", ".join(f"{name} {count}" for name, count in languages.most_common()))
    with tempfile.TemporaryDirectory(dir=flags.work) as directory:
        decisions, arrays = run_peer(flags.peer_python, documents, Path(directory))
    texts = pa.array([document.text for document in documents], pa.large_string())
    ours = {
        "datatrove's lists": by_their_lists(texts, documents, arrays),
        "Quern's words": by_our_words(texts),
    }
    good = True
    for lists, failures in ours.items():
        wanted = 1.0 if lists == "datatrove's lists" else LEAST_AGREEMENT
        print(f"\nBy {lists}, {wanted:.0%} wanted")
        good &= compare(documents, failures, decisions, wanted, flags.show)
    return 0 if good and others >= 1 / 3 else 1


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="a glob of JSONL files")
    parser.add_argument("--documents", type=int, default=10_000, help="in the sample")
    parser.add_argument(
        "--peer_python",
        required=True,
        metavar="PYTHON",
        help="an interpreter that has datatrove, spaCy and nltk",
    )
    parser.add_argument("--show", type=int, default=20, help="disagreements of a rule")
    parser.add_argument("--work", help="where the peer's files may lie for a while")
    return parser.parse_args()


def sample(pattern: str, count: int) -> list[Document]:
    """Returns `count` documents, those whose ids have the smallest hashes."""
    ranked = heapq.nsmallest(count, _ranked(pattern), key=lambda pair: pair[0])
    return [document for _, document in ranked]


def _ranked(pattern: str) -> Iterator[tuple[bytes, Document]]:
    for path in sorted(glob.glob(pattern)):
        with open(path, encoding="utf-8") as source:
            for line in source:
                row = json.loads(line)
                name = str(row["id"])
                rank = hashlib.blake2b(name.encode(), digest_size=8).digest()
                yield rank, Document(name, row["text"], row.get("language", "?"))


def run_peer(
    python: str, documents: Sequence[Document], work: Path
) -> tuple[list[dict[str, str]], dict[str, np.ndarray]]:
    """Returns datatrove's reason for each rule and document, and its lists."""
    source = work / "documents.jsonl"
    with open(source, "w", encoding="utf-8") as lines_of:
        for document in documents:
            lines_of.write(json.dumps({"text": document.text}) + "\n")
    output = work / "peer"
    subprocess.run([python, str(PEER), str(source), str(output)], check=True)
    rows = Path(f"{output}.jsonl").read_text(encoding="utf-8").splitlines()
    with np.load(f"{output}.npz") as arrays:
        return [json.loads(row) for row in rows], dict(arrays)


def by_their_lists(
    texts: pa.LargeStringArray,
    documents: Sequence[Document],
    arrays: Mapping[str, np.ndarray],
) -> Failures:
    """Returns our failures where words and sentences are those datatrove found."""
    seen = view(texts)
    found = words.describe(seen, _byte_spans(seen, documents, arrays))
    return {
        **_failures(seen, found),
        **{
            name: c4.judge(texts, rules, arrays[f"sentences {name}"]).failures
            for name, rules in _c4_rules().items()
        },
    }


def by_our_words(texts: pa.LargeStringArray) -> Failures:
    """Returns the failures as a job finds them."""
    return {
        **_failures(*words.of_batch(texts)),
        **{
            name: c4.judge(texts, rules).failures for name, rules in _c4_rules().items()
        },
    }


def _c4_rules() -> dict[str, c4.C4Thresholds]:
    return {
        "c4@datatrove": c4.DATATROVE,
        "c4@datatrove:terminal_punctuation=0": C4_ALL_LINES,
    }


def _failures(seen: View, found: Words) -> dict[str, list[Failure]]:
    quality, repetition = gopher_quality, gopher_repetition
    cut = lines.feed_lines(seen), lines.paragraphs(seen)
    counted = quality.measure(seen, found, lines.any_lines(seen), quality.GOPHER)
    counts, filled = found.spans.counts, lines.filled_lines(seen)
    web = fineweb.measure(seen, counts, filled, fineweb.FINEWEB)
    return {
        "gopher_quality@1": quality.failures(counted, quality.GOPHER),
        "gopher_repetition@1": repetition.failures(
            repetition.measure(seen, found, *cut), repetition.GOPHER
        ),
        "fineweb@1": fineweb.failures(web, fineweb.FINEWEB),
    }


def _byte_spans(
    seen: View, documents: Sequence[Document], arrays: Mapping[str, np.ndarray]
) -> Spans:
    """Returns datatrove's words, which it gives in characters, in the view's bytes."""
    first = arrays["first"].astype(np.int64)
    spans = arrays["spans"].copy()
    for place, document in enumerate(documents):
        data = np.frombuffer(document.text.encode(), np.uint8)
        starts = np.append(np.flatnonzero(data & 0xC0 != 0x80), len(data))
        mine = slice(first[place], first[place + 1])
        spans[mine] = starts[spans[mine]] + seen.starts[place]
    return Spans(spans[:, 0].copy(), spans[:, 1].copy(), first)


def compare(
    documents: Sequence[Document],
    ours: Failures,
    theirs: Sequence[Mapping[str, str]],
    wanted: float,
    show: int,
) -> bool:
    """Prints the agreement for each rule and the disagreements; False if too many."""
    good = True
    print(f"{'rule':36} {'rejected':>8} {'by peer':>8} {'agree':>8} {'same check':>10}")
    different: list[str] = []
    for rule, failures in ours.items():
        mine: dict[int, Any] = {failure.place: failure for failure in failures}
        reasons = [decisions[rule] for decisions in theirs]
        apart = [i for i, r in enumerate(reasons) if (i in mine) != (r != "")]
        agreement = 1 - len(apart) / len(documents)
        pairs = Counter((mine[i].check, reasons[i]) for i in mine if reasons[i])
        same = _most_of_each(pairs) / max(1, sum(pairs.values()))
        rejected = sum(reason != "" for reason in reasons)
        print(
            f"{rule:36} {len(mine):8} {rejected:8} {agreement:8.2%} {same:10.2%}",
        )
        good &= agreement >= wanted
        for place in apart[:show]:
            document, failure = documents[place], mine.get(place)
            found = f"{failure.check} {failure.value}" if failure else "kept"
            answer = reasons[place] or "kept"
            named = f"{document.name} {document.language}"
            different.append(f"{rule} {named}: ours {found}, theirs {answer}")
    print("\n".join(different) or "no disagreements")
    return good


def _most_of_each(pairs: Mapping[tuple[str, str], int]) -> int:
    """Returns how many have the check that mostly goes with the peer's reason."""
    most: Counter[str] = Counter()
    for (_, reason), count in pairs.items():
        most[reason] = max(most[reason], count)
    return sum(most.values())


if __name__ == "__main__":
    sys.exit(main())
