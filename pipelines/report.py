# SPDX-License-Identifier: Apache-2.0
"""The dataset's report: one HTML file with everything in it, drawn as inline SVG."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.results import Results
from preprocessing import storage
from preprocessing.manifest import Manifest

MOST_SOURCES = 20
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;
color:#1c1c1c;background:#fff} h1{font-size:1.5rem} h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse} td,th{padding:.15rem .9rem .15rem 0;text-align:left;
vertical-align:top} td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
th{font-weight:600;border-bottom:1px solid #999} code{font-size:.85em;
overflow-wrap:anywhere} svg text{font:12px system-ui,sans-serif;fill:#1c1c1c}
.note{color:#555}
"""
Row = Sequence[str]


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
        _totals(manifest, results, timings),
        _waterfall(manifest),
        _examples(results),
        _lengths(results),
        _packing(manifest),
        _sources(results),
        _speed(results, timings),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Quern dataset</title><style>{_STYLE}</style></head><body>"
        f"<h1>Quern dataset</h1>{''.join(sections)}</body></html>\n"
    )
    storage.write_atomically(path, page.encode())


def _totals(manifest: Manifest, results: Results, timings: Mapping[str, Any]) -> str:
    counts = manifest.counts
    rows = [
        ["input files", f"{len(manifest.sources):,}"],
        ["input bytes", f"{results.input_bytes:,}"],
        ["documents kept", f"{counts.kept:,} of {counts.read:,}"],
        ["tokens", f"{counts.tokens_encoded:,}"],
        ["sequence length", f"{manifest.sequence_length:,}"],
        ["vocabulary", f"{manifest.vocab_size:,}"],
        ["dataset hash", manifest.dataset_hash],
    ]
    for name, split in manifest.splits.items():
        text = f"{split.rows:,} rows in {len(split.shards):,} shards"
        rows.append([f"split {name}", text])
    seconds = max(timings["wall_seconds"], 1e-9)
    speed = results.input_bytes / seconds / 1e6
    rows.append(["wall time", f"{seconds:.1f} s ({speed:.1f} MB/s)"])
    return _section("Totals", _table(["", ""], rows))


def _waterfall(manifest: Manifest) -> str:
    counts = manifest.counts
    bars = [("read", counts.read), *_descending(counts.rejected), ("kept", counts.kept)]
    note = "<p class=note>Documents: read = kept + rejected, by reason.</p>"
    return _section("Documents", note + _bars(bars, counts.read))


def _examples(results: Results) -> str:
    rows = [
        [reason, str(line["path"]), f"{line['offset']:,}", str(line["detail"])]
        for reason, lines in sorted(results.examples.items())
        for line in lines
    ]
    if not rows:
        return ""
    note = "<p class=note>All of them are in <code>rejects/</code>.</p>"
    head = ["reason", "file", "offset", "detail"]
    return _section("Rejects, the first of each reason", note + _table(head, rows))


def _lengths(results: Results) -> str:
    bars = [
        (f"{1 << place:,} – {(2 << place) - 1:,}", count)
        for place, count in enumerate(results.length_histogram)
        if any(results.length_histogram[: place + 1])
    ]
    most = max((count for _, count in bars), default=1)
    note = "<p class=note>Documents by number of tokens, BOS and EOS counted.</p>"
    return _section("Length of documents", note + _bars(bars, most))


def _packing(manifest: Manifest) -> str:
    places = manifest.sequence_length + 1
    rows = []
    for name, split in manifest.splits.items():
        filled = split.tokens / max(1, split.rows * places)
        rows.append([name, f"{split.rows:,}", f"{split.tokens:,}", f"{filled:.2%}"])
    counts = manifest.counts
    note = (
        f"<p class=note>{counts.overlap_tokens:,} tokens are written twice, where a "
        "document longer than a row was cut; "
        f"{counts.dropped_tokens:,} were dropped.</p>"
    )
    head = ["split", "rows", "tokens written", "places filled"]
    return _section("Packing", _table(head, rows) + note)


def _sources(results: Results) -> str:
    names = _descending(results.tokens_by_source)
    bars = names[:MOST_SOURCES]
    rest = sum(count for _, count in names[MOST_SOURCES:])
    if rest:
        bars.append((f"{len(names) - MOST_SOURCES} others", rest))
    most = max((count for _, count in bars), default=1)
    return _section("Tokens by source", _bars(bars, most))


def _speed(results: Results, timings: Mapping[str, Any]) -> str:
    rows = [
        [
            part,
            f"{seconds:.1f}",
            f"{results.input_bytes / 1e6 / max(seconds, 1e-9):,.0f}",
        ]
        for part, seconds in sorted(results.seconds.items(), key=lambda item: -item[1])
    ]
    note = (
        f"<p class=note>{timings['workers']} workers; the largest used "
        f"{results.peak_memory / 1e6:,.0f} MB of memory.</p>"
    )
    head = ["part", "worker seconds", "MB of input per worker second"]
    return _section("Speed", _table(head, rows) + note)


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}"


def _table(head: Row, rows: Iterable[Row]) -> str:
    def line(cells: Row, tag: str) -> str:
        return "<tr>" + "".join(_cell(cell, tag) for cell in cells) + "</tr>"

    top = line(head, "th") if any(head) else ""
    return f"<table>{top}{''.join(line(row, 'td') for row in rows)}</table>"


def _cell(text: str, tag: str) -> str:
    number = (text[:1].isdigit() and not text.isalnum()) or text.isdigit()
    kind = ' class="n"' if number else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag}>"


def _bars(bars: Sequence[tuple[str, int]], most: int) -> str:
    """Returns a horizontal bar chart of counts."""
    parts = []
    for place, (name, count) in enumerate(bars):
        y = place * 22
        width = 360 * count / max(most, 1)
        parts.append(
            f'<text x="208" y="{y + 15}" text-anchor="end">{html.escape(name[-32:])}'
            f'</text><rect x="216" y="{y + 3}" width="{width:.1f}" height="16" '
            f'fill="#4878a8"/><text x="{222 + width:.1f}" y="{y + 15}">{count:,}</text>'
        )
    height = len(bars) * 22 + 4
    return (
        f'<svg role="img" width="720" height="{height}" viewBox="0 0 720 {height}">'
        f"{''.join(parts)}</svg>"
    )


def _descending(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
