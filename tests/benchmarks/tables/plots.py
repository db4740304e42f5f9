"""The benchmark's pictures: one column a data set; ours by ε, peers as marks, what is not private as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tests.benchmarks.tables.references import FLOOR, MAJORITY, REAL

OURS = "sluice"
_LINES = {REAL: ":", FLOOR: "--", MAJORITY: "-."}
_TITLES = {"hgb_accuracy": "accuracy", "hgb_auc": "AUC", "tvd2": "two-way distance"}
_MARKS = "sD^vP*X"


def against_epsilon(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy and AUC of gradient boosting and two-way distance by ε; bars are a standard deviation over seeds."""

    def panel(axis: Any, part: pd.DataFrame, column: str) -> None:
        for name, value in _references(part, column).items():
            axis.axhline(value, color="grey", linestyle=_LINES[name], label=name)
        for method, group in _private(part):
            by = group.groupby("epsilon")[column].agg(["mean", "std"]).fillna(0.0)
            look = _look(method, part)
            axis.errorbar(by.index, by["mean"], yerr=by["std"], capsize=3, label=method, **look)
        axis.set_xscale("log")
        values = sorted(part["epsilon"].dropna().unique())
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.minorticks_off()

    _draw(rows, ("hgb_accuracy", "hgb_auc", "tvd2"), "ε", panel, path)


def against_distance(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy and AUC against two-way distance: best is the upper left. Bars are a standard deviation over seeds."""

    def panel(axis: Any, part: pd.DataFrame, column: str) -> None:
        for name, value in _references(part, column).items():
            axis.axhline(value, color="grey", linestyle=_LINES[name], label=name)
        for method, group in _private(part):
            by = group.groupby("epsilon")[[column, "tvd2"]].agg(["mean", "std"]).fillna(0.0)
            x, y, look = by["tvd2"], by[column], _look(method, part)
            axis.errorbar(x["mean"], y["mean"], xerr=x["std"], yerr=y["std"], capsize=3, label=method, **look)
            if method == OURS:
                for epsilon in by.index:
                    at = x["mean"][epsilon], y["mean"][epsilon]
                    axis.annotate(f"ε={epsilon:g}", at, textcoords="offset points", xytext=(5, -10), fontsize=7)
        axis.set_xlim(left=0)

    _draw(rows, ("hgb_accuracy", "hgb_auc"), "two-way distance", panel, path)


def _draw(rows: Sequence[dict[str, Any]], columns: Sequence[str], below: str, panel: Any, path: Path) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    frame = pd.DataFrame(rows)
    frame = frame[frame["status"] == "ok"]
    names = list(frame["data"].unique())
    figure = Figure(figsize=(3.4 * len(names) + 1.2, 2.6 * len(columns) + 1), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(len(columns), len(names), squeeze=False, sharex="col")
    for place, name in enumerate(names):
        part = frame[frame["data"] == name].copy()
        for column in {*columns, "tvd2", "epsilon"}:
            part[column] = pd.to_numeric(part[column], errors="coerce")
        for axis, column in zip(axes[:, place], columns, strict=True):
            panel(axis, part, column)
        axes[0, place].set_title(name)
        axes[-1, place].set_xlabel(below)
    for axis, column in zip(axes[:, 0], columns, strict=True):
        axis.set_ylabel(_TITLES[column])
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)), fontsize=8)
    figure.savefig(path)


def _references(part: pd.DataFrame, column: str) -> dict[str, float]:
    """The value of each reference that has one."""
    means = part[part["method"].isin(_LINES)].groupby("method", sort=False)[column].mean().dropna()
    return {str(name): float(value) for name, value in means.items()}


def _private(part: pd.DataFrame) -> Any:
    return part[part["epsilon"].notna()].groupby("method", sort=False)


def _look(method: str, part: pd.DataFrame) -> dict[str, Any]:
    """Ours as a line of dots; a peer by a mark that is its own."""
    if method == OURS:
        return {"marker": "o", "linestyle": "-", "color": "#24706a", "zorder": 3}
    peers = sorted(set(part["method"]) - {OURS, *_LINES})
    place = peers.index(method)
    return {"marker": _MARKS[place % len(_MARKS)], "linestyle": "", "color": f"C{place + 1}"}
