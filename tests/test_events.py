"""Events of units with several records: of all ways to spread k records, all in one cell is the costliest."""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from dp_accounting.pld import privacy_loss_distribution

from synth import accounting
from synth.events import (
    Composed,
    DiscreteGaussian,
    Event,
    ExponentialSelection,
    event_document,
    event_from_document,
)

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


@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1.0, 4.0])
def test_a_choices_curve_is_the_worst_of_all_pairs_whose_factors_are_within_its_range(epsilon: float) -> None:
    """By trying every place of the range; no other two distributions with such factors do worse than two points."""
    losses = np.linspace(-1.2 * epsilon, 1.2 * epsilon, 49)
    places = np.linspace(0, epsilon, 4001)[:, None]
    high = (np.exp(-places) - np.exp(-epsilon)) / -np.expm1(-epsilon)  # chance of the high factor on the other table
    apart = [np.maximum(np.exp(at) - np.exp(losses), 0) for at in (places, places - epsilon)]
    worst = (high * apart[0] + (1 - high) * apart[1]).max(axis=0)
    assert ExponentialSelection(epsilon).delta(losses) == pytest.approx(worst, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.05, 0.7, 3.0])
def test_no_two_neighbours_scores_pass_a_choices_curve(epsilon: float) -> None:
    """Exact chances of random scores that differ by the sensitivity, in both directions."""
    generator = np.random.default_rng(3)
    event = ExponentialSelection(epsilon, 2)
    losses = np.linspace(-epsilon, epsilon, 21)
    for _ in range(300):
        scores = generator.integers(-20, 20, generator.integers(2, 7))
        moved = scores + generator.integers(-2, 3, len(scores))
        chances = [np.exp(s / event.scale - (s / event.scale).max()) for s in (scores, moved)]
        p, q = (chance / chance.sum() for chance in chances)
        curve = np.maximum(p[:, None] - np.exp(losses) * q[:, None], 0).sum(axis=0)
        assert (curve <= event.delta(losses) + 1e-12).all()


def test_scores_that_move_by_more_than_the_sensitivity_pass_the_curve() -> None:
    event = ExponentialSelection(1.0, 1)
    p = np.exp(np.array([2.0, -2.0]) / event.scale)
    p /= p.sum()
    assert abs(p[0] - p[1]) > float(event.delta(np.array([0.0]))[0])


def test_choices_cost_less_than_randomised_response_and_no_less_than_their_range() -> None:
    events: list[Event] = [ExponentialSelection(0.05, 1, 40)]
    found = accounting.epsilon(events, 1e-6)
    pure = ExponentialSelection(0.05).pld(1e-4)  # of one choice, to compare: two points at both ends of pure DP
    response = privacy_loss_distribution.from_randomized_response(
        2 / (1 + math.exp(0.05)), 2, value_discretization_interval=1e-4
    ).self_compose(40)
    assert found < 0.7 * response.get_epsilon_for_delta(1e-6)
    assert accounting.epsilon([DiscreteGaussian(1.0).scaled_to(events[0].rho / 2)], 1e-6) < found  # type: ignore[union-attr]
    assert pure.get_delta_for_epsilon(0.0) == pytest.approx(math.tanh(0.05 / 4), rel=1e-6)


def test_a_composed_event_costs_what_its_parts_do_and_survives_being_written_down() -> None:
    parts = (ExponentialSelection(0.1, 2, 7), DiscreteGaussian(30.0, 1, 7))
    whole = Composed(parts)
    assert accounting.epsilon([whole], 1e-6) == pytest.approx(accounting.epsilon(list(parts), 1e-6))
    assert accounting.renyi(whole, 20) == pytest.approx(sum(accounting.renyi(part, 20) for part in parts))
    document = json.loads(json.dumps(event_document(whole)))
    assert event_from_document(document) == whole
    assert event_document(event_from_document(document)) == document


def test_each_of_several_choices_is_handed_out_once() -> None:
    assert list(ExponentialSelection(0.1, 2, 3).singles()) == [ExponentialSelection(0.1, 2)] * 3
    assert list(DiscreteGaussian(5.0, 2, 3).singles()) == [DiscreteGaussian(5.0, 2)] * 3
