"""Charts of the report as inline SVG, whose colours follow the page's.

Matplotlib draws with stand-in colours, which are then replaced by CSS variables; so one picture serves light, dark
and print. Text stays text. Nothing in a chart refers to anything outside of it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from synth.quality.results import Accuracy

Shares = npt.NDArray[np.float64]

_INK, _MUTED, _LINE = "#0a0b01", "#0a0b02", "#0a0b03"
_ACCENT, _WARM, _HEAT = "#0a0b04", "#0a0b05", "#0a0b06"
_VARIABLES = {
    _INK: "--ink", _MUTED: "--muted", _LINE: "--line", _ACCENT: "--accent", _WARM: "--warm", _HEAT: "--heat",
}  # fmt: skip
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a category may hold a dollar sign
    "font.size": 8,
    "axes.edgecolor": _LINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
}
_LONGEST_LABEL = 14
_MOST_NUMBERED = 30  # columns whose cells are large enough for a number
_SHADES = 20  # of a heat map without numbers
_FITTING_CHARACTERS = 50  # under one small chart


def marginal(name: str, labels: Sequence[str], released: Shares, noisy: Shares, spread: Shares) -> str:
    """Released shares as bars, noisy shares as dots with whiskers of ``spread`` either way, over a column's bars."""
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _figure(3.1, 1.55)
        figure.subplots_adjust(left=0.13, right=0.995, top=0.96, bottom=0.16)
        positions = np.arange(len(labels))
        dense = len(labels) > 30
        axes.bar(positions, released, width=1.0 if dense else 0.74, color=_ACCENT, alpha=0.42, linewidth=0)
        axes.errorbar(
            positions,
            noisy,
            yerr=spread,
            fmt="o",
            markersize=1.9 if dense else 3.0,
            color=_INK,
            ecolor=_INK,
            elinewidth=0.7 if dense else 1.0,
        )
        axes.axhline(0, color=_LINE, linewidth=0.8)
        axes.spines["bottom"].set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        _label_codes(axes, labels)
        top = max(float(released.max(initial=0)), float((noisy + spread).max(initial=0)))
        bottom = float((noisy - spread).min(initial=0))
        axes.set_ylim(bottom * 1.05, top * 1.08 or 1)
        axes.set_xlim(-0.7, len(labels) - 0.3)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.grid(axis="y", color=_LINE, linewidth=0.5, alpha=0.7)
        axes.set_axisbelow(True)
        return _svg(figure, f"Shares of {name}: released rows and noisy marginal")


def whisker(title: str, value: float, low: float, high: float, reference: float | None, threshold: float | None) -> str:
    """One measured share on the scale from 0 to 1: dot, 95 % whisker, tick for the floor, bar for the threshold."""
    with rc_context({**_STYLE, "svg.hashsalt": title}):
        figure, axes = _scale()
        axes.axhline(0, color=_LINE, linewidth=1)
        if reference is not None:
            axes.plot([reference], [0], marker="D", markersize=4.5, markerfacecolor="none", color=_MUTED)
        if threshold is not None:
            axes.plot([threshold] * 2, [-0.75, 0.75], color=_WARM, linewidth=1.8)
        axes.plot([low, high], [0, 0], color=_ACCENT, linewidth=2.2, solid_capstyle="round")
        axes.plot([value], [0], marker="o", markersize=6, color=_ACCENT)
        axes.set_axis_off()
        return _svg(figure, title)


def dots(title: str, accuracies: Sequence[Accuracy], threshold: float | None) -> str:
    """Accuracies of several models in one group, one under the other, the first one's largest.

    An interval that is too wide to say anything stands without its dot.
    """
    with rc_context({**_STYLE, "svg.hashsalt": title}):
        figure, axes = _scale(height=0.45)
        if threshold is not None:
            axes.plot([threshold] * 2, [-0.95, 0.95], color=_WARM, linewidth=1.8)
        for place, accuracy in enumerate(accuracies):
            first = place == 0
            height = 0.6 - 0.6 * place
            known = accuracy.is_known
            line, colour = (2.2, _ACCENT) if first and known else (1.2, _MUTED if known else _LINE)
            axes.plot([accuracy.low, accuracy.high], [height] * 2, color=colour, linewidth=line)
            if known:
                face = colour if first else "none"
                axes.plot(
                    [accuracy.value],
                    [height],
                    marker="oDs"[place % 3],
                    markersize=5.5 if first else 4,
                    color=colour,
                    markerfacecolor=face,
                )
        axes.set_axis_off()
        return _svg(figure, title)


def heat_map(columns: Sequence[str], values: Sequence[float]) -> str:
    """A distance for each pair of columns, stronger where it is larger; values in the order of ``combinations``."""
    size = len(columns)
    largest = max(values, default=0) or 1
    with rc_context({**_STYLE, "svg.hashsalt": "pairs"}):
        short = [name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…" for name in columns]
        margin = 0.25 + 0.09 * max(map(len, short))
        side = margin + 0.35 * max(1, size - 1)
        figure, axes = _figure(side, side)
        figure.subplots_adjust(left=margin / side, right=0.995, top=0.995, bottom=margin / side)
        pairs = np.array(list(combinations(range(size), 2)))
        if size <= _MOST_NUMBERED:
            for (i, j), value in zip(pairs, values, strict=True):
                axes.add_patch(Rectangle((i, j), 0.94, 0.94, facecolor=_HEAT, alpha=value / largest, linewidth=0))
                axes.text(i + 0.47, j + 0.5, f"{100 * value:.0f}", ha="center", va="center", color=_INK, fontsize=8)
        else:  # one patch a shade: thousands of patches would take their seconds and megabytes
            shades = np.round(np.array(values) / largest * _SHADES)
            for shade in np.unique(shades[shades > 0]):
                squares = [
                    Path([(i, j), (i + 0.94, j), (i + 0.94, j + 0.94), (i, j + 0.94), (i, j)], closed=True)
                    for i, j in pairs[shades == shade]
                ]
                together = Path.make_compound_path(*squares)
                axes.add_patch(PathPatch(together, facecolor=_HEAT, alpha=shade / _SHADES, linewidth=0))
        axes.set_xlim(0, size - 1)
        axes.set_ylim(size, 1)
        axes.set_xticks(np.arange(size - 1) + 0.47, short[:-1], rotation=90)
        axes.set_yticks(np.arange(1, size) + 0.5, short[1:])
        axes.tick_params(length=0, labelsize=8.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _svg(figure, "Distance of each pair of columns, release to holdout")


def scale() -> str:
    """The axis under a stack of whiskers."""
    with rc_context({**_STYLE, "svg.hashsalt": "scale"}):
        figure, axes = _scale()
        for value in (0, 0.25, 0.5, 0.75, 1):
            axes.text(value, 0.2, f"{value:g}", ha="center", va="center", color=_MUTED, fontsize=10.5)
        axes.set_axis_off()
        return _svg(figure, "Scale from 0 to 1")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _scale(height: float = 0.3) -> tuple[Figure, Axes]:
    figure, axes = _figure(3.6, height)
    figure.subplots_adjust(left=0, right=1, top=1, bottom=0)
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-1, 1)
    return figure, axes


def _label_codes(axes: Axes, labels: Sequence[str]) -> None:
    """As many labels as fit, evenly spaced from the first on; null, at the end, always has its label."""
    short = [label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…" for label in labels]
    longest = max((len(label) for label in short), default=1)
    stride = -(-len(short) * (longest + 2) // _FITTING_CHARACTERS) if short else 1
    chosen = list(range(0, len(short), max(1, stride)))
    last = len(short) - 1
    if short[-1:] == ["null"] and chosen[-1] != last:
        chosen = [i for i in chosen if last - i >= stride] + [last]
    axes.set_xticks(chosen, [short[i] for i in chosen])


def _svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|LineCollection)[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*viewBox)', r"\1", text, count=2)
    text = re.sub(r' xmlns(?::xlink)?="[^"]*"| version="1\.1"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r" font-family: [^;\"]*;|<style.*?</style>", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
