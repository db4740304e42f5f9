"""The gate: two charged mechanisms on the holdout, from which every quality number is post-processed.

*Outcomes.* Two consumers' models (gradient boosting, logistic regression) are trained on the release alone; they and
the synthesizer's own label model are tried on each holdout record, and the histogram of (first right?, second right?,
third right?) is released. A unit's at most k records move the counts by k in all: one integer query of sensitivity k
gives all accuracies and their denominator.

*Pairs.* For each pair of columns the release's two-way shares s, times the noisy number n of holdout records (already
released), are compared with the holdout's counts h: the sum over cells of ``|R h - round(R n s)|`` with a public
resolution R. A unit's records move the cells of each pair by k in all, so each pair's sum moves by at most R k: as many
integer queries of sensitivity R k as there are pairs. Divided by ``2 R n`` they are total variation distances; their
mean has the noise that the mean alone would have for the same cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from synth.contract import Contract
from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_histogram, noisy_statistics
from synth.methods.base import RunOnce
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.quality.learners import Learner, features
from synth.quality.results import Measurement, PairDistances
from synth.records import HOLDOUT, Records
from synth.schema import Codes, Schema

_RESOLUTION = 16
_TITLES = (
    "Accuracy of gradient boosting trained on the release, tried on the holdout",
    "Accuracy of logistic regression trained on the release, tried on the holdout",
    "Accuracy of the label model itself, tried on the holdout",
)
_GROUPS = 8  # per column: pair tables of 64 cells keep the sampling floor low on small holdouts
_Z95 = 1.96
_PREDICTORS = ("gradient_boosting", "logistic_regression", "label_model")
_OUTCOMES = 2 ** len(_PREDICTORS)


def demands(schema: Schema, max_records: int) -> Sequence[Demand]:
    """Both mechanisms; they divide what the gate may take equally."""
    pairs = math.comb(len(schema.columns), 2)
    return (
        Demand(
            "gate_outcomes",
            (HOLDOUT,),
            0.5,
            integer_queries(DiscreteGaussian(1.0, max_records)),
            "a histogram of which models were right",
            {"cells": _OUTCOMES},
        ),
        Demand(
            "gate_pairs",
            (HOLDOUT,),
            0.5,
            integer_queries(DiscreteGaussian(1.0, _RESOLUTION * max_records, pairs)),
            "the distance of every two-way table",
            {"pairs": pairs, "resolution": _RESOLUTION},
        ),
    )


def measure(
    *,
    contract: Contract,
    schema: Schema,
    plan: ReleasePlan,
    once: RunOnce,
    learners: tuple[Learner, Learner],
    label_model: Callable[[Codes], Codes],
    holdout: Sealed[Records],
    synthetic_codes: Codes,
    distributions: Sequence[npt.NDArray[np.float64]],
) -> tuple[tuple[Measurement, ...], PairDistances]:
    """Run both mechanisms on the private holdout and derive the numbers.

    :param learners: trained on the release.
    :param label_model: the label of each row of codes by the synthesizer itself.
    :param synthetic_codes: of released rows, shape (rows, columns).
    :param distributions: released marginals, which decide how codes are grouped for pairs.
    """
    coded = holdout.then(lambda records: records.encoded(schema.encode))

    def outcomes(spend: Spend) -> dict[str, npt.NDArray[np.int64]]:
        codes, owners = coded.open(spend).codes, coded.open(spend).owners
        labels = codes[:, schema.target_index]
        cells = np.zeros(len(labels), np.int32)
        if len(labels):  # some learners refuse to predict for nobody, which would tell that nobody is there
            inputs = features(schema, holdout.open(spend).parsed)
            predicted = [*(learner.predict(inputs) for learner in learners), label_model(codes)]
            for bit, answer in enumerate(predicted):
                cells += (answer == labels).astype(np.int32) << bit
        return {"counts": noisy_histogram(cells, _OUTCOMES, plan.counts("gate_outcomes"), owners)}

    counts = once("gate_outcomes", outcomes)["counts"].astype(np.float64)
    records = max(1.0, float(counts.sum()))
    groups = [_groups(distribution) for distribution in distributions]
    synthetic = _grouped(synthetic_codes, groups)

    def pairs(spend: Spend) -> dict[str, npt.NDArray[np.int64]]:
        exact = _distances(_grouped(coded.open(spend).codes, groups), synthetic, records, groups)
        return {"distances": noisy_statistics(exact, plan.counts("gate_pairs"))}

    distances = once("gate_pairs", pairs)["distances"] / (2 * _RESOLUTION * records)
    sigma = plan.counts("gate_outcomes").sigma
    floor = _majority(distributions[schema.target_index])
    quality = contract.quality
    thresholds = (quality.min_accuracy_gradient_boosting, quality.min_accuracy_logistic_regression, None)
    independent = records / contract.privacy.max_records
    accuracies = [
        _accuracy(
            name,
            title,
            counts[np.arange(_OUTCOMES) >> bit & 1 == 1].sum(),
            records,
            independent,
            sigma,
            floor,
            threshold,
        )
        for bit, (name, title, threshold) in enumerate(zip(_PREDICTORS, _TITLES, thresholds, strict=True))
    ]
    noise = plan.counts("gate_pairs").sigma / (2 * _RESOLUTION * records)
    mean = _pair_distance(
        distances, noise, sigma * math.sqrt(_OUTCOMES), records, synthetic, groups, quality.max_pair_distance
    )
    pairwise = PairDistances(schema.names, tuple(float(d) for d in np.clip(distances, 0, 1)), noise)
    return (*accuracies, mean), pairwise


def _accuracy(
    name: str,
    title: str,
    right: float,
    records: float,
    independent: float,
    sigma: float,
    floor: float,
    threshold: float | None,
) -> Measurement:
    """:param independent: how many records the holdout is worth, at least, if those of one unit are all alike."""
    share = float(np.clip(right / records, 0, 1))
    # right and wrong are sums of half of the noisy cells each; the ratio's error to first order
    noise = sigma * math.sqrt(_OUTCOMES / 2 * (share**2 + (1 - share) ** 2)) / records
    spread = _Z95 * math.sqrt(noise**2 + share * (1 - share) / independent)
    return Measurement(
        name=f"accuracy_{name}",
        title=title,
        value=share,
        noise_scale=noise,
        low=max(0.0, share - spread),
        high=min(1.0, share + spread),
        reference=floor,
        reference_title="share of the commonest label (noisy)",
        threshold=threshold,
        better="higher",
    )


def _pair_distance(
    distances: npt.NDArray[np.float64],
    noise_of_each: float,
    noise_of_records: float,
    records: float,
    synthetic: Codes,
    groups: Sequence[npt.NDArray[np.int32]],
    threshold: float | None,
) -> Measurement:
    value = float(np.clip(distances.mean(), 0, 1))
    noise = noise_of_each / math.sqrt(len(distances))
    floor = float(
        np.mean(
            [
                0.5 * np.sqrt(2 * share * (1 - share) / (math.pi * records)).sum()
                for share in _pair_shares(synthetic, groups)
            ]
        )
    )
    # n is noisy too: h/n and h/n' differ by |1 - n/n'| in L1, so a distance by at most half of the relative error.
    noise = math.hypot(noise, noise_of_records / (2 * records))
    return Measurement(
        name="pair_distance",
        title="Mean total variation distance of all pairs of columns, release to this very holdout",
        value=value,
        noise_scale=noise,
        low=max(0.0, value - _Z95 * noise),
        high=min(1.0, value + _Z95 * noise),
        reference=floor,
        reference_title="sampling floor: a perfect release on so many independent records",
        threshold=threshold,
        better="lower",
    )


def _distances(
    holdout: Codes, synthetic: Codes, records: float, groups: Sequence[npt.NDArray[np.int32]]
) -> npt.NDArray[np.int64]:
    """Un-noised sums of all pairs, shape (pairs,). Private."""
    distances = []
    shares = _pair_shares(synthetic, groups)
    for (i, j), share in zip(combinations(range(len(groups)), 2), shares, strict=True):
        expected = np.round(_RESOLUTION * records * share).astype(np.int64)
        width = int(groups[j].max()) + 1
        counted = np.bincount(holdout[:, i] * width + holdout[:, j], minlength=len(share))
        distances.append(np.abs(_RESOLUTION * counted - expected).sum())
    return np.array(distances, dtype=np.int64)


def _pair_shares(synthetic: Codes, groups: Sequence[npt.NDArray[np.int32]]) -> list[npt.NDArray[np.float64]]:
    sizes = [int(group.max()) + 1 for group in groups]
    return [
        np.bincount(synthetic[:, i] * sizes[j] + synthetic[:, j], minlength=sizes[i] * sizes[j]) / len(synthetic)
        for i, j in combinations(range(len(groups)), 2)
    ]


def _groups(distribution: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """A group for each code: at most eight of about equal released mass for the values, one for null."""
    cells = distribution[:-1]
    if len(cells) <= _GROUPS:
        groups = np.arange(len(cells))
    else:
        middles = np.cumsum(cells) - cells / 2
        groups = np.unique(np.minimum((middles * _GROUPS).astype(int), _GROUPS - 1), return_inverse=True)[1]
    return np.append(groups, groups.max() + 1).astype(np.int32)


def _grouped(codes: Codes, groups: Sequence[npt.NDArray[np.int32]]) -> Codes:
    return np.column_stack([group[codes[:, i]] for i, group in enumerate(groups)])


def _majority(label_share: npt.NDArray[np.float64]) -> float:
    return float(label_share[:-1].max() / max(label_share[:-1].sum(), 1e-12))
