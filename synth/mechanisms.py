"""Mechanisms on integer data: histograms and counts with discrete Gaussian noise from OpenDP.

OpenDP samples the discrete Gaussian exactly, in integer arithmetic, from the operating system's entropy, so there is
no floating-point channel here. Every function takes the event that was reserved and adds exactly that event's noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import opendp.prelude as dp

from synth.events import DiscreteGaussian
from synth.records import Owners

Counts = npt.NDArray[np.int64]

dp.enable_features("contrib")


def noisy_integers(values: npt.ArrayLike, sigma: float) -> Counts:
    """Integers plus independent discrete Gaussian noise of scale ``sigma``; same shape.

    Sensitivity is the caller's argument; cost is linear in the number of values, some microseconds each.
    """
    exact = np.asarray(values, dtype=np.int64)
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    noise = dp.m.make_gaussian(*space, scale=sigma)
    return np.array(noise(exact.ravel().tolist()), dtype=np.int64).reshape(exact.shape)


def noisy_histogram(
    codes: npt.NDArray[np.integer], size: int, event: DiscreteGaussian, owners: Owners | None = None
) -> Counts:
    """How many rows hold each of ``size`` codes, with noise. Shape (size,).

    *Sensitivity.* A unit has at most k rows, so adding or removing it moves the counts by k in all: the vector of moves
    has an L2 norm of at most k, reached where all of its rows are in one cell. That is one integer query of sensitivity
    k; with k = 1 it is one cell, whichever it is, by one.

    :param owners: the unit of each row; without it each row is a unit of its own.
    """
    _require(event, compositions=1)
    _require_bounded(len(codes), owners, event.sensitivity)
    return noisy_integers(np.bincount(codes, minlength=size), event.sigma)


def noisy_marginals(
    codes: npt.NDArray[np.integer], sizes: Sequence[int], event: DiscreteGaussian, owners: Owners | None = None
) -> list[Counts]:
    """A noisy histogram of every column. ``codes`` has shape (rows, columns); one array of shape (size,) a column.

    *Sensitivity.* A unit's at most k rows move each column's histogram as in :func:`noisy_histogram`: as many integer
    queries of sensitivity k as there are columns.
    """
    _require(event, compositions=len(sizes))
    _require_bounded(len(codes), owners, event.sensitivity)
    exact = [np.bincount(codes[:, i], minlength=size) for i, size in enumerate(sizes)]
    noisy = noisy_integers(np.concatenate(exact), event.sigma)
    return np.split(noisy, np.cumsum(sizes)[:-1])


def noisy_counts(masks: npt.NDArray[np.bool_], event: DiscreteGaussian) -> Counts:
    """How many units have each property. ``masks`` has shape (units, properties); result (properties,).

    *Sensitivity.* Each property is decided by a unit alone, which counts once: as many integer queries of sensitivity 1
    as there are properties.
    """
    _require(event, compositions=masks.shape[1], sensitivity=1)
    return noisy_integers(masks.sum(axis=0), event.sigma)


def noisy_statistics(values: npt.ArrayLike, event: DiscreteGaussian) -> Counts:
    """Integer statistics with noise, same shape; the caller shows that a unit moves each by at most the sensitivity."""
    exact = np.asarray(values, dtype=np.int64)
    if event.compositions != exact.size:
        raise ValueError(f"Expected one composition a statistic, given {event.compositions} for {exact.size}.")
    return noisy_integers(exact, event.sigma)


def _require(event: DiscreteGaussian, *, compositions: int, sensitivity: int | None = None) -> None:
    expected = (sensitivity or event.sensitivity, compositions)
    if (event.sensitivity, event.compositions) != expected:
        raise ValueError(
            f"Expected an event of sensitivity {expected[0]} and {expected[1]} compositions, given sensitivity "
            f"{event.sensitivity} and {event.compositions} compositions: the plan does not describe this release."
        )


def _require_bounded(rows: int, owners: Owners | None, most: int) -> None:
    """A bound that is only believed is no bound: a unit with more rows than the event charges for ends the release."""
    if owners is None:
        return
    if len(owners) != rows or (rows and np.bincount(owners).max() > most):
        raise ValueError(f"Expected one owner a row and at most {most} rows a unit: contributions were not bounded.")
