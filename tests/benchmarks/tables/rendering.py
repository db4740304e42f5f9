"""The benchmark's text: what was measured, on what, and a few tables for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tests.benchmarks.machine import versions
from tests.benchmarks.tables.methods import PEERS

_PACKAGES = ("numpy", "pandas", "scikit-learn", "torch", "opendp", "dp-accounting")
_FOUR = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "auc": "AUC", "macro_f1": "macro F1"}
_TABLES = {
    "Gradient boosting, second targets, distances": {
        **{f"hgb_{score}": title for score, title in _FOUR.items()},
        "second1_auc": "second target AUC",
        "second2_auc": "third target AUC",
        "tvd1": "TVD 1",
        "tvd2": "TVD 2",
        "tvd3": "TVD 3",
        "tvd2_codes": "TVD 2 codes",
        "tvd3_codes": "TVD 3 codes",
    },
    "Other models": {
        f"{model}_{score}": f"{name} {title}"
        for model, name in (("logistic", "logistic"), ("mlp", "MLP"), ("direct", "label model"))
        for score, title in _FOUR.items()
    },
    "Cost": {
        "encode_s": "encode s",
        "fit_s": "fit s",
        "sample_s": "sample s",
        "cpu_s": "CPU s",
        "peak_mb": "peak MB",
        "imports_mb": "of it imports MB",
    },
}
_TERMS = (
    "Models are trained on a release and tried on the real test file: gradient boosting, logistic regression, a "
    "multi-layer perceptron (MLP); the label model is ours itself, asked for the test rows. Second and third target: "
    "columns that no contract names as its target, by gradient boosting. Macro F1 and balanced accuracy weigh classes "
    "alike. TVD: mean total variation distance of one, two and three columns to the real training file. `real rows` "
    "is the ceiling without privacy, `independent columns` (each shuffled by itself) and `majority` are floors. ± is "
    "the standard deviation over seeds; peers run once.",
    "Terms: all methods get all training rows, ours without validation, holdout and gate, whose shares its other "
    "mechanisms get. Peers get codes of a public grid of at most 32 cells a number, ours its own, finer grid, which "
    "favours it in TVD 1 to 3; by TVD codes all are compared on the grid of 32. Ours is calibrated by privacy loss "
    "distributions, peers by what they ship, which is looser. Constants of ours were chosen on adult and shoppers, and "
    "looked at on bank and credit_default. Seconds and memory are those of a process of each method's own; fit holds "
    "the calibration of the noise.",
)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Tables of means over seeds; a method that did not run says why."""
    frame = pd.DataFrame(rows)
    days = sorted(frame["date"].unique())
    lines = [
        "# Tables: what a release teaches and keeps",
        "",
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}. {'; '.join(frame['machine'].unique())}. "
        f"{versions(_PACKAGES)}. Code {', '.join(frame['code'].unique())}.",
        *(line for text in _TERMS for line in ("", text)),
        "",
        "Peers: " + "; ".join(_peers(set(frame["method"]))) + ".",
    ]
    for name, part in frame.groupby("data", sort=False):
        lines += [
            "",
            f"## {name}",
            "",
            f"Second target `{part['second1'].iloc[0]}`, third `{part['second2'].iloc[0]}`.",
        ]
        for title, columns in _TABLES.items():
            lines += ["", f"### {name}: {title[0].lower()}{title[1:]}", "", *_table(part, columns)]
    return "\n".join(lines) + "\n"


def _peers(methods: set[str]) -> list[str]:
    """With which version and options each peer ran."""
    return [
        f"{peer.name} ({', '.join(peer.requirements)}; "
        f"{', '.join(f'{name} {value}' for name, value in peer.options.items())})"
        for peer in PEERS
        if peer.name in methods and peer.requirements
    ] or ["none in this run"]


def _table(part: pd.DataFrame, columns: dict[str, str]) -> list[str]:
    lines = ["| method | ε | seeds | " + " | ".join(columns.values()) + " |"]
    lines.append("|---|---:|---:|" + "---:|" * len(columns))
    for (method, epsilon), group in part.groupby(["method", "epsilon"], sort=False, dropna=False):
        shown_epsilon, ran = ("", "") if pd.isna(epsilon) else (f"{epsilon:g}", str((group["status"] == "ok").sum()))
        cells = _cells(group, list(columns))
        if any(cells):
            lines.append(f"| {method} | {shown_epsilon} | {ran} | " + " | ".join(cells) + " |")
    return lines


def _cells(group: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    failed = group[group["status"] != "ok"]
    if len(failed) == len(group):
        return [str(failed["status"].iloc[0]), *[""] * (len(columns) - 1)]
    return [_cell(column, pd.to_numeric(group[column], errors="coerce").dropna()) for column in columns]


def _cell(column: str, values: pd.Series) -> str:
    if values.empty:
        return ""
    digits = 1 if column.endswith("_s") else 0 if column.endswith("_mb") else 3
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std():.{digits}f}" if len(values) > 1 and digits == 3 else mean
