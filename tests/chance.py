"""P-values for the statistical tests.

A check asserts that a p-value is at least ``ALPHA``, so a right mechanism fails it once in a million runs, or the check
states its own rate. Every check is also given broken mechanisms, which it must catch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

ALPHA = 1e-6


def histogram_p(observed: Mapping[int, int], pmf: Callable[[int], float]) -> float:
    """Chi-square p-value of counts of integers against a distribution; neighbours are pooled to 30 expected or more."""
    total = sum(observed.values())
    counts, expected = [0], [0.0]
    for value in range(min(observed) - 50, max(observed) + 51):
        if expected[-1] >= 30:
            counts.append(0)
            expected.append(0.0)
        counts[-1] += observed.get(value, 0)
        expected[-1] += total * pmf(value)
    if len(expected) > 1 and expected[-1] < 30:
        counts[-2:], expected[-2:] = [sum(counts[-2:])], [sum(expected[-2:])]
    assert len(counts) > 1, "too few draws for a test"
    expected[-1] += max(0.0, total - sum(expected))
    statistic = float(np.sum((np.array(counts) - np.array(expected)) ** 2 / np.array(expected)))
    return float(stats.chi2.sf(statistic, len(counts) - 1))


def normal_scale_p(sample: npt.NDArray[np.floating], sigma: float) -> float:
    """Two-sided p-value that independent normal draws of mean zero have standard deviation ``sigma``."""
    statistic = float(np.sum((sample / sigma) ** 2))
    lower = stats.chi2.cdf(statistic, sample.size)
    return float(2 * min(lower, stats.chi2.sf(statistic, sample.size)))


def rate_p(successes: int, trials: int, rate: float) -> float:
    """Two-sided p-value that coins fall with this rate."""
    return float(stats.binomtest(successes, trials, rate).pvalue)


def delta_at_least(
    first: npt.NDArray[np.number], second: npt.NDArray[np.number], epsilon: float, thresholds: Sequence[float]
) -> float:
    """With confidence 1 − ALPHA a lower bound on δ at ε, from a statistic of releases of two neighbours.

    The worst event "at least t" or "below t": P[event | one] − exp(ε) P[event | other] (Clopper and Pearson, 1934).
    """
    level = ALPHA / (2 * 2 * 2 * len(thresholds))  # two bounds, two events at each threshold, two directions
    worst = -math.inf
    for threshold in thresholds:
        for ones, others in ((first, second), (second, first)):
            for inside in (True, False):
                hits = [int(((sample >= threshold) == inside).sum()) for sample in (ones, others)]
                trials = [len(ones), len(others)]
                low = stats.beta.ppf(level, hits[0], trials[0] - hits[0] + 1) if hits[0] else 0.0
                high = stats.beta.isf(level, hits[1] + 1, trials[1] - hits[1]) if hits[1] < trials[1] else 1.0
                worst = max(worst, float(low - math.exp(epsilon) * high))
    return worst


def discrete_gaussian_pmf(sigma: float) -> Callable[[int], float]:
    """Of the discrete Gaussian with mean zero (Canonne, Kamath, Steinke, 2020)."""
    reach = int(12 * sigma) + 3
    normaliser = sum(np.exp(-(k**2) / (2 * sigma**2)) for k in range(-reach, reach + 1))
    return lambda k: float(np.exp(-(k**2) / (2 * sigma**2)) / normaliser)
