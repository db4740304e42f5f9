"""How far consumers' models are off a number in holdout records: one charged mechanism for a target of regression.

Two consumers' models (gradient boosting, ridge regression) are trained on the release alone; they and the synthesizer's
own label model are tried on each holdout record that has the number. Each one's absolute error, at most a bound, is
rounded to R-ths of that bound. Released are the three sums, and R times the number of these records. A unit's at most k
records move each of the four by at most R k: four integer queries of sensitivity R k. The bound is a spread of the
released marginal, so errors beyond it, which are rare, count as no more than it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from synth.contract import Quality
from synth.events import DiscreteGaussian
from synth.guard import Spend
from synth.mechanisms import noisy_statistics, require_bounded
from synth.methods.base import RunOnce
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.quality.learners import numbers
from synth.quality.results import Measurement
from synth.quality.tried import Tried
from synth.records import HOLDOUT
from synth.schema import ColumnDomain

_RESOLUTION = 64
_TAIL = 0.005  # of the released marginal that the bound leaves out at either end
_PREDICTORS = ("gradient_boosting", "linear_regression", "label_model")
_TITLES = (
    "Mean absolute error of gradient boosting trained on the release, tried on the holdout",
    "Mean absolute error of ridge regression trained on the release, tried on the holdout",
    "Mean absolute error of the label model itself, tried on the holdout",
)
_UNIT = ", as a share of the declared range"
_Z95 = 1.96


def demand(mechanism: str, target: str, max_records: int, share: float) -> Demand:
    """The mechanism, with its share of what the gate may take."""
    sums = len(_PREDICTORS) + 1
    return Demand(
        mechanism,
        (HOLDOUT,),
        share,
        integer_queries(DiscreteGaussian(1.0, _RESOLUTION * max_records, sums)),
        f"sums of the errors that models make about {target}",
        {"cells": sums, "resolution": _RESOLUTION, "target": target},
    )


def measure(tried: Tried, plan: ReleasePlan, once: RunOnce, quality: Quality) -> list[Measurement]:
    """Run the mechanism and derive the mean errors."""
    column, event = tried.schema[tried.target], plan.counts(tried.mechanism)
    bound = error_bound(column, tried.distribution)

    def errors(spend: Spend) -> dict[str, npt.NDArray[np.int64]]:
        records = tried.holdout.open(spend)
        require_bounded(len(records.parsed), records.owners, event.sensitivity // _RESOLUTION)
        true = numbers(column, records.parsed[tried.target].to_numpy())
        sums = [_errors(true, answer, bound).sum() for answer in tried.answers(spend)] or [0] * len(_PREDICTORS)
        return {"sums": noisy_statistics([*sums, _RESOLUTION * int((~np.isnan(true)).sum())], event)}

    *sums, labelled = once(tried.mechanism, errors)["sums"].astype(np.float64) / _RESOLUTION
    known, noise = max(1.0, labelled), event.sigma / _RESOLUTION
    scale = bound / _range(column)
    median = _error_of_median(column, tried.distribution, bound) / _range(column)
    thresholds = (quality.max_error_gradient_boosting, quality.max_error_linear_regression, None)
    return [
        _mean_error(tried, name, title, total / known, known, noise / known, scale, median, threshold)
        for name, title, total, threshold in zip(_PREDICTORS, _TITLES, sums, thresholds, strict=True)
    ]


def error_bound(column: ColumnDomain, distribution: npt.NDArray[np.float64]) -> float:
    """What an error counts as at most: the spread of the released marginal but for its tails."""
    below = np.cumsum(distribution[:-1]) / max(distribution[:-1].sum(), 1e-12)
    low = int(np.searchsorted(below, _TAIL, side="right"))
    high = int(np.searchsorted(below, 1 - _TAIL))
    last = column.cells - 1
    spread = column.upper[min(high, last)] - column.lower[min(low, last)]
    return spread if spread > 0 else _range(column)


def _errors(true: npt.NDArray[np.float64], answer: npt.NDArray[np.float64], bound: float) -> npt.NDArray[np.int64]:
    """Whole numbers from 0 to ``_RESOLUTION``; none for null, and the most for an answer that is no number."""
    off = np.nan_to_num(np.abs(true - answer) / bound, nan=1.0)
    whole = np.rint(np.minimum(off, 1.0) * _RESOLUTION).astype(np.int64)
    return np.where(np.isnan(true), 0, whole)


def _error_of_median(column: ColumnDomain, distribution: npt.NDArray[np.float64], bound: float) -> float:
    """By the released marginal: what predicting its median costs."""
    share = distribution[:-1] / max(distribution[:-1].sum(), 1e-12)
    values = column.representatives[:-1]
    median = values[min(int(np.searchsorted(np.cumsum(share), 0.5)), column.cells - 1)]
    return float(share @ np.minimum(np.abs(values - median), bound))


def _mean_error(
    tried: Tried,
    name: str,
    title: str,
    mean: float,
    records: float,
    noise_of_sums: float,
    scale: float,
    median: float,
    threshold: float | None,
) -> Measurement:
    """:param mean: in units of the bound, which is ``scale`` of the range."""
    share = float(np.clip(mean, 0, 1))
    noise = noise_of_sums * math.hypot(1, share)  # the ratio's error to first order
    # An error is between nothing and the bound, so its variance is at most that of a coin with its mean.
    spread = _Z95 * math.sqrt(noise**2 + share * (1 - share) * tried.max_records / records)
    return Measurement(
        name=tried.name(f"mae_{name}"),
        title=tried.title(title + _UNIT),
        value=share * scale,
        noise_scale=noise * scale,
        low=max(0.0, share - spread) * scale,
        high=min(1.0, share + spread) * scale,
        reference=median,
        reference_title="predicting the released median (noisy)",
        threshold=threshold,
        better="lower",
    )


def _range(column: ColumnDomain) -> float:
    return column.upper[-1] - column.lower[0]
