"""From noisy one-way counts to distributions, and low-variance draws from them. All of it is post-processing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from synth.methods.tabular.densities import smooth_density
from synth.schema import Codes, ColumnDomain, Schema

Probabilities = npt.NDArray[np.float64]

_UNLIKELY = 2.5  # standard deviations from which a run of cells is not taken as even
_SPIKE = 0.5  # by how many more the highest of its cells may stand out
_SPIKE_WIDTH = 1e-3  # of a cell that is one real number, over the narrowest other
_LEAST_SHAPE = 1e-4  # of the whole, spread over all cells by their widths


def estimate_distributions(
    schema: Schema, noisy: Sequence[npt.NDArray[np.int64] | Probabilities]
) -> tuple[list[Probabilities], float]:
    """A distribution over each column's codes, and the estimated number of rows.

    Every column's counts add up to the same unknown number of rows, with as much noise as there are cells, so its
    estimate is their mean, weighted by that. Null gets no mass where the contract does not allow it.
    """
    cells = np.array([len(counts) for counts in noisy])
    rows = max(1.0, float(np.average([counts.sum() for counts in noisy], weights=1 / cells)))
    distributions = []
    for column, counts in zip(schema.columns, noisy, strict=True):
        allowed = column.size if column.nullable else column.cells
        projected = project_to_simplex(counts[:allowed] / rows)
        distributions.append(np.pad(projected, (0, column.size - allowed)))
    return distributions, rows


def smoothed(column: ColumnDomain, noisy: npt.NDArray[np.int64], sigma: float) -> Probabilities:
    """Noisy counts of a numeric column's cells, evened out over runs of cells that the noise cannot tell from a shape.

    The shape is a smooth density with spikes: :mod:`synth.methods.tabular.densities`. A run, halved again and again, is
    taken as of that shape where its halves, its highest cell and all of its cells together depart from it no more than
    the noise would. So what the shape has missed is still found, weak spikes or an edge, and empty stretches are empty.
    """
    cells = noisy[: column.cells].astype(np.float64)
    if not column.is_numeric:
        return np.append(cells, noisy[column.cells :])
    lower, upper, step = np.asarray(column.lower), np.asarray(column.upper), float(column.step)
    density = smooth_density(lower, upper, step, cells, sigma)
    shape = np.maximum(density, _least_shape(upper - lower + step) * max(float(density.sum()), 1.0))
    result = cells.copy()
    runs = [(0, len(cells))]
    while runs:
        low, high = runs.pop()
        if high - low < 2:
            continue
        middle, total = (low + high) // 2, max(cells[low:high].sum(), 0.0)
        share = shape[low:high] / shape[low:high].sum()
        apart, variance = cells[low:high] - total * share, sigma**2 + total * share
        half = middle - low
        left = share[:half].sum()
        spread = math.sqrt(
            sigma**2 * (half * (1 - left) ** 2 + (high - middle) * left**2) + total * left * (1 - left) + 1e-9
        )
        sizes = np.abs(apart) / np.sqrt(variance)
        count = high - low
        if (
            abs(apart[:half].sum()) < _UNLIKELY * spread
            and sizes.max() < math.sqrt(2 * math.log(count)) + _SPIKE
            and (sizes**2).sum() < count + _UNLIKELY * math.sqrt(2 * count)
        ):
            # The sum of all cells has the noise of all of them: the shape's own total is surer.
            result[low:high] = density if count == len(cells) else total * share
        else:
            runs += [(low, middle), (middle, high)]
    return np.append(result, noisy[column.cells :])


def _least_shape(widths: npt.NDArray[np.float64]) -> Probabilities:
    """What of the whole a cell has in any shape, by its width."""
    widths = np.maximum(widths, widths[widths > 0].min(initial=np.inf) * _SPIKE_WIDTH if (widths > 0).any() else 1.0)
    return np.asarray(_LEAST_SHAPE * widths / widths.sum())


def project_to_simplex(values: npt.ArrayLike) -> Probabilities:
    """The closest probability vector in Euclidean distance (Held, Wolfe, Crowder, 1974)."""
    given = np.asarray(values, dtype=np.float64)
    descending = np.sort(given)[::-1]
    excess = (np.cumsum(descending) - 1) / np.arange(1, len(given) + 1)
    threshold = excess[np.flatnonzero(descending > excess)[-1]]
    projected = np.maximum(given - threshold, 0)
    return np.asarray(projected / projected.sum())


def softmax(logits: npt.NDArray[np.float64]) -> Probabilities:
    """Class probabilities, row by row."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


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
