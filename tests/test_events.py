"""Events of units with several records: of all ways to spread k records, all in one cell is the costliest."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from synth import accounting
from synth.events import DiscreteGaussian

Pmf = npt.NDArray[np.float64]


def discrete_gaussian(sigma: float, reach: int) -> Pmf:
    values = np.arange(-reach, reach + 1)
    weights = np.exp(-(values**2) / (2 * sigma**2))
    return weights / weights.sum()


def spaced(pmf: Pmf, step: int) -> Pmf:
    """The distribution of ``step`` times the variable, on all integers of its range."""
    reach = len(pmf) // 2
    wide = np.zeros(2 * reach * step + 1)
    wide[::step] = pmf
    return wide


def deltas(move: tuple[int, ...], sigma: float, epsilons: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """δ(ε) of discrete Gaussian noise under a move of several cells, exactly but for tails below 1e-20.

    The privacy loss at noise x is (2⟨x, v⟩ + |v|²) / 2σ², so the distribution of ⟨x, v⟩ decides.
    """
    reach = math.ceil(10 * sigma) + 1
    noise = discrete_gaussian(sigma, reach)
    inner = np.array([1.0])
    for step in move:
        inner = np.convolve(inner, spaced(noise, step)) if step else inner
    products = np.arange(len(inner)) - len(inner) // 2
    losses = (2 * products + sum(step**2 for step in move)) / (2 * sigma**2)
    return np.maximum(0, 1 - np.exp(np.minimum(epsilons[:, None] - losses, 0))) @ inner


SIGMAS = (0.4, 0.7, 1.0, 1.6, 2.5, 5.0, 12.0)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_curve_by_hand_is_the_accountants(sigma: float) -> None:
    epsilons = np.linspace(0.05, 4, 20)
    event = DiscreteGaussian(sigma, 3)
    assert deltas((3,), sigma, epsilons) == pytest.approx(event.pld(1e-4).get_delta_for_epsilon(epsilons), abs=2e-4)


def excess(move: tuple[int, ...], whole: int, sigma: float) -> float:
    """By how much a move's curve passes that of all records in one cell, at most; at every kink of both."""
    losses = {(2 * x + sum(s**2 for s in move)) / (2 * sigma**2) for x in range(-40, 200)}
    losses |= {(2 * whole * x + whole**2) / (2 * sigma**2) for x in range(-20, 60)}
    grid = np.array([0.0, *sorted(loss for loss in losses if 0 <= loss < 60)])
    return float((deltas(move, sigma, grid) - deltas((whole,), sigma, grid)).max())


@pytest.mark.parametrize("sigma", SIGMAS)
def test_no_move_of_two_cells_costs_more_than_one_cell(sigma: float) -> None:
    """From which any move follows: cells are put together two at a time, and the rest of the release composes."""
    for whole in (2, 3, 4, 5, 7, 10, 20):
        for part in {1, whole // 2}:
            assert excess((part, whole - part), whole, sigma) <= 1e-13


def curve_of_two(move: tuple[int, int], sigma: float, epsilons: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """As :func:`deltas`, for two large moves: the noise of one cell decides how much the other's must be."""
    a, b = move
    reach = math.ceil(10 * sigma) + abs(a) + abs(b) + 2
    noise = discrete_gaussian(sigma, reach)
    tail = np.append(np.cumsum(noise[::-1])[::-1], 0.0)  # of b's noise, from each place on
    values = np.arange(-reach, reach + 1)
    moved = np.interp(values + a, values, noise, right=0.0)
    result = []
    for epsilon in epsilons:
        least = np.floor((epsilon * sigma**2 - (a**2 + b**2) / 2 - a * values) / b + 1e-9).astype(int) + 1
        with_it = tail[np.clip(least + reach, 0, len(noise))]
        without = tail[np.clip(least + b + reach, 0, len(noise))]
        result.append(noise @ with_it - math.exp(epsilon) * (moved @ without))
    return np.array(result)


def excess_of_two(move: tuple[int, int], whole: int, sigma: float) -> float:
    """By how much the curve of two moves passes that of one, at most.

    Both curves are convex, and between kinks a constant less a multiple of exp ε: where the difference is largest, the
    curve of the one move has a kink.
    """
    last = math.ceil(10 * sigma)
    grid = (2 * whole * np.arange(-(whole // 2), last) + whole**2) / (2 * sigma**2)
    epsilons = np.append(0.0, grid[grid > 0])
    noise = discrete_gaussian(sigma, last + whole + 2)
    tail = np.append(np.cumsum(noise[::-1])[::-1], 0.0)
    reach = len(noise) // 2
    least = np.floor((epsilons * sigma**2 - whole**2 / 2) / whole + 1e-9).astype(int) + 1
    one = tail[least + reach] - np.exp(epsilons) * tail[np.minimum(least + whole + reach, len(noise))]
    return float((curve_of_two(move, sigma, epsilons) - one).max())


def test_the_curve_of_two_large_moves_is_that_of_the_convolution() -> None:
    epsilons = np.linspace(0, 6, 40)
    for move in ((1, 2), (3, 3), (1, 6)):
        np.testing.assert_allclose(curve_of_two(move, 2.5, epsilons), deltas(move, 2.5, epsilons), atol=1e-13)


@pytest.mark.parametrize("scale", [0.5, 1, 4])
@pytest.mark.parametrize("whole", [64, 128])
def test_nor_do_weights_that_a_row_spreads_over_cells(whole: int, scale: float) -> None:
    """The label correction's rows move a column's sums by 64 in all, a unit of two rows by 128."""
    for part in sorted({1, 2, 3, 7, whole // 4, whole // 3, whole // 2 - 1, whole // 2}):
        assert excess_of_two((part, whole - part), whole, 64 * scale) <= 1e-12


def test_weights_that_add_up_to_more_than_is_charged_are_caught() -> None:
    """Even by one, in one cell of two."""
    assert excess_of_two((1, 64), 64, 64.0) > 1e-7
    assert excess_of_two((40, 40), 64, 64.0) < 1e-12 < excess_of_two((46, 46), 64, 64.0)


@pytest.mark.parametrize("move", [(1, 1, 1), (2, 1, 1, 1), (1,) * 5, (3, 2)])
def test_nor_does_a_move_of_several(move: tuple[int, ...]) -> None:
    for sigma in SIGMAS:
        assert excess(move, sum(move), sigma) <= 1e-13


def test_a_sensitivity_that_is_too_small_is_caught() -> None:
    """The mistake: to charge k records as k queries of sensitivity 1."""
    assert excess((5,), 2, 4.0) > 0.05
    epsilons = np.linspace(0, 2, 20)
    split_up = DiscreteGaussian(4.0, 1, 5).pld(1e-4).get_delta_for_epsilon(epsilons)
    assert (deltas((5,), 4.0, epsilons) > np.array(split_up)).any()


@pytest.mark.parametrize("records", [1, 2, 5, 20])
def test_more_records_at_the_same_cost_take_that_much_more_noise(records: int) -> None:
    event = DiscreteGaussian(1.0, records, 7).scaled_to(0.1)
    assert event.rho == pytest.approx(0.1)
    assert event.sigma == pytest.approx(records * DiscreteGaussian(1.0, 1, 7).scaled_to(0.1).sigma)
    assert accounting.epsilon([event], 1e-6) == pytest.approx(
        accounting.epsilon([DiscreteGaussian(1.0, 1, 7).scaled_to(0.1)], 1e-6), rel=0.02
    )
