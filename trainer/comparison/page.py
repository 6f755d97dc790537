# SPDX-License-Identifier: Apache-2.0
"""The page that compares runs: one file, without scripts, in light and dark."""

import html
from collections.abc import Sequence

import numpy as np

from trainer.comparison.figure import (
    DARK,
    LIGHT,
    axes_of,
    colour_index,
    draw_svg,
    line_style,
    shown_panels,
)
from trainer.comparison.run_curves import Curve, RunCurves, differing

_DASHES = {"-": "", "--": "6 3", ":": "2 2", "-.": "6 2 2 2"}
_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,
-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:70rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 1rem;letter-spacing:-.02em}
h2{font-size:1.15rem;margin:2.5rem 0 .5rem}
p{color:var(--quiet);font-size:.9rem;max-width:46rem}
ul{list-style:none;margin:0 0 1rem;padding:0;display:flex;flex-wrap:wrap}
ul{gap:.2rem 1.5rem}
li,th .run{display:flex;align-items:center;gap:.5rem;overflow-wrap:anywhere}
.swatch{width:1.6rem;height:.7rem;flex:none;stroke-width:3}
input{position:absolute;opacity:0}
label{display:inline-block;padding:.25rem .8rem;margin-right:.35rem;cursor:pointer;
border:1px solid var(--grid);border-radius:1rem;font-size:.9rem;color:var(--quiet)}
input:checked+label{border-color:var(--ink);color:var(--ink)}
input:focus-visible+label{outline:2px solid var(--run-0)}
.panels{display:none;gap:1.5rem;margin-top:1.25rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
#by-steps:checked~.steps,#by-tokens:checked~.tokens,#by-time:checked~.time{
display:grid}
.panels svg{display:block;width:100%;height:auto}
.panels text{font-family:inherit!important}
.scroll{overflow-x:auto} table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.35rem 1.2rem .35rem 0;text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums;border-bottom:1px solid var(--grid)}
th:first-child{text-align:left} thead th{color:var(--quiet);font-weight:600}
tbody th{font-weight:400}
@media(max-width:30rem){body{font-size:15px} main{padding:1.25rem .9rem 3rem}}
@media print{.panels{break-inside:avoid}}
"""
_HEAD = (
    "run",
    "steps",
    "tokens",
    "training time",
    "last loss",
    "best validation loss",
    "best bits per byte",
    "median tokens/s",
    "median mfu",
)


def draw_page(runs: Sequence[RunCurves]) -> bytes:
    """Returns the whole page in UTF-8, which needs no other file."""
    parts = [
        f"<h1>{len(runs)} run{'s' if len(runs) > 1 else ''} compared</h1>",
        _legend(runs),
        _panels(runs),
        "<h2>Numbers</h2>",
        _table(_HEAD, [_numbers(runs, index) for index in range(len(runs))]),
        "<p>The last loss is smoothed as its curve is. Training time follows from the "
        "tokens per second of the lines of metrics: compilation is in it, evaluations "
        "are not.</p>",
        *_differences(runs),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Runs compared</title><style>{_colours()}{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    ).encode()


def _colours() -> str:
    def scheme(colours: Sequence[str]) -> str:
        return ";".join(f"--run-{i}:{colour}" for i, colour in enumerate(colours))

    return (
        ":root{color-scheme:light dark;--page:#fcfcfa;--ink:#1d2125;--quiet:#5b6168;"
        f"--grid:#dcdcd4;{scheme(LIGHT)}}}"
        "@media(prefers-color-scheme:dark){:root{--page:#15181b;--ink:#e6e7e4;"
        f"--quiet:#a2a8ae;--grid:#343a40;{scheme(DARK)}}}}}"
    )


def _legend(runs: Sequence[RunCurves]) -> str:
    items = [f"<li>{_named(runs, index)}</li>" for index in range(len(runs))]
    return f"<ul>{''.join(items)}</ul>"


def _named(runs: Sequence[RunCurves], index: int) -> str:
    """Returns a run's name after a piece of its line."""
    dashes = _DASHES[line_style(index)]
    return (
        '<svg class="swatch" viewBox="0 0 32 14" aria-hidden="true">'
        f'<path d="M0 7H32" stroke="var(--run-{colour_index(index)})" '
        f'stroke-dasharray="{dashes}"/></svg>{html.escape(runs[index].name)}'
    )


def _panels(runs: Sequence[RunCurves]) -> str:
    """Returns each panel against each axis, and the switch between the axes."""
    axes, panels = axes_of(runs), shown_panels(runs)
    switch = [
        f'<input type="radio" name="axis" id="by-{axis.name}"'
        f"{' checked' if axis is axes[0] else ''}>"
        f'<label for="by-{axis.name}">{axis.label.partition(",")[0]}</label>'
        for axis in axes
    ]
    drawn = [
        f'<div class="panels {axis.name}">'
        f"{''.join(draw_svg(runs, panel, axis) for panel in panels)}</div>"
        for axis in axes
    ]
    return f"<div>{''.join(switch)}{''.join(drawn)}</div>"


def _numbers(runs: Sequence[RunCurves], index: int) -> list[str]:
    run = runs[index]
    return [
        f'<span class="run">{_named(runs, index)}</span>',
        f"{run.lines[-1]:,}",
        f"{run.tokens[-1]:,}",
        _duration(float(run.seconds[-1])),
        f"{run.loss.smoothed[-1]:.4f}" if len(run.loss.steps) else "",
        _best(run.validation),
        _best(run.bits),
        f"{np.median(run.speed.values):,.0f}",
        f"{np.median(run.mfu.values):.1%}" if len(run.mfu.steps) else "unknown",
    ]


def _best(curve: Curve) -> str:
    if not len(curve.steps):
        return ""
    place = int(np.argmin(curve.values))
    return f"{curve.values[place]:.4f} (step {curve.steps[place]:,})"


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1), ("min", 60)):
        if seconds < 90 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _differences(runs: Sequence[RunCurves]) -> list[str]:
    if len(runs) < 2:
        return []
    table = differing(runs)
    if not table:
        return ["<h2>Settings</h2><p>All runs have the same configuration.</p>"]
    rows = [
        [html.escape(key), *(html.escape(text) for text in texts)]
        for key, texts in table.items()
    ]
    head = ["key", *(html.escape(run.name) for run in runs)]
    return ["<h2>Settings that differ</h2>", _table(head, rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of cells in HTML."""
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
