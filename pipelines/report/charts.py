# SPDX-License-Identifier: Apache-2.0
"""The report's pictures: bars with words beside them, and columns, as inline SVG.

Words stay HTML beside the drawings, so that they wrap and keep their size on a phone;
drawings stretch. What a drawing shows is also in its label and in the words.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from preprocessing.foundation.commands import count_of
from preprocessing.foundation.page import percent, short


@dataclass(frozen=True)
class Bar:
    """A line of a bar chart.

    Attributes:
        name: what is counted.
        count: how many; it is what stands out beside the name.
        words: what else is said there.
        stretches: (share of the whole width, class of the colour) from left to right.
        second: the same of a thin bar below, or nothing.
        below: HTML to add below the bars, or nothing.
    """

    name: str
    count: str
    words: str
    stretches: Sequence[tuple[float, str]]
    second: Sequence[tuple[float, str]] = ()
    below: str = ""


def bars(lines: Sequence[Bar]) -> str:
    """Returns a bar chart, as a list; of nothing, a word that says so."""
    if not lines:
        return '<p class="note">None.</p>'
    return f'<ul class="bars">{"".join(_line(bar) for bar in lines)}</ul>'


def counted(
    counts: Sequence[tuple[str, int]], unit: str = "", most: int = 12
) -> Sequence[Bar]:
    """Returns a bar for each of (name, count), at most `most` and one for the rest.

    Bars are as long as their share of the largest; words give the share of the sum.
    """
    shown, rest = list(counts[:most]), counts[most:]
    if rest:
        shown.append((count_of(len(rest), "other"), sum(count for _, count in rest)))
    total = sum(count for _, count in shown)
    largest = max((count for _, count in shown), default=0)
    return [
        Bar(
            name=name,
            count=short(count, unit) if unit else f"{count:,}",
            words=percent(count, total),
            # One document must still be seen beside a million.
            stretches=[(max(count / max(largest, 1), 0.004 if count else 0), "first")],
        )
        for name, count in shown
    ]


def columns(counts: Sequence[int], ticks: Sequence[str], label: str) -> str:
    """Returns a histogram of columns with the ticks below them.

    Args:
        counts: the height of each column.
        ticks: a text for each; some are left out where they are many.
        label: what the picture shows, for who does not see it.
    """
    tallest = max(counts, default=0)
    drawn = "".join(
        f'<rect class="first" x="{10 * place + 1}" width="8" y="{100 - height:.2f}" '
        f'height="{height:.2f}"><title>{html.escape(tick)}: {count:,}</title></rect>'
        for place, (count, tick) in enumerate(zip(counts, ticks, strict=True))
        for height in [max(100 * count / max(tallest, 1), 1 if count else 0)]
    )
    every = -(-len(ticks) // 6)
    named = "".join(
        f"<span>{html.escape(tick) if place % every == 0 else ''}</span>"
        for place, tick in enumerate(ticks)
    )
    return (
        f'<svg class="columns" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {10 * max(len(counts), 1)} 100" preserveAspectRatio="none">'
        f'{drawn}</svg><div class="ticks" aria-hidden="true" '
        f'style="grid-template-columns:repeat({max(len(ticks), 1)},1fr)">{named}</div>'
    )


def key(colours: Sequence[tuple[str, str]]) -> str:
    """Returns what colours mean: (class, words)."""
    made = (
        f'<span><svg viewBox="0 0 8 8" aria-hidden="true"><rect class="{name}" '
        f'width="8" height="8" rx="2"/></svg>{html.escape(words)}</span>'
        for name, words in colours
    )
    return f'<div class="key">{"".join(made)}</div>'


def _line(bar: Bar) -> str:
    label = html.escape(f"{bar.name}: {bar.count} {bar.words}".strip())
    second = _drawing(bar.second, "bar thin", "") if bar.second else ""
    return (
        f'<li><div class="what"><span class="name">{html.escape(bar.name)}</span>'
        f'<span class="count"><b>{html.escape(bar.count)}</b> '
        f"{html.escape(bar.words)}</span></div>"
        f"{_drawing(bar.stretches, 'bar', label)}{second}{bar.below}</li>"
    )


def _drawing(stretches: Sequence[tuple[float, str]], kind: str, label: str) -> str:
    named = f'role="img" aria-label="{label}"' if label else 'aria-hidden="true"'
    drawn = '<rect class="track" width="100" height="10"/>'
    left = 0.0
    for share, colour in stretches:
        drawn += (
            f'<rect class="{colour}" x="{left:.3f}" width="{100 * share:.3f}" '
            'height="10"/>'
        )
        left += 100 * share
    return (
        f'<svg class="{kind}" {named} viewBox="0 0 100 10" '
        f'preserveAspectRatio="none">{drawn}</svg>'
    )
