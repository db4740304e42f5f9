"""Which consumers' models are right about holdout records: one charged mechanism for a target of classes.

Two consumers' models (gradient boosting, logistic regression) are trained on the release alone; they and the
synthesizer's own label model are tried on each holdout record, and the histogram of (first right?, second right?,
third right?) is released. A unit's at most k records move the counts by k in all: one integer query of sensitivity k
gives all accuracies and their denominator.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from synth.contract import Quality
from synth.events import DiscreteGaussian
from synth.guard import Spend
from synth.mechanisms import noisy_histogram
from synth.methods.base import RunOnce
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.quality.results import Measurement, NoisyCount
from synth.quality.tried import Tried
from synth.records import HOLDOUT

_PREDICTORS = ("gradient_boosting", "logistic_regression", "label_model")
_TITLES = (
    "Accuracy of gradient boosting trained on the release, tried on the holdout",
    "Accuracy of logistic regression trained on the release, tried on the holdout",
    "Accuracy of the label model itself, tried on the holdout",
)
_CELLS = 2 ** len(_PREDICTORS)
_Z95 = 1.96


def demand(mechanism: str, target: str, max_records: int, share: float) -> Demand:
    """The mechanism, with its share of what the gate may take."""
    return Demand(
        mechanism,
        (HOLDOUT,),
        share,
        integer_queries(DiscreteGaussian(1.0, max_records)),
        f"a histogram of which models were right about {target}",
        {"cells": _CELLS, "target": target},
    )


def measure(tried: Tried, plan: ReleasePlan, once: RunOnce, quality: Quality) -> tuple[list[Measurement], NoisyCount]:
    """Run the mechanism and derive the accuracies, and the noisy number of holdout records."""
    event = plan.counts(tried.mechanism)

    def outcomes(spend: Spend) -> dict[str, npt.NDArray[np.int64]]:
        codes, owners = tried.coded.open(spend).codes, tried.coded.open(spend).owners
        labels = codes[:, tried.schema.names.index(tried.target)]
        cells = np.zeros(len(labels), np.int32)
        for bit, answer in enumerate(tried.answers(spend)):
            cells += (answer == labels).astype(np.int32) << bit
        return {"counts": noisy_histogram(cells, _CELLS, event, owners)}

    counts = once(tried.mechanism, outcomes)["counts"].astype(np.float64)
    records = NoisyCount(max(1.0, float(counts.sum())), event.sigma * math.sqrt(_CELLS))
    thresholds = (quality.min_accuracy_gradient_boosting, quality.min_accuracy_logistic_regression, None)
    right = [counts[np.arange(_CELLS) >> bit & 1 == 1].sum() for bit in range(len(_PREDICTORS))]
    floor = _majority(tried.distribution)
    accuracies = [
        _accuracy(tried, f"accuracy_{name}", title, found, records, floor, threshold)
        for name, title, found, threshold in zip(_PREDICTORS, _TITLES, right, thresholds, strict=True)
    ]
    return accuracies, records


def _accuracy(
    tried: Tried, name: str, title: str, right: float, records: NoisyCount, floor: float, threshold: float | None
) -> Measurement:
    share = float(np.clip(right / records.value, 0, 1))
    # right and wrong are sums of half of the noisy cells each; the ratio's error to first order
    noise = records.noise * math.sqrt((share**2 + (1 - share) ** 2) / 2) / records.value
    independent = (
        records.value / tried.max_records
    )  # what the holdout is worth, at least, if a unit's records are all alike
    spread = _Z95 * math.sqrt(noise**2 + share * (1 - share) / independent)
    return Measurement(
        name=tried.name(name),
        title=tried.title(title),
        value=share,
        noise_scale=noise,
        low=max(0.0, share - spread),
        high=min(1.0, share + spread),
        reference=floor,
        reference_title="share of the commonest label (noisy)",
        threshold=threshold,
        better="higher",
    )


def _majority(label_share: npt.NDArray[np.float64]) -> float:
    return float(label_share[:-1].max() / max(label_share[:-1].sum(), 1e-12))
