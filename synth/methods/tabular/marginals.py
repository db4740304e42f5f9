"""From noisy one-way counts to distributions, and low-variance draws from them. All of it is post-processing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from synth.schema import Codes, Schema

Probabilities = npt.NDArray[np.float64]


def estimate_distributions(schema: Schema, noisy: Sequence[npt.NDArray[np.int64]]) -> tuple[list[Probabilities], float]:
    """A distribution over each column's codes, and the estimated number of rows.

    Every column's counts add up to the same unknown number of rows, so its estimate is their mean. Null gets no mass
    where the contract does not allow it.
    """
    rows = max(1.0, float(np.mean([counts.sum() for counts in noisy])))
    distributions = []
    for column, counts in zip(schema.columns, noisy, strict=True):
        allowed = column.size if column.nullable else column.cells
        projected = project_to_simplex(counts[:allowed] / rows)
        distributions.append(np.pad(projected, (0, column.size - allowed)))
    return distributions, rows


def project_to_simplex(values: npt.ArrayLike) -> Probabilities:
    """The closest probability vector in Euclidean distance (Held, Wolfe, Crowder, 1974)."""
    given = np.asarray(values, dtype=np.float64)
    descending = np.sort(given)[::-1]
    excess = (np.cumsum(descending) - 1) / np.arange(1, len(given) + 1)
    threshold = excess[np.flatnonzero(descending > excess)[-1]]
    projected = np.maximum(given - threshold, 0)
    return np.asarray(projected / projected.sum())


def systematic_sample(distribution: Probabilities, count: int, generator: np.random.Generator) -> Codes:
    """``count`` draws in random order whose shares differ from the distribution by less than one draw a code."""
    points = (np.arange(count) + generator.random()) / count
    cumulative = np.cumsum(distribution)
    codes = np.searchsorted(cumulative / cumulative[-1], points, side="right")
    last = int(np.flatnonzero(distribution)[-1])
    return generator.permutation(np.minimum(codes, last)).astype(np.int32)


def systematic_labels(probabilities: Probabilities, generator: np.random.Generator) -> Codes:
    """One label a row from its class probabilities, shape (rows, classes), with low variance.

    Rows are taken in order of their probabilities and meet the points of a golden-ratio sequence, so that rows with
    nearly the same probabilities get labels in nearly those shares.
    """
    order = np.lexsort(probabilities.T)
    golden = (np.sqrt(5) - 1) / 2
    points = np.empty(len(probabilities))
    points[order] = (generator.random() + golden * np.arange(len(order))) % 1
    cumulative = np.cumsum(probabilities, axis=1)
    labels = (points[:, None] >= cumulative[:, :-1]).sum(axis=1)
    return labels.astype(np.int32)
