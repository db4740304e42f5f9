"""Mechanisms on integer data: histograms and counts with discrete Gaussian noise, and choices by score, from OpenDP.

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
from itertools import combinations

import numpy as np
import numpy.typing as npt
import opendp.prelude as dp

from synth.events import DiscreteGaussian, ExponentialSelection
from synth.randomness import seeded_generator
from synth.records import Owners

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
    require_bounded(len(codes), owners, event.sensitivity)
    return noisy_integers(np.bincount(codes, minlength=size), event.sigma)


def noisy_marginals(
    codes: npt.NDArray[np.integer], sizes: Sequence[int], event: DiscreteGaussian, owners: Owners | None = None
) -> list[Counts]:
    """A noisy histogram of every column. ``codes`` has shape (rows, columns); one array of shape (size,) a column.

    *Sensitivity.* A unit's at most k rows move each column's histogram as in :func:`noisy_histogram`: as many integer
    queries of sensitivity k as there are columns.
    """
    _require(event, compositions=len(sizes))
    require_bounded(len(codes), owners, event.sensitivity)
    exact = [np.bincount(codes[:, i], minlength=size) for i, size in enumerate(sizes)]
    noisy = noisy_integers(np.concatenate(exact), event.sigma)
    return np.split(noisy, np.cumsum(sizes)[:-1])


def noisy_pairs(
    codes: npt.NDArray[np.integer],
    sizes: Sequence[int],
    event: DiscreteGaussian,
    owners: Owners | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> list[Counts]:
    """A noisy two-way table of every pair of columns, in the order of ``itertools.combinations``, or of some pairs.

    :param codes: shape (rows, columns); a row counts in the tables of those columns in which it has no code below 0.
    :returns: one array of shape (size of the first, size of the second) a pair.

    *Sensitivity.* A unit's at most k rows move each table as in :func:`noisy_histogram`: as many integer queries of
    sensitivity k as there are pairs. Cost: one pass over the rows for each pair, and a draw for each cell.
    """
    pairs = list(combinations(range(len(sizes)), 2)) if pairs is None else pairs
    return noisy_tables(codes, sizes, pairs, event, owners)


def noisy_tables(
    codes: npt.NDArray[np.integer],
    sizes: Sequence[int],
    columns: Sequence[tuple[int, ...]],
    event: DiscreteGaussian,
    owners: Owners | None = None,
) -> list[Counts]:
    """A noisy table of the codes of each of some sets of columns, shape (size of the first, ...).

    A row counts in the tables of those columns in which it has no code below 0. Sensitivity as in
    :func:`noisy_pairs`, of as many queries as tables.
    """
    _require(event, compositions=len(columns))
    require_bounded(len(codes), owners, event.sensitivity)
    exact = [exact_table(codes, sizes, chosen).ravel() for chosen in columns]
    noisy = noisy_integers(np.concatenate(exact), event.sigma)
    parts = np.split(noisy, np.cumsum([len(part) for part in exact])[:-1])
    return [part.reshape([sizes[i] for i in chosen]) for chosen, part in zip(columns, parts, strict=True)]


def exact_table(codes: npt.NDArray[np.integer], sizes: Sequence[int], columns: tuple[int, ...]) -> Counts:
    """How many rows hold each combination of codes. Private: for inside a mechanism, which adds noise or scores it."""
    shape = [sizes[i] for i in columns]
    known = np.logical_and.reduce([codes[:, i] >= 0 for i in columns])
    cells = np.zeros(int(known.sum()), np.int64)
    for i in columns:
        cells *= sizes[i]
        cells += codes[known, i]
    return np.bincount(cells, minlength=math.prod(shape)).reshape(shape)


def selected(scores: npt.ArrayLike, event: ExponentialSelection) -> int:
    """The place of one of some integer scores, a high one most likely: the exponential mechanism.

    OpenDP samples it exactly, in integer arithmetic. That a unit moves each score by at most the event's sensitivity
    is the caller's argument.
    """
    if event.compositions != 1:
        raise ValueError(f"Expected an event of one choice, given {event.compositions}.")
    exact = np.asarray(scores, dtype=np.int64)
    generator = seeded_generator()
    if generator is not None:  # NOT PRIVATE: OpenDP takes no seed
        return int(np.argmax(exact + generator.gumbel(0.0, event.scale, exact.shape)))
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64")
    # The exponential mechanism is what OpenDP has for noisy max under zero-concentrated DP.
    choose = dp.m.make_noisy_max(*space, dp.zero_concentrated_divergence(), scale=event.scale)
    return int(choose(exact.tolist()))


def noisy_weighted_histograms(
    codes: npt.NDArray[np.integer],
    sizes: Sequence[int],
    weights: npt.NDArray[np.integer],
    most: int,
    event: DiscreteGaussian,
    owners: Owners | None = None,
) -> Counts:
    """For every column and each of its codes, the noisy sum of the weights of the rows that have it.

    :param codes: shape (rows, columns).
    :param weights: integers of shape (rows, weights); the sizes of a row's weights add up to ``most`` or less.
    :returns: shape (codes of all columns, weights).

    *Sensitivity.* In each column a row adds its weights to the cells of one code, so that a unit's at most k rows move
    these integers by k times ``most`` in all. As for counts that costs no more than a move of so much in one cell: as
    many integer queries of sensitivity k times ``most`` as there are columns.
    """
    _require(event, compositions=len(sizes))
    # In floating point, where the smallest integer, which is what NaN becomes, has a size.
    if event.sensitivity % most or (len(weights) and np.abs(weights.astype(np.float64)).sum(axis=1).max() > most):
        raise ValueError(f"Expected weights of at most {most} a row and a sensitivity that is a multiple of it.")
    require_bounded(len(codes), owners, event.sensitivity // most)
    exact = [
        np.bincount(codes[:, i], weights[:, w], minlength=size)
        for i, size in enumerate(sizes)
        for w in range(weights.shape[1])
    ]
    # Sums of integers below 2**53 are exact in floating point.
    stacked = [np.stack(exact[i * weights.shape[1] : (i + 1) * weights.shape[1]], axis=1) for i in range(len(sizes))]
    return noisy_integers(np.concatenate(stacked), event.sigma)


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


def require_bounded(rows: int, owners: Owners | None, most: int) -> None:
    """A bound that is only believed is no bound: a unit with more rows than the event charges for ends the release."""
    if owners is None:
        return
    if len(owners) != rows or (rows and np.bincount(owners).max() > most):
        raise ValueError(f"Expected one owner a row and at most {most} rows a unit: contributions were not bounded.")
