"""Whether a release serves the groups of a declared column equally well: one charged mechanism on the holdout.

The gate's three models (gradient boosting and logistic regression trained on the release alone, the label model
itself) are tried on each holdout record. For each declared column the histogram over (the record's group, which of the
three were right) is released with noise. A unit's at most k records move each column's histogram by k in all: as many
integer queries of sensitivity k as columns are declared. Accuracies, sizes of groups and gaps are post-processing.

*Small groups.* An accuracy is a ratio of two noisy counts. Its 95 % interval holds every p that noise and sampling
together do not refute: the counts of right and wrong answers, weighed to (1 - p) right - p wrong, lie within 1.96
standard deviations of zero (Fieller, 1954, with the sampling of Wilson, 1927). Where the noise is as large as the group
that is everything from 0 to 1. A number is shown and judged only where half of its interval is at most
``WIDEST_JUDGED``, a public constant: of other groups the release says that they have not enough records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.contract import Contract, Quality
from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_marginals
from synth.methods.base import RunOnce
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.quality.learners import Learner, features
from synth.quality.results import Accuracy, Group, Measurement, Subgroups
from synth.records import HOLDOUT, Records
from synth.schema import Codes, ColumnDomain, Schema

MECHANISM = "gate_subgroups"
PREDICTORS = ("gradient_boosting", "logistic_regression", "label_model")
JUDGED = "gradient_boosting"
_OUTCOMES = 2 ** len(PREDICTORS)
_Z95 = 1.96


def demands(contract: Contract, schema: Schema) -> Sequence[Demand]:
    """The mechanism, where subgroups are declared; of what the gate may take its part is one of three then."""
    names = contract.quality.subgroups
    if not names:
        return ()
    return (
        Demand(
            MECHANISM,
            (HOLDOUT,),
            0.5,
            integer_queries(DiscreteGaussian(1.0, contract.privacy.max_records, len(names))),
            "for each column of subgroups a histogram of group and which models were right",
            {"columns": len(names), "cells": sum(_sizes(schema, names))},
        ),
    )


def measure(
    *,
    contract: Contract,
    schema: Schema,
    plan: ReleasePlan,
    once: RunOnce,
    learners: Mapping[str, tuple[Learner, Learner]],
    label_model: Callable[[Codes, str], npt.NDArray[Any]],
    holdout: Sealed[Records],
) -> tuple[Subgroups, ...]:
    """Run the mechanism on the private holdout; the groups of each declared column, none without one.

    Of several targets it is about the first one of classes.

    :param learners: of each target, trained on the release.
    :param label_model: the label of each row of codes by the synthesizer itself, for a target.
    """
    names = contract.quality.subgroups
    if not names:
        return ()
    event = plan.counts(MECHANISM)
    sizes = _sizes(schema, names)
    target = next(name for name in schema.targets if not schema[name].is_numeric)
    labels = schema.names.index(target)

    def histograms(spend: Spend) -> dict[str, npt.NDArray[np.int64]]:
        records = holdout.open(spend)
        codes = schema.encode(records.parsed)
        outcomes = np.zeros(len(codes), np.int32)
        if len(codes):  # some learners refuse to predict for nobody, which would tell that nobody is there
            inputs = features(schema, records.parsed, target)
            predicted = [*(learner.predict(inputs) for learner in learners[target]), label_model(codes, target)]
            for bit, answer in enumerate(predicted):
                outcomes += (answer == codes[:, labels]).astype(np.int32) << bit
        cells = [codes[:, schema.names.index(name)] * _OUTCOMES + outcomes for name in names]
        noisy = noisy_marginals(np.column_stack(cells), sizes, event, records.owners)
        return {"counts": np.concatenate(noisy)}

    counts = np.split(once(MECHANISM, histograms)["counts"], np.cumsum(sizes)[:-1])
    most = contract.privacy.max_records
    return tuple(
        _subgroups(schema[name], own.reshape(-1, _OUTCOMES).astype(np.float64), event.sigma, most)
        for name, own in zip(names, counts, strict=True)
    )


def measurements(found: Sequence[Subgroups], quality: Quality) -> tuple[Measurement, ...]:
    """What a release is judged by: of each column the least accuracy, and the gap to the greatest.

    Of groups with enough records only: where there is none there is no least accuracy, and where there is one no gap,
    so a threshold on it can be neither reached nor missed.
    """
    judged: list[Measurement] = []
    for subgroups in found:
        known = sorted((group.accuracies[JUDGED] for group in subgroups.known), key=lambda accuracy: accuracy.value)
        if known:
            judged.append(_least(subgroups, known[0], quality.min_subgroup_accuracy))
        if len(known) > 1:
            judged.append(_gap(subgroups, known[0], known[-1], quality.max_subgroup_gap))
    return tuple(judged)


def _sizes(schema: Schema, names: Sequence[str]) -> list[int]:
    return [schema[name].size * _OUTCOMES for name in names]


def _subgroups(column: ColumnDomain, counts: npt.NDArray[np.float64], sigma: float, most: int) -> Subgroups:
    """:param counts: noisy, shape (codes, outcomes)."""
    shown = range(column.size if column.nullable else column.cells)
    return Subgroups(
        column=column.name,
        records_noise=sigma * math.sqrt(_OUTCOMES),
        groups=tuple(
            Group(_label(column, code), int(counts[code].sum()), _accuracies(counts[code], sigma, most))
            for code in shown
        ),
        everybody=_accuracies(counts.sum(axis=0), sigma * math.sqrt(len(counts)), most),
    )


def _label(column: ColumnDomain, code: int) -> str:
    if column.kind == "boolean" and code != column.null_code:
        return ("false", "true")[code]
    return column.label(code)


def _accuracies(counts: npt.NDArray[np.float64], sigma: float, most: int) -> dict[str, Accuracy]:
    right = [float(counts[np.arange(_OUTCOMES) >> bit & 1 == 1].sum()) for bit in range(len(PREDICTORS))]
    records = float(counts.sum())
    return {name: _accuracy(own, records, sigma, most) for name, own in zip(PREDICTORS, right, strict=True)}


def _accuracy(right: float, records: float, sigma: float, most: int) -> Accuracy:
    """:param sigma: noise of each of the cells, half of which are right.

    :param most: records of one unit, which may all be alike, so that the sampling of so many counts as of one.
    """
    at_least_one = max(1.0, records)
    share = float(np.clip(right / at_least_one, 0, 1))
    noise = sigma**2 * _OUTCOMES / 2  # variance of the number of right answers, and of wrong ones
    sampling = max(0.0, records) * most  # variance of right - p records, divided by p (1 - p)
    # (right - p records)² <= z² (noise ((1 - p)² + p²) + sampling p (1 - p)), a parabola in p
    bend = _Z95**2 * (2 * noise - sampling)
    a, b, c = records**2 - bend, bend - 2 * right * records, right**2 - _Z95**2 * noise
    low, high, root = 0.0, 1.0, b**2 - 4 * a * c
    if a > 0 and root > 0:
        ends = [(-b + side * math.sqrt(root)) / (2 * a) for side in (-1, 1)]
        if ends[0] < 1 and ends[1] > 0:  # else the counts belong to no accuracy, and nothing can be said
            low, high = max(0.0, ends[0]), min(1.0, ends[1])
    return Accuracy(
        value=share,
        noise_scale=math.sqrt(noise * (share**2 + (1 - share) ** 2)) / at_least_one,
        low=min(low, share),
        high=max(high, share),
    )


def _least(subgroups: Subgroups, least: Accuracy, threshold: float | None) -> Measurement:
    return Measurement(
        name=f"subgroup_accuracy_{subgroups.column}",
        title=f"Lowest accuracy of gradient boosting in a group of {subgroups.column}",
        value=least.value,
        noise_scale=least.noise_scale,
        low=least.low,
        high=least.high,
        reference=subgroups.everybody[JUDGED].value,
        reference_title="accuracy over all groups, from the same counts",
        threshold=threshold,
        better="higher",
    )


def _gap(subgroups: Subgroups, least: Accuracy, greatest: Accuracy, threshold: float | None) -> Measurement:
    """The interval of a difference from the intervals of both (Zou and Donner, 2008)."""
    gap = greatest.value - least.value
    return Measurement(
        name=f"subgroup_gap_{subgroups.column}",
        title=f"Gap in accuracy of gradient boosting between groups of {subgroups.column}",
        value=gap,
        noise_scale=math.hypot(least.noise_scale, greatest.noise_scale),
        low=max(0.0, gap - math.hypot(greatest.value - greatest.low, least.high - least.value)),
        high=min(1.0, gap + math.hypot(greatest.high - greatest.value, least.value - least.low)),
        reference=None,
        reference_title="",
        threshold=threshold,
        better="lower",
    )
