# SPDX-License-Identifier: Apache-2.0
"""The dataset's report: one HTML file with everything in it, to look at."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.prepare.results import Results
from pipelines.report.charts import Bar, bars, columns, counted, key
from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation import storage
from preprocessing.foundation.commands import count_of
from preprocessing.foundation.page import (
    cards,
    page,
    percent,
    power_of_two,
    section,
    short,
    table,
)

MOST_REASONS = 15
_MOST_FILES = 100


def write_report(
    path: str, manifest: Manifest, results: Results, timings: Mapping[str, Any]
) -> None:
    """Publishes the report of a dataset.

    Args:
        path: the HTML file.
        manifest: the dataset's manifest.
        results: what else the job found out.
        timings: wall seconds, workers, and worker seconds per part.
    """
    sections = [
        _waterfall(results),
        _reasons(results),
        _lengths(results),
        _sources(results),
        _files(results),
        _packing(manifest),
        _clusters(results),
        _languages(results),
        _repairs(results),
        _contamination(results),
        _speed(results, timings),
    ]
    head = _head(manifest, results, timings)
    storage.write_atomically(path, page("Quern dataset", head, sections))


def _head(manifest: Manifest, results: Results, timings: Mapping[str, Any]) -> str:
    counts = manifest.counts
    rows = sum(split.rows for split in manifest.splits.values())
    seconds = max(timings["wall_seconds"], 1e-9)
    facts = [
        (
            "documents kept",
            short(counts.kept),
            f"{percent(counts.kept, counts.read)} of {counts.read:,}",
        ),
        (
            "tokens",
            short(counts.tokens_encoded),
            f"vocabulary of {manifest.vocab_size:,}",
        ),
        ("rows", short(rows), f"of {manifest.sequence_length:,} tokens"),
        (
            "places filled",
            percent(counts.tokens_written, rows * manifest.row_places),
            "of the rows' places",
        ),
        (
            "input",
            short(results.input_bytes, "B"),
            count_of(len(manifest.sources), "file"),
        ),
        (
            "speed",
            short(results.input_bytes / seconds, "B/s"),
            f"{seconds:,.1f} s, {count_of(timings['workers'], 'worker')}",
        ),
    ]
    return (
        f"<h1>Quern dataset</h1><p>Objective <b>{html.escape(manifest.objective)}</b>, "
        f"seed {manifest.seed}. Dataset hash <code>{manifest.dataset_hash}</code></p>"
        + cards(facts)
    )


def _waterfall(results: Results) -> str:
    stages = results.stages
    note = (
        "What is left after each stage, in the order of the work; a bar's end is what "
        "the stage took away. Rejected documents are listed in rejects/ with the value "
        "that was found and the one that was wanted."
    )
    if not stages:
        return section("Documents and bytes", note, "")
    read = stages[0]
    lines, before = [], read
    for stage in stages:
        lost = before.documents - stage.documents
        lost_bytes = before.text_bytes - stage.text_bytes
        minus = f"−{lost:,} · " if lost else ""
        lines.append(
            Bar(
                name=stage.name,
                count=f"{stage.documents:,}",
                words=f"{minus}{percent(stage.documents, read.documents)} · "
                f"{short(stage.text_bytes, 'B')}",
                stretches=_left_and_lost(
                    stage.documents, lost, read.documents, "first"
                ),
                second=_left_and_lost(
                    stage.text_bytes, lost_bytes, read.text_bytes, "second"
                ),
            )
        )
        before = stage
    colours = [
        ("first", "documents"),
        ("second", "bytes of text"),
        ("lost", "taken away (−)"),
    ]
    return section("Documents and bytes", note, key(colours) + bars(lines))


def _left_and_lost(
    left: int, lost: int, whole: int, colour: str
) -> list[tuple[float, str]]:
    # Rules may add bytes (a name put in place of a shorter address): no bar for that.
    whole = max(whole, 1)
    return [(min(left / whole, 1.0), colour), (max(lost, 0) / whole, "lost")]


def _reasons(results: Results) -> str:
    ranked = _descending(results.checks)
    total = results.counts.read - results.counts.kept
    note = f"Each document counts for the first check that it failed: {total:,} in all."
    if not ranked:
        return section("Why documents were rejected", "None was rejected.", "")
    shown = counted(ranked, most=MOST_REASONS)
    lines = [
        Bar(
            bar.name,
            bar.count,
            bar.words,
            bar.stretches,
            below=_examples(results.examples.get(bar.name, ())),
        )
        for bar in shown
    ]
    return section("Why documents were rejected", note, bars(lines))


def _examples(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    made = "".join(_example(line) for line in lines)
    summary = count_of(len(lines), "example")
    return f"<details><summary>{summary}</summary>{made}</details>"


def _example(line: Mapping[str, Any]) -> str:
    """Returns a rejected document: what was measured, where it is, how it begins."""
    measured = html.escape(str(line["detail"]))
    if "check" in line:
        found, wanted = _value(line["value"]), _value(line["threshold"])
        measured = (
            f"{html.escape(str(line['check']))}: found <b>{html.escape(found)}</b>, "
            f"threshold {html.escape(wanted)}"
        )
    where = f"{html.escape(str(line['path']))} at {line['offset']:,}"
    excerpt = line.get("excerpt", "")
    quote = f"<blockquote>{html.escape(str(excerpt))}</blockquote>" if excerpt else ""
    return (
        f"<figure><figcaption>{measured} · <code>{where}</code></figcaption>"
        f"{quote}</figure>"
    )


def _value(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _lengths(results: Results) -> str:
    before = _histogram("Before, by bytes of text", results.lengths_before, "B")
    after = _histogram("After, by tokens", results.length_histogram, "")
    note = (
        "Each column holds documents of up to twice the length of the one before; a "
        "tick is its shortest. Beginnings and ends of documents count as tokens."
    )
    body = f'<div class="pair">{before}{after}</div>'
    return section("Lengths of documents", note, body)


def _histogram(title: str, counts: Sequence[int], unit: str) -> str:
    first = next((place for place, count in enumerate(counts) if count), 0)
    shown = counts[first:]
    ticks = [power_of_two(place, unit) for place in range(first, len(counts))]
    if not any(shown):
        return f'<div><h3>{title}</h3><p class="note">No documents.</p></div>'
    peak = max(range(len(shown)), key=shown.__getitem__)
    label = (
        f"{title}: {count_of(sum(shown), 'document')}, most of them "
        f"({shown[peak]:,}) from {ticks[peak]} to twice that"
    )
    rows = [[tick, count] for tick, count in zip(ticks, shown, strict=True)]
    numbers = table(["from", "documents"], rows)
    return (
        f"<div><h3>{title}</h3>{columns(shown, ticks, label)}"
        f"<details><summary>numbers</summary>{numbers}</details></div>"
    )


def _sources(results: Results) -> str:
    ranked = _descending(results.tokens_by_source)
    note = "Tokens of the documents kept, by named source, file or directory."
    return section("Tokens by source", note, bars(counted(ranked)))


def _files(results: Results) -> str:
    """Returns the files of which most was not read."""
    totals = results.inputs.totals
    note = (
        f"{totals.read:,} of {totals.size:,} bytes of "
        f"{count_of(totals.files, 'file')} were read, {totals.not_read:,} were not: "
        f"{count_of(totals.not_to_end, 'file')} did not come to the end. "
        "Bytes are those of the files as they are stored; inputs.parquet lists every "
        "file."
    )
    title = "What was not read"
    worst = results.inputs.worst(_MOST_FILES)
    if not worst:
        return section(title, note, "")
    head = ["file", "bytes", "not read", "share", "documents", "why"]
    rows = [
        [
            path,
            found.size,
            found.unread,
            percent(found.unread, found.size),
            found.documents,
            found.reason,
        ]
        for path, found in worst
    ]
    return section(title, note, table(head, rows))


def _packing(manifest: Manifest) -> str:
    counts = manifest.counts
    note = (
        "How full the rows are; the rest is padding, which costs time and teaches "
        f"nothing. {counts.overlap_tokens:,} tokens are written twice, where a long "
        f"document was cut; {counts.dropped_tokens:,} were dropped."
    )
    lines = []
    for name, split in manifest.splits.items():
        places = split.rows * manifest.row_places
        lines.append(
            Bar(
                name=name,
                count=percent(split.tokens, places),
                words=f"{count_of(split.tokens, 'token')} in "
                f"{count_of(split.rows, 'row')}, "
                f"{count_of(len(split.shards), 'shard')}",
                stretches=[(split.tokens / max(places, 1), "first")],
            )
        )
    return section("Packing", note, bars(lines))


def _clusters(results: Results) -> str:
    sizes = [
        (_range(place), count)
        for place, count in enumerate(results.cluster_sizes)
        if count
    ]
    if not sizes:
        return ""
    note = "Clusters of near duplicates by how many documents they join; one is kept."
    return section("Near duplicates", note, bars(counted(sizes)))


def _range(place: int) -> str:
    """Returns the counts that a bucket of powers of two holds: 1, 2 – 3, 4 – 7."""
    low, high = 1 << place, (2 << place) - 1
    return f"{low:,} – {high:,} documents" if place else "1 document"


def _languages(results: Results) -> str:
    if not results.languages:
        return ""
    total = sum(documents for documents, _ in results.languages.values())
    total_bytes = sum(size for _, size in results.languages.values())
    ranked = sorted(results.languages.items(), key=lambda item: (-item[1][0], item[0]))
    rest = ranked[MOST_REASONS:]
    shown: list[tuple[str, Sequence[int]]] = ranked[:MOST_REASONS]
    if rest:
        sums = [sum(pair[place] for _, pair in rest) for place in (0, 1)]
        shown.append((count_of(len(rest), "other"), sums))
    lines = [
        Bar(
            name=name,
            count=percent(documents, total),
            words=f"{count_of(documents, 'document')} · "
            f"{percent(size, total_bytes)} of bytes",
            stretches=[(documents / max(total, 1), "first")],
            second=[(size / max(total_bytes, 1), "second")],
        )
        for name, (documents, size) in shown
    ]
    note = "What language identification took the documents for, before it judged them."
    colours = key([("first", "documents"), ("second", "bytes of text")])
    return section("Languages", note, colours + bars(lines))


def _repairs(results: Results) -> str:
    """Returns what was taken out of documents that stayed; nothing where none was."""
    seen, dropped = results.lines
    rows: list[list[object]] = [
        [f"{kind} replaced", count] for kind, count in sorted(results.replaced.items())
    ]
    if seen:
        rows.append(["repeated lines dropped", f"{dropped:,} of {seen:,}"])
    if not rows:
        return ""
    note = "What was taken out of documents that were kept."
    return section("Repairs inside documents", note, table(["what", "pieces"], rows))


def _contamination(results: Results) -> str:
    if not results.contamination:
        return ""
    note = (
        "Runs of words that evaluation files share with the corpus. Documents that "
        "held one were rejected; texts too short to hold a run cannot be found."
    )
    head = ["evaluation file", "texts", "touched", "too short", "runs", "documents"]
    rows = [
        [task.name, task.texts, task.touched, task.short, task.ngrams, task.documents]
        for task in results.contamination
    ]
    return section("Contamination", note, table(head, rows))


def _speed(results: Results, timings: Mapping[str, Any]) -> str:
    ranked = sorted(results.seconds.items(), key=lambda item: (-item[1], item[0]))
    total = sum(results.seconds.values())
    lines = [
        Bar(
            name=part,
            count=f"{seconds:,.1f} s",
            words=f"{short(results.input_bytes / max(seconds, 1e-9), 'B/s')} "
            f"per core · {percent(seconds, total)}",
            stretches=[(seconds / max(ranked[0][1], 1e-9), "first")],
        )
        for part, seconds in ranked
    ]
    note = (
        "Seconds of all workers in each part, and the input's bytes for each of them. "
        f"{count_of(timings['workers'], 'worker')}; the largest used "
        f"{short(results.peak_memory, 'B')} of memory."
    )
    return section("Speed", note, bars(lines))


def _descending(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
