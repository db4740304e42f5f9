"""The quality report: what the release is like, in numbers and pictures that are all outputs of charged mechanisms.

The "real" side of every picture is the noisy marginal, never the private table. The page is one file: no script, no
font, no picture and no style from anywhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synth import accounting
from synth.accounting import RenyiFilter
from synth.quality.results import Subgroups
from synth.records import HOLDOUT, TRAIN
from synth.release import charts, method_words, subgroup_words, wording
from synth.release.claim import composed, filter_share
from synth.release.facts import ReleaseFacts
from synth.release.rendering import render
from synth.release.stamp import notice, stamp
from synth.schema import ColumnDomain

REPORT_VERSION = 1
_MOST_CATEGORIES = 24
_Z95 = 1.96
_MOST_BARS = 60
_SPANS = ("integer", "number", "date", "datetime")
_SPIKE = 0.05  # share of the noisy histogram from which a cell of one number is a bar by itself


def report_document(facts: ReleaseFacts) -> dict[str, Any]:
    """The report as plain values (``quality_report.json``)."""
    document = _report(facts)
    if facts.unsafe_seed is None:
        return document
    said = notice(facts.unsafe_seed)
    for part in ("quality", "subgroups", "expectations", "budget", "marginals"):
        document[part]["text"] = said
    return {**stamp(facts.unsafe_seed), **document, "claim": {"not_private": True, "text": said}}


def _report(facts: ReleaseFacts) -> dict[str, Any]:
    return {
        "report_version": REPORT_VERSION,
        "dataset": facts.contract.dataset.name,
        "version": facts.version,
        "created_at": facts.created_at,
        "rows": facts.rows,
        "claim": {"epsilon": facts.budget.epsilon_release, "delta": facts.plan.delta},
        "passed": all(m.passed for m in facts.measurements) and all(j.passed for j in facts.judgements),
        "quality": {
            "text": wording.QUALITY,
            "measurements": [m.document() for m in facts.measurements],
            "pair_distances": facts.pairs.document(),
        },
        "subgroups": subgroup_words.document(facts.subgroups),
        "expectations": {"text": wording.VALIDATION, "verdicts": [j.document() for j in facts.judgements]},
        "constraints": {"text": wording.constraints(facts.contract), "cost": facts.constraint_cost},
        "budget": _branch_shares(facts),
        "ledger": _ledger(facts),
        "marginals": {
            "text": "released_share is of the released rows. noisy_share is of the noisy histogram of the training "
            "branch; its privacy noise has the standard deviation noise_scale. Null is listed where it is allowed. Of "
            f"more than {_MOST_BARS} cells of numbers neighbours are one bar: equally many, except that one number "
            f"with {_SPIKE:.0%} of the noisy histogram or more is one bar. measurements.parquet has every cell.",
            "columns": [_marginal(column, facts) for column in facts.schema.columns],
        },
        "not_protected": wording.not_protected(facts.contract, facts.plan.window),
    }


def report_html(facts: ReleaseFacts) -> str:
    """The report as one self-contained page."""
    document = report_document(facts)
    threshold = facts.contract.quality.min_subgroup_accuracy
    return render(
        "report.html.jinja",
        r=document,
        dataset=facts.contract.dataset,
        policy=facts.budget,
        unit=wording.unit(facts.contract, facts.plan.window),
        delta=facts.plan.delta,
        whiskers=[
            charts.whisker(m.title, m.value, m.low, m.high, m.reference, m.threshold) for m in facts.measurements
        ],
        scale=charts.scale(),
        threshold=threshold,
        dots=[
            [
                charts.dots(f"{own.column}: {group.label}", [*group.accuracies.values()], threshold)
                for group in own.groups
            ]
            for own in facts.subgroups
        ],
        pairs_note=method_words.pairs_in_the_report(facts.contract),
        heat_map=charts.heat_map(facts.pairs.columns, facts.pairs.values),
        marginals=[_picture(column) for column in document["marginals"]["columns"]],
    )


def _dots(subgroups: Subgroups, threshold: float | None) -> list[str]:
    """A chart for each group of a column."""
    return [
        charts.dots(f"{subgroups.column}: {group.label}", [*group.accuracies.values()], threshold)
        for group in subgroups.groups
    ]


def _branch_shares(facts: ReleaseFacts) -> dict[str, Any]:
    """Each mechanism's part of its branch's cost, one attempt each, at the filter's order."""
    cost = {m.name: accounting.renyi(m.event, facts.budget.filter_order) for m in facts.plan.mechanisms}
    whole = sum(cost[m.name] for m in facts.plan.mechanisms if TRAIN in m.branches)
    return {
        "text": "Part of the training branch's Rényi cost at the policy's fixed order, one attempt each.",
        "branches": {
            branch: [
                {"mechanism": m.name, "description": m.description, "share": cost[m.name] / whole}
                for m in facts.plan.mechanisms
                if branch in m.branches
            ]
            for branch in (TRAIN, HOLDOUT)
        },
    }


def _ledger(facts: ReleaseFacts) -> dict[str, float]:
    """Shares of the policy's budget: before this release, by it, left."""
    budget = facts.budget
    mechanisms = [{**m.document(), "attempts": budget.attempts.get(m.name, 0)} for m in facts.plan.mechanisms]
    renyi_filter = RenyiFilter.for_budget(budget.policy_epsilon, budget.policy_delta, budget.policy_selection_delta)
    alone = min(filter_share(composed(mechanisms, "attempts"), renyi_filter), budget.share_spent)
    return {"before": budget.share_spent - alone, "this_release": alone, "left": 1 - budget.share_spent}


def _marginal(column: ColumnDomain, facts: ReleaseFacts) -> dict[str, Any]:
    """Shares of a column's codes, many of them in bars together; null among them only where it may be released."""
    codes = column.size if column.nullable else column.cells
    noisy = facts.marginals[column.name][:codes].astype(np.float64)
    total = max(1.0, float(noisy.sum()))
    released = facts.synthetic_counts[column.name][:codes] / max(1, int(facts.synthetic_counts[column.name].sum()))
    starts = _bars(column, noisy / total) if column.is_numeric else np.arange(codes)
    joined = np.diff(np.append(starts, codes))
    return {
        "name": column.name,
        "kind": column.kind,
        "cells": column.cells,
        "labels": [_label(column, int(first), int(count)) for first, count in zip(starts, joined, strict=True)],
        "released_share": _rounded(np.add.reduceat(released, starts)),
        "noisy_share": _rounded(np.add.reduceat(noisy / total, starts)),
        "noise_scale": _rounded(facts.marginal_sigma / total * np.sqrt(joined)),
    }


def _bars(column: ColumnDomain, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The first code of each bar: public cells, joined where they are many, and released spikes by themselves."""
    cells = column.cells
    starts = {*range(0, cells, -(-cells // _MOST_BARS)), *range(cells, len(shares))}
    if cells > _MOST_BARS:
        one_number = np.asarray(column.lower) == np.asarray(column.upper)
        for spike in np.flatnonzero(one_number & (shares[:cells] >= _SPIKE)):
            starts |= {int(spike), int(spike) + 1}
    return np.array(sorted(start for start in starts if start < len(shares)))


def _label(column: ColumnDomain, first: int, count: int) -> str:
    if count == 1:
        return column.label(first)
    return column.span(first, first + count - 1)


def _rounded(shares: npt.NDArray[np.float64]) -> list[float]:
    return [float(share) for share in np.round(shares, 6)]


def _start(label: str, kind: str) -> str:
    """Where a cell of numbers starts, short enough for an axis; null stays null."""
    start = label.split(" to ", maxsplit=1)[0]
    if kind in ("date", "datetime"):
        return start.removesuffix(" 00:00:00")
    return start if start == "null" else f"{float(f'{float(start):.3g}'):,.6g}"


def _picture(column: dict[str, Any]) -> dict[str, str]:
    labels = column["labels"]
    released, noisy, scale = (np.array(column[name]) for name in ("released_share", "noisy_share", "noise_scale"))
    note = column["kind"]
    if note in _SPANS:
        bars = len(labels) - ("null" in labels)
        note = f"{column['cells']:,} cells" + (" and null" if "null" in labels else "")
        note += f" in {bars} bars" if bars < column["cells"] else ""
    if column["kind"] == "categorical" and len(labels) > _MOST_CATEGORIES:
        largest = np.sort(np.argsort(-noisy, kind="stable")[:_MOST_CATEGORIES])
        note = f"{_MOST_CATEGORIES} largest of {len(labels)} categories"
        labels, released, noisy, scale = [labels[i] for i in largest], released[largest], noisy[largest], scale[largest]
    if column["kind"] in _SPANS:
        labels = [_start(label, column["kind"]) for label in labels]
    if column["kind"] == "boolean":
        labels = ["false", "true", *labels[2:]]
    svg = charts.marginal(column["name"], labels, released, noisy, _Z95 * scale)
    return {"name": column["name"], "note": note, "svg": svg}
