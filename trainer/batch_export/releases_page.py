# SPDX-License-Identifier: Apache-2.0
"""The page that shows judged releases: their table, and size against bits per byte.

Points are placed by percentages of the picture, and words beside it stay HTML, so both
keep their size on a phone; a point's number is its line's in the table below.
"""

import html
import math
from collections.abc import Sequence

from preprocessing.contracts.releases import WEIGHT_TYPES
from preprocessing.foundation import storage
from preprocessing.foundation.commands import count_of
from preprocessing.foundation.page import cards, page, section, short, table
from trainer.batch_export.figures import METRICS
from trainer.batch_export.releases_table import (
    BEST_MARK,
    LISTING_NAME,
    JudgedSplit,
    ListedRelease,
    by_split,
    cell,
    columns_of,
    jsonl,
    lost,
    origin,
    remarks,
)

PAGE_NAME = "releases.html"
_STYLE = """
main{max-width:76rem} tbody th{white-space:nowrap}
.scatter{display:grid;grid-template-columns:3.4rem 1fr;margin:1.2rem 1.6rem .4rem 0}
.scatter .up,.scatter .along{position:relative;font-size:.78rem;color:var(--quiet)}
.scatter span{position:absolute;white-space:nowrap}
.scatter .up span{right:.5rem;transform:translateY(50%)}
.scatter .along{grid-column:2;height:1.5rem}
.scatter .along span{transform:translateX(-50%);top:.25rem}
.scatter>svg{height:20rem;overflow:visible;background:var(--card)}
.scatter line{stroke:var(--line)} .scatter text{font-size:.78rem;fill:var(--ink)}
.at{overflow:visible} .ring{fill:none;stroke:var(--ink);stroke-width:2}
.third{fill:#8a5a9e} .off{opacity:.45}
@media(max-width:30rem){.scatter>svg{height:15rem}
.scatter .along span:nth-child(even):not(:last-child){display:none}}
"""
# How a release's weights are drawn, told by shape as well as by colour.
_SHAPES = dict(
    zip(
        WEIGHT_TYPES,
        (
            '<circle class="first" r="6"/>',
            '<rect class="second" x="-5.5" y="-5.5" width="11" height="11"/>',
            '<path class="third" d="M0-7 6.5 5.5-6.5 5.5z"/>',
        ),
        strict=True,
    )
)
_MOST_TICKS = 6
# Percent of the picture within which two numbers would lie on each other, and the
# sides of a point that a number can stand on, beyond the ring around the best.
_NEAR = 3
_SIDES = (
    'y="-15" text-anchor="middle"',
    'y="23" text-anchor="middle"',
    'x="15" y="4"',
    'x="-15" y="4" text-anchor="end"',
)
_Ticks = list[tuple[float, str]]


def write_listing(models: str, lines: Sequence[ListedRelease]) -> None:
    """Puts `releases.jsonl` and `releases.html` into a tree, each in one atomic put."""
    storage.write_atomically(storage.join(models, LISTING_NAME), jsonl(lines))
    storage.write_atomically(storage.join(models, PAGE_NAME), releases_page(lines))


def releases_page(lines: Sequence[ListedRelease]) -> bytes:
    """Returns the page of judged releases in UTF-8."""
    refused = sum(bool(line.refused) for line in lines)
    names = {line.name for line in lines}
    facts = [
        ("releases", f"{len(lines) - refused:,}", count_of(len(names), "model")),
        ("refused", f"{refused:,}", "that missed what was required"),
    ]
    splits = by_split(lines)
    for split in splits:
        if split.best is not None:
            bits = cell(split.best, "bits_per_byte")
            facts.append((f"best on {split.split}", bits, split.best.title))
    head = (
        "<h1>Quern releases</h1><p>Measured on one machine, one release after another, "
        f"each in a process of its own.</p>{cards(facts)}"
    )
    return page("Quern releases", head, [_section(each) for each in splits], _STYLE)


def _section(split: JudgedSplit) -> str:
    note = (
        f"Fewest bits per byte first, {BEST_MARK} marks the best. “lost” is what a "
        "release takes more than the trainer finds of the same split."
    )
    meanings = "".join(
        f"<p><b>{html.escape(metric.title)}</b>: {html.escape(metric.meaning)}</p>"
        for metric in METRICS.values()
    )
    meanings = f"<details><summary>The columns</summary>{meanings}</details>"
    names = columns_of(split)
    head = ["release", *names.values(), "lost", "run, step", "weights"]
    rows = [
        [
            f"{number}. {line.title}" + (f" {BEST_MARK}" if line == split.best else ""),
            *(cell(line, name) for name in names),
            lost(line),
            origin(line),
            line.weights,
        ]
        for number, line in enumerate(split.releases, 1)
    ]
    said = "".join(f"<p>{html.escape(each)}.</p>" for each in remarks(split))
    return section(
        split.title, note, _scatter(split) + table(head, rows) + meanings + said
    )


def _scatter(split: JudgedSplit) -> str:
    """Returns the picture: size to the right, bits per byte upwards, less is better."""
    drawn = [
        (number, line, line.figures.size, line.figures.bits_per_byte)
        for number, line in enumerate(split.releases, 1)
        if line.figures.bits_per_byte is not None and line.figures.size > 0
    ]
    if not drawn:
        return ""
    across = _powers([math.log10(size) for _, _, size, _ in drawn])
    upwards = _steps([bits for _, _, _, bits in drawn if bits is not None])
    points, named = "", list[tuple[float, float]]()
    for number, line, size, bits in reversed(drawn):  # the best on top
        assert bits is not None
        x = _share(math.log10(size), across)
        y = 100 - _share(bits, upwards)
        # Close to points that have numbers, a number stands on another side.
        near = sum(abs(x - a) < _NEAR and abs(y - b) < _NEAR for a, b in named)
        named.append((x, y))
        text = f"<text {_SIDES[near % len(_SIDES)]}>"
        ring = '<circle class="ring" r="11"/>' if line == split.best else ""
        told = f"{line.title}: {short(size, 'B')}, {bits:.4f} bits per byte"
        points += (
            f'<svg class="at{" off" if line.refused else ""}" x="{x:.2f}%" '
            f'y="{y:.2f}%"><title>{html.escape(told)}</title>{_SHAPES[line.weights]}'
            f"{ring}{text}{number}</text></svg>"
        )
    label = (
        f"Size against bits per byte of {count_of(len(drawn), 'release')}; the numbers "
        "are in the table below"
    )
    lined = "".join(
        f'<line x1="0" x2="100%" y1="{100 - at:.2f}%" y2="{100 - at:.2f}%"/>'
        for at, _ in _placed(upwards)
    ) + "".join(
        f'<line y1="0" y2="100%" x1="{at:.2f}%" x2="{at:.2f}%"/>'
        for at, _ in _placed(across)
    )
    used = [kind for kind in _SHAPES if any(x.weights == kind for _, x, _, _ in drawn)]
    return (
        f'<h3>Bits per byte, by size</h3>{_key(used)}<div class="scatter">'
        f'<div class="up" aria-hidden="true">{_words(upwards, "bottom")}</div>'
        f'<svg role="img" aria-label="{html.escape(label)}">{lined}{points}</svg>'
        f'<div class="along" aria-hidden="true">{_words(across, "left")}</div></div>'
    )


def _key(kinds: Sequence[str]) -> str:
    made = (
        f'<span><svg viewBox="-8 -8 16 16" aria-hidden="true">{_SHAPES[kind]}</svg>'
        f"{html.escape(kind)}</span>"
        for kind in kinds
    )
    return f'<div class="key">{"".join(made)}</div>'


def _words(ticks: _Ticks, side: str) -> str:
    return "".join(
        f'<span style="{side}:{at:.2f}%">{html.escape(words)}</span>'
        for at, words in _placed(ticks)
    )


def _placed(ticks: _Ticks) -> list[tuple[float, str]]:
    return [(_share(value, ticks), words) for value, words in ticks]


def _share(value: float, ticks: _Ticks) -> float:
    """Returns where a value lies between the first and the last tick, in percent."""
    first, last = ticks[0][0], ticks[-1][0]
    return 100 * (value - first) / (last - first)


def _powers(logarithms: Sequence[float]) -> _Ticks:
    """Returns ticks at 1, 2 and 5 times powers of ten around decimal logarithms."""
    known = [
        (
            power + math.log10(digit),
            short(digit * 10.0**power, "B").replace(".00", "").replace(".0", ""),
        )
        for power in range(19)
        for digit in (1, 2, 5)
    ]
    margin = 0.02  # so that a point on a tick does not lie on the picture's edge
    low, high = min(logarithms) - margin, max(logarithms) + margin
    first = max(
        place for place, tick in enumerate(known) if place == 0 or tick[0] < low
    )
    last = min(
        (place for place, tick in enumerate(known) if tick[0] > high),
        default=len(known) - 1,
    )
    every = -(-(last - first) // (_MOST_TICKS - 1))
    last = first + every * -(-(last - first) // every)
    return known[first : last + 1 : every]


def _steps(values: Sequence[float]) -> _Ticks:
    """Returns ticks at multiples of 1, 2 or 5 times a power of ten around values."""
    low, high = min(values), max(values)
    # A picture of equal figures still needs a height.
    margin = max((high - low) * 0.06, abs(high) * 1e-3, 1e-9)
    low, high = low - margin, high + margin
    wanted = (high - low) / (_MOST_TICKS - 2)
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= wanted)
    first, last = math.floor(low / step), math.ceil(high / step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(n * step, f"{n * step:.{digits}f}") for n in range(first, last + 1)]
