# SPDX-License-Identifier: Apache-2.0
"""The peer of the agreement of rules; runs where datatrove, spaCy and nltk are.

python rules_agree_datatrove.py DOCUMENTS_JSONL OUTPUT

Writes OUTPUT.npz (datatrove's words of each document, as offsets in its characters,
and its sentences in the lines that C4 keeps) and OUTPUT.jsonl (its decisions: {rule:
reason, "" where kept}). A rule that divides by zero says "crash".
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
)
from datatrove.utils.text import split_into_words

RULES = {
    "gopher_quality@1": GopherQualityFilter(),
    "gopher_repetition@1": GopherRepetitionFilter(),
    "fineweb@1": FineWebQualityFilter(),
    "c4@datatrove": C4QualityFilter(),
    "c4@datatrove:terminal_punctuation=0": C4QualityFilter(
        filter_no_terminal_punct=False
    ),
}


class CountedSentences:
    """Stands in for datatrove's splitter, and adds up what it finds."""

    def __init__(self) -> None:
        self.split = c4_filters.split_into_sentences
        self.count = 0

    def __call__(self, text: str, language: str) -> list[str]:
        sentences = self.split(text, language)
        self.count += len(sentences)
        return sentences


def main() -> None:
    """Reads documents, one JSON object a line with `text`, and judges each."""
    source, output = sys.argv[1:]
    counted = CountedSentences()
    c4_filters.split_into_sentences = counted
    spans: list[np.ndarray] = []
    sentences: dict[str, list[int]] = {rule: [] for rule in RULES}
    with (
        open(source, encoding="utf-8") as lines,
        open(f"{output}.jsonl", "w", encoding="utf-8") as decisions,
    ):
        for line in lines:
            text = json.loads(line)["text"]
            spans.append(np.array(list(word_spans(text)), np.int64).reshape(-1, 2))
            reasons = {}
            for rule in RULES:
                counted.count = 0
                reasons[rule] = reason(rule, text)
                sentences[rule].append(counted.count)
            decisions.write(json.dumps(reasons) + "\n")
    counts = {f"sentences {rule}": np.array(sentences[rule]) for rule in sentences}
    first = np.cumsum([0, *(len(part) for part in spans)])
    np.savez(Path(f"{output}.npz"), spans=np.concatenate(spans), first=first, **counts)


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yields where each of datatrove's words lies in the text."""
    end = 0
    for word in split_into_words(text):
        start = text.index(word, end)
        end = start + len(word)
        yield start, end


def reason(rule: str, text: str) -> str:
    """Returns why datatrove rejects a text, "" if it keeps it."""
    try:
        kept = RULES[rule].filter(Document(text=text, id=""))
    except ZeroDivisionError:
        return "crash"
    return "" if kept is True else kept[1]


if __name__ == "__main__":
    main()
