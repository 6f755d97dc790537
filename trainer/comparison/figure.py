# SPDX-License-Identifier: Apache-2.0
"""Draws the curves of runs: one picture of all panels, or each as SVG for a page."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.comparison.run_curves import Curve, RunCurves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Six hues told apart with any colour vision (after Okabe and Ito 2008), each with 3:1
# against a light and a dark page; further runs repeat them with broken lines.
LIGHT = ("#0072b2", "#c9510c", "#007f5c", "#a8478a", "#8a6200", "#4b5056")
DARK = ("#56b4e9", "#ff8f55", "#2cc29a", "#e29ac5", "#e8b33a", "#c8ccd0")
LINE_STYLES = ("-", "--", ":", "-.")
INK, QUIET, GRID = "#1d2125", "#5b6168", "#dcdcd4"
# More points than a screen shows only make the page heavy.
_MOST_POINTS = 600


@dataclass(frozen=True)
class Panel:
    """One kind of curve.

    Attributes:
        title: what it shows, with its unit.
        curve: which of a run's curves.
        smooths: whether a smoothed line stands before a faint raw one; the other
            curves are points joined by lines.
        from_zero: whether its axis begins at 0.
    """

    title: str
    curve: Callable[[RunCurves], Curve]
    smooths: bool
    from_zero: bool = False


@dataclass(frozen=True)
class Axis:
    """What curves are drawn against: a label, and its value at a run's steps."""

    name: str
    label: str
    places: Callable[[RunCurves, np.ndarray], np.ndarray]


PANELS = (
    Panel("Training loss, nats per token", lambda run: run.loss, smooths=True),
    Panel("Validation loss, nats per token", lambda run: run.validation, smooths=False),
    Panel("Validation, bits per byte", lambda run: run.bits, smooths=False),
    Panel("Tokens per second", lambda run: run.speed, smooths=True, from_zero=True),
)


def axes_of(runs: Sequence[RunCurves]) -> tuple[Axis, ...]:
    """Returns what the runs' curves are drawn against: steps, tokens and time."""
    longest = max(float(run.seconds[-1]) for run in runs)
    unit, size = next(
        (unit, size)
        for unit, size in (("seconds", 1), ("minutes", 60), ("hours", 3600))
        if longest < 120 * size or size == 3600
    )
    return (
        Axis("steps", "steps", lambda run, steps: steps),
        Axis("tokens", "tokens", lambda run, steps: run.tokens_at(steps)),
        Axis(
            "time",
            f"training time, {unit}",
            lambda run, steps: run.seconds_at(steps) / size,
        ),
    )


def shown_panels(runs: Sequence[RunCurves]) -> list[Panel]:
    """Returns the panels that any of the runs has points for."""
    return [p for p in PANELS if any(len(p.curve(run).steps) for run in runs)]


def draw_png(runs: Sequence[RunCurves]) -> bytes:
    """Returns a PNG of all panels, against steps and against training time."""
    from matplotlib.figure import Figure

    panels = shown_panels(runs)
    steps, _, time = axes_of(runs)
    figure = Figure(figsize=(11, 0.8 + 2.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, sharey="row")
    for row, panel in zip(grid, panels, strict=True):
        for axes, axis in zip(row, (steps, time), strict=True):
            _draw(axes, panel, axis, runs)
    handles, labels = grid[-1, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=min(len(runs), 4),
        frameon=False,
        labelcolor=INK,
    )
    return _saved(figure, "png")


def draw_svg(runs: Sequence[RunCurves], panel: Panel, axis: Axis) -> str:
    """Returns one panel as an `<svg>` element, its colours as CSS variables.

    `--ink`, `--quiet`, `--grid` and `--run-0` to `--run-5` are for the page to set.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.0), layout="constrained")
    _draw(figure.subplots(), panel, axis, runs)
    text = _saved(figure, "svg").decode()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names of groups would be there again in each of a page's drawings.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', svg, count=1)
    named = {INK: "ink", QUIET: "quiet", GRID: "grid"}
    named |= {colour: f"run-{index}" for index, colour in enumerate(LIGHT)}
    for colour, name in named.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()


def colour_index(run: int) -> int:
    """Returns which of the colours a run has, by its place among the runs."""
    return run % len(LIGHT)


def line_style(run: int) -> str:
    """Returns matplotlib's name of the line a run is drawn with."""
    return LINE_STYLES[run // len(LIGHT) % len(LINE_STYLES)]


def _draw(axes: "Axes", panel: Panel, axis: Axis, runs: Sequence[RunCurves]) -> None:
    limits = []
    for index, run in enumerate(runs):
        curve, colour = panel.curve(run), LIGHT[colour_index(index)]
        if not len(curve.steps):
            continue
        places = axis.places(run, curve.steps)
        values = curve.smoothed if panel.smooths else curve.values
        limits += [values.min(), values.max()]
        thin = slice(None, None, -(-len(places) // _MOST_POINTS))
        if panel.smooths:
            axes.plot(
                places[thin],
                curve.values[thin],
                color=colour,
                alpha=0.25,
                linewidth=0.8,
            )
        axes.plot(
            places[thin],
            values[thin],
            color=colour,
            linestyle=line_style(index),
            linewidth=1.6,
            marker="" if panel.smooths else "o",
            markersize=3.5,
            label=run.name,
        )
    low, high = min(limits), max(limits)
    # By the smoothed values: a single spike must not flatten everything else.
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(0.0 if panel.from_zero else low - room, high + room)
    axes.set_xlim(left=0)
    _dress(axes, panel.title, axis.label)


def _dress(axes: "Axes", title: str, label: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(label, fontsize=9, color=QUIET)
    axes.tick_params(colors=QUIET, labelsize=9, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    for side in (axes.xaxis, axes.yaxis):
        if side.get_view_interval()[1] >= 2000:
            side.set_major_formatter(EngFormatter(sep=""))


def _saved(figure: "Figure", kind: str) -> bytes:
    import matplotlib

    file = io.BytesIO()
    # Words stay words in an SVG, and the same runs give the same bytes.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "quern"}
    with matplotlib.rc_context(settings):
        figure.savefig(
            file,
            format=kind,
            dpi=120,
            transparent=kind == "svg",
            metadata={"Date": None} if kind == "svg" else None,
        )
    return file.getvalue()
