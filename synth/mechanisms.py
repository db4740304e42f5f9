"""Mechanisms on integer data: histograms and counts with discrete Gaussian noise from OpenDP.

OpenDP samples the discrete Gaussian exactly, in integer arithmetic, so there is no floating-point channel here. Its
bits come from OpenSSL's cryptographic generator, which the operating system's seeds in each process, a fork's anew.
Every function takes the event that was reserved and adds exactly that event's noise. A draw costs some ten microseconds
of a core. OpenDP draws outside of Python's lock, so long vectors are drawn in pieces on all cores; noise is independent
from number to number, so pieces are the same mechanism as the whole.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import opendp.prelude as dp

from synth.events import DiscreteGaussian
from synth.randomness import seeded_generator

Counts = npt.NDArray[np.int64]

_PIECE = 16_384  # numbers that a thread draws at a time; passing over a shorter piece costs more than it saves

dp.enable_features("contrib")


def noisy_integers(values: npt.ArrayLike, sigma: float) -> Counts:
    """Integers plus independent discrete Gaussian noise of scale ``sigma``; same shape.

    Sensitivity is the caller's argument; cost is linear in the number of values, some ten microseconds of a core
    each.
    """
    exact = np.asarray(values, dtype=np.int64)
    generator = seeded_generator()
    if generator is not None:  # NOT PRIVATE: OpenDP takes no seed, so a rounded Gaussian stands in
        return exact + np.rint(generator.normal(0.0, sigma, exact.shape)).astype(np.int64)
    pieces = np.array_split(exact.ravel(), max(1, math.ceil(exact.size / _PIECE)))
    if len(pieces) == 1:
        return _drawn(pieces[0], sigma).reshape(exact.shape)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        drawn = list(threads.map(lambda piece: _drawn(piece, sigma), pieces))
    return np.concatenate(drawn).reshape(exact.shape)


def _drawn(exact: Counts, sigma: float) -> Counts:
    """A piece with its noise, by a measurement of its own: threads share nothing."""
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    noise = dp.m.make_gaussian(*space, scale=sigma)
    return np.array(noise(exact.tolist()), dtype=np.int64)


def noisy_histogram(codes: npt.NDArray[np.integer], size: int, event: DiscreteGaussian) -> Counts:
    """How many rows hold each of ``size`` codes, with noise. Shape (size,).

    *Sensitivity.* A unit has one row, so adding or removing it moves one cell by one and leaves the others: one
    integer query of sensitivity 1, whichever cell it is.
    """
    _require(event, compositions=1)
    return noisy_integers(np.bincount(codes, minlength=size), event.sigma)


def noisy_marginals(codes: npt.NDArray[np.integer], sizes: Sequence[int], event: DiscreteGaussian) -> list[Counts]:
    """A noisy histogram of every column. ``codes`` has shape (rows, columns); one array of shape (size,) a column.

    *Sensitivity.* A unit's one row moves one cell in each column's histogram by one: as many integer queries of
    sensitivity 1 as there are columns.
    """
    _require(event, compositions=len(sizes))
    exact = [np.bincount(codes[:, i], minlength=size) for i, size in enumerate(sizes)]
    noisy = noisy_integers(np.concatenate(exact), event.sigma)
    return np.split(noisy, np.cumsum(sizes)[:-1])


def noisy_counts(masks: npt.NDArray[np.bool_], event: DiscreteGaussian) -> Counts:
    """How many rows have each property. ``masks`` has shape (rows, properties); result (properties,).

    *Sensitivity.* Each property is decided by a row alone, and a unit has one row: as many integer queries of
    sensitivity 1 as there are properties.
    """
    _require(event, compositions=masks.shape[1])
    return noisy_integers(masks.sum(axis=0), event.sigma)


def noisy_statistics(values: npt.ArrayLike, event: DiscreteGaussian) -> Counts:
    """Integer statistics with noise, same shape; the caller shows that a unit moves each by at most the sensitivity."""
    exact = np.asarray(values, dtype=np.int64)
    if event.compositions != exact.size:
        raise ValueError(f"Expected one composition a statistic, given {event.compositions} for {exact.size}.")
    return noisy_integers(exact, event.sigma)


def _require(event: DiscreteGaussian, *, compositions: int) -> None:
    if event.sensitivity != 1 or event.compositions != compositions:
        raise ValueError(
            f"Expected an event of sensitivity 1 and {compositions} compositions, given sensitivity "
            f"{event.sensitivity} and {event.compositions} compositions: the plan does not describe this release."
        )
