"""How far the release's two-way tables are from the holdout's: one charged mechanism, a number a pair of columns.

For each pair of columns the release's two-way shares s, times the noisy number n of holdout records (already
released), are compared with the holdout's counts h: the sum over cells of ``|R h - round(R n s)|`` with a public
resolution R. A unit's records move the cells of each pair by k in all, so each pair's sum moves by at most R k: as many
integer queries of sensitivity R k as there are pairs. Divided by ``2 R n`` they are total variation distances; their
mean has the noise that the mean alone would have for the same cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_statistics, require_bounded
from synth.methods.base import RunOnce
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.quality.results import Measurement, NoisyCount, PairDistances
from synth.records import HOLDOUT, CodedRecords
from synth.schema import Codes, Schema

MECHANISM = "gate_pairs"
_RESOLUTION = 16
_GROUPS = 8  # per column: pair tables of 64 cells keep the sampling floor low on small holdouts
_Z95 = 1.96


def demand(schema: Schema, max_records: int, share: float) -> Demand:
    """The mechanism, with its share of what the gate may take."""
    pairs = math.comb(len(schema.columns), 2)
    return Demand(
        MECHANISM,
        (HOLDOUT,),
        share,
        integer_queries(DiscreteGaussian(1.0, _RESOLUTION * max_records, pairs)),
        "the distance of every two-way table",
        {"pairs": pairs, "resolution": _RESOLUTION},
    )


def measure(
    schema: Schema,
    plan: ReleasePlan,
    once: RunOnce,
    holdout: Sealed[CodedRecords],
    synthetic_codes: Codes,
    distributions: Sequence[npt.NDArray[np.float64]],
    records: NoisyCount,
    threshold: float | None,
) -> tuple[Measurement, PairDistances]:
    """Run the mechanism and derive the mean distance and each pair's.

    :param synthetic_codes: of released rows, shape (rows, columns).
    :param distributions: released marginals, which decide how codes are grouped.
    :param records: of the holdout, as released.
    """
    groups = [_groups(distribution) for distribution in distributions]
    synthetic = _grouped(synthetic_codes, groups)

    def measured(spend: Spend) -> dict[str, npt.NDArray[np.int64]]:
        opened, event = holdout.open(spend), plan.counts(MECHANISM)
        require_bounded(len(opened.codes), opened.owners, event.sensitivity // _RESOLUTION)
        exact = _distances(_grouped(opened.codes, groups), synthetic, records.value, groups)
        return {"distances": noisy_statistics(exact, event)}

    distances = once(MECHANISM, measured)["distances"] / (2 * _RESOLUTION * records.value)
    noise = plan.counts(MECHANISM).sigma / (2 * _RESOLUTION * records.value)
    mean = _mean(distances, noise, records, synthetic, groups, threshold)
    return mean, PairDistances(schema.names, tuple(float(d) for d in np.clip(distances, 0, 1)), noise)


def _mean(
    distances: npt.NDArray[np.float64],
    noise_of_each: float,
    records: NoisyCount,
    synthetic: Codes,
    groups: Sequence[npt.NDArray[np.int32]],
    threshold: float | None,
) -> Measurement:
    value = float(np.clip(distances.mean(), 0, 1))
    noise = noise_of_each / math.sqrt(len(distances))
    floor = float(
        np.mean(
            [
                0.5 * np.sqrt(2 * share * (1 - share) / (math.pi * records.value)).sum()
                for share in _pair_shares(synthetic, groups)
            ]
        )
    )
    # n is noisy too: h/n and h/n' differ by |1 - n/n'| in L1, so a distance by at most half of the relative error.
    noise = math.hypot(noise, records.noise / (2 * records.value))
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
