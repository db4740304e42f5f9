"""A smooth density, and spikes on it, for the noisy histogram of a numeric column.

On a fine grid each cell is mostly noise, while what people measure is mostly smooth: few numbers say nearly all of it.
The log density is a cubic spline over the range on a signed-log axis, penalised for bending (P-splines, Eilers and
Marx, 1996), with Poisson's variance and the privacy noise's in its weights. How smooth it is, is chosen by the
estimated risk, which needs no further look, since the scale of the noise is known (Mallows' Cp). Cells that the spline
cannot explain are spikes and keep their own counts. All of it is post-processing of released counts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline
from threadpoolctl import threadpool_limits

Cells = npt.NDArray[np.float64]

_KNOTS = 32
_FEWEST = 8  # cells from which a density is worth fitting
_STRENGTHS = 10.0 ** np.arange(4, -4.1, -0.75)  # of the penalty, from straight to free
_STEPS = 8  # of Newton's method for each of them
_LONGEST = 1.5  # of one step of a coefficient
_ROUNDS = 5  # of finding spikes
_SPIKE = 0.3  # by how many standard deviations more than the highest of so many cells a spike stands out
_LOG_UNIT = 1_000  # the axis is even within the largest bound over this, and logarithmic beyond
_RIDGE = 1e-8


def smooth_density(lower: Cells, upper: Cells, step: float, noisy: Cells, sigma: float) -> Cells:
    """Expected counts of cells in order, shape (cells,): never below zero, and not scaled to any total.

    :param lower: ends of the cells; a cell of one number has both alike.
    :param step: between two values of the column, so that a cell of one value has a width; 0 of real numbers.
    :param noisy: counts with independent noise of standard deviation ``sigma``.

    Cost: some hundred least-squares problems of 34 unknowns, linear in the cells.
    """
    if len(noisy) < _FEWEST:
        return np.maximum(noisy, 0)
    with threadpool_limits(1):  # the matrices are small: threads would wait many times longer than they work
        return _smooth_density(lower, upper, step, noisy, sigma)


def _smooth_density(lower: Cells, upper: Cells, step: float, noisy: Cells, sigma: float) -> Cells:
    widths = upper - lower + step
    spread = widths > 0  # a single real number has no density, only a spike
    axis = _axis(lower, upper, step)
    basis = _basis(axis, min(_KNOTS, len(noisy) // 2))
    spikes = np.zeros(len(noisy), np.bool_)
    expected = np.zeros(len(noisy))
    limit = math.sqrt(2 * math.log(len(noisy))) + _SPIKE
    for _ in range(_ROUNDS):
        smooth = spread & ~spikes
        if smooth.sum() < _FEWEST:
            return np.maximum(noisy, 0)
        coefficients = _best(basis[smooth], widths[smooth], noisy[smooth], sigma)
        expected = np.where(spread, np.exp(_bounded(basis @ coefficients)) * np.where(spread, widths, 1), 0)
        apart = (noisy - expected) / np.sqrt(sigma**2 + expected)
        found = np.where(spread, np.abs(apart) > limit, apart > limit)
        if not (found & ~spikes).any():
            break
        spikes |= found
    return np.where(spikes, np.maximum(noisy, 0), expected)


def _axis(lower: Cells, upper: Cells, step: float) -> Cells:
    unit = max(abs(float(lower[0])), abs(float(upper[-1]))) / _LOG_UNIT
    return np.arcsinh((lower + upper) / 2 / max(unit, step))


def _basis(axis: Cells, knots: int) -> Cells:
    """Cubic B-splines with even knots, shape (cells, knots + 2)."""
    ends = axis[0], axis[-1]
    places = np.concatenate([[ends[0]] * 3, np.linspace(*ends, max(knots, 2)), [ends[1]] * 3])
    return np.asarray(BSpline.design_matrix(axis, places, 3).toarray())


def _best(basis: Cells, widths: Cells, noisy: Cells, sigma: float) -> Cells:
    """Coefficients of the log density at the penalty of least estimated risk."""
    bends = np.diff(np.eye(basis.shape[1]), 2, axis=0)
    penalty = bends.T @ bends * basis.shape[1]
    ridge = _RIDGE * np.eye(basis.shape[1])
    coefficients = np.full(basis.shape[1], math.log(max(float(noisy.sum()), 1.0) / float(widths.sum())))
    best, least = coefficients, math.inf
    for strength in _STRENGTHS:
        for _ in range(_STEPS):
            expected, curvature = _curved(basis, coefficients, widths, sigma)
            slope = (
                basis.T @ (expected * (noisy - expected) / (sigma**2 + expected)) - strength * penalty @ coefficients
            )
            step = np.clip(np.linalg.solve(curvature + strength * penalty + ridge, slope), -_LONGEST, _LONGEST)
            coefficients = coefficients + step
            if np.abs(step).max() < 0.01:
                break
        expected, curvature = _curved(basis, coefficients, widths, sigma)
        freedom = float(np.trace(np.linalg.solve(curvature + strength * penalty + ridge, curvature)))
        risk = float(((noisy - expected) ** 2 / (sigma**2 + expected)).sum()) + 2 * freedom
        if risk < least:
            best, least = coefficients, risk
    return best


def _curved(basis: Cells, coefficients: Cells, widths: Cells, sigma: float) -> tuple[Cells, Cells]:
    """Expected counts, and Fisher's information of the coefficients."""
    expected = np.exp(_bounded(basis @ coefficients)) * widths
    weights = expected**2 / (sigma**2 + expected)
    return expected, (basis * weights[:, None]).T @ basis


def _bounded(logs: Cells) -> Cells:
    return np.clip(logs, -50, 50)
