"""Open columns: which of their values are common enough to be told, found by one charged mechanism.

The contract says how many categories a column may get, not which. Before anything is encoded, every value that occurs
in the training branch is counted with noise, and those whose noisy count passes a threshold become the column's
categories (:class:`synth.events.ThresholdedHistogram` has the argument and the sources). Every other value, in private
rows and wherever else one turns up, is the one public level that the contract names: nothing tells what or how many
they were. Until then a column's size is the public bound, by which all other mechanisms are planned.

What breaks the guarantee: a domain read off the data in any other way, a unit with more rows than the event charges
for (refused), or a value shown in an order that depends on what was not shown (they are sorted).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.contract import Contract, OpenCategoricalColumn, open_columns, selection_deltas
from synth.errors import BudgetExceeded
from synth.events import DiscreteGaussian, Event, ThresholdedHistogram
from synth.mechanisms import noisy_integers, require_bounded
from synth.plan import Demand, Pace
from synth.records import TRAIN, Records
from synth.schema import Schema

CATEGORIES = "categories"
SHARE = 0.05  # of the release's budget; what is left is divided as the method says

Arrays = Mapping[str, npt.NDArray[Any]]


def with_selection(contract: Contract, demands: Sequence[Demand], pace: Pace | None) -> list[Demand]:
    """The demands of a release, with that of the selection where the contract has open columns.

    :param pace: what the policy's horizon leaves for this release: its part of δ, too, is an even part of what is left.
    :raises BudgetExceeded: if nothing is left of what the policy set aside.
    """
    deltas = selection_deltas(contract.columns, contract.privacy.delta)
    if not deltas:
        return list(demands)
    paced = _paced(tuple(deltas.values()), pace)
    demand = Demand(
        CATEGORIES,
        (TRAIN,),
        SHARE,
        _sized(contract.privacy.max_records, paced),
        "which values of open columns are common, by noisy counts that pass a threshold",
        {
            "open_columns": list(deltas),
            "cells": sum(column.max_categories for column in open_columns(contract.columns).values()),
        },
    )
    return [demand, *(replace(other, share=other.share * (1 - SHARE)) for other in demands)]


def select(records: Records, contract: Contract, event: ThresholdedHistogram) -> dict[str, npt.NDArray[Any]]:
    """The categories of every open column, as arrays. ``records`` are private rows of the training branch.

    *Sensitivity.* A unit has at most k rows, so it moves each column's counts by k in all, over cells that are there
    without it and cells that are not: see the event. Cost: a sort of the values, and a draw for each that occurs.
    """
    columns = open_columns(contract.columns)
    if len(columns) != len(event.thresholds):
        raise ValueError(
            f"Expected one threshold a column, given {len(event.thresholds)} for {len(columns)}: the plan does not "
            "describe this release."
        )
    require_bounded(len(records.parsed), records.owners, event.sensitivity)
    shown = [
        common_values(records.parsed[name].to_numpy(), column, event.sigma, threshold)
        for (name, column), threshold in zip(columns.items(), event.thresholds, strict=True)
    ]
    encoded = [text.encode() for texts in shown for text in texts]
    return {
        "texts": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "lengths": np.array([len(text) for text in encoded], dtype=np.int64),
        "categories": np.array([len(texts) for texts in shown], dtype=np.int64),
    }


def common_values(
    values: npt.NDArray[Any], column: OpenCategoricalColumn, sigma: float, threshold: int
) -> tuple[str, ...]:
    """The values whose noisy count is ``threshold`` at least, sorted; of more than may be kept the largest counts.

    Whether a value may be a category at all is decided by that value alone. All after the threshold is post-processing.
    """
    texts = [value for value in values if isinstance(value, str) and _may_be_shown(value, column)]
    distinct, counts = np.unique(np.array(texts, dtype=object), return_counts=True)
    noisy = noisy_integers(counts, sigma)
    passed = noisy >= threshold
    shown, sizes = distinct[passed], noisy[passed]
    largest = np.argsort(-sizes, kind="stable")[: column.max_categories]
    return tuple(sorted(shown[largest]))


def resolved(schema: Schema, selected: Arrays) -> Schema:
    """The schema whose open columns have the selected categories, and the level of the others after them."""
    texts = selected["texts"].tobytes()
    ends = np.cumsum(selected["lengths"])
    cut = iter([texts[end - length : end].decode() for end, length in zip(ends, selected["lengths"], strict=True)])
    counts = iter(selected["categories"].tolist())
    columns = tuple(
        replace(
            column,
            categories=(*(next(cut) for _ in range(next(counts))), column.categories[-1]),
            awaits_selection=False,
        )
        if column.awaits_selection
        else column
        for column in schema.columns
    )
    return replace(schema, columns=columns)


def _sized(most: int, deltas: tuple[float, ...]) -> Callable[[float, float], Event]:
    template = DiscreteGaussian(1.0, most, len(deltas))
    return lambda rho, total: ThresholdedHistogram.for_deltas(template.scaled_to(rho).sigma, most, deltas)


def _paced(deltas: tuple[float, ...], pace: Pace | None) -> tuple[float, ...]:
    if pace is None:
        return deltas
    if pace.delta <= 0:
        raise BudgetExceeded(
            "the policy's horizon leaves nothing of its selection_delta for the open columns of this release; declare "
            "their categories"
        )
    part = min(1.0, pace.delta / sum(deltas) * (1 - 1e-9))  # so that charges, rounded up, stay within
    return tuple(delta * part for delta in deltas)


def _may_be_shown(text: str, column: OpenCategoricalColumn) -> bool:
    """Text with control characters, say, is no category, whoever has it."""
    return text != column.other and len(text) <= column.max_length and text.isprintable()
