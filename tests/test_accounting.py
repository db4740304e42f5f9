"""Privacy loss against closed forms, brute force and a second accountant."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from synth import accounting
from synth.accounting import NANO, RenyiFilter, compose, dominated, epsilon, epsilon_by_renyi, renyi
from synth.events import DiscreteGaussian, Event, PoissonGaussian, event_document, event_from_document
from tests.chance import discrete_gaussian_pmf

DISCRETE = st.builds(DiscreteGaussian, st.floats(0.8, 60), st.integers(1, 3), st.integers(1, 20))
SAMPLED = st.builds(PoissonGaussian, st.floats(0.6, 8), st.floats(0.001, 1.0), st.integers(1, 60))
EVENTS = st.lists(st.one_of(DISCRETE, SAMPLED), min_size=1, max_size=4)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Of the Gaussian mechanism with sensitivity over sigma ``mu`` (Balle and Wang, 2018, Theorem 8)."""
    a, b = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    return float(stats.norm.cdf(a) - math.exp(epsilon) * stats.norm.cdf(b))


def hockey_stick(epsilon: float, *coordinates: tuple[float, int]) -> float:
    """δ(ε) of integers released together, each with discrete Gaussian noise (sigma, shift), summed over outcomes."""
    grids = []
    for sigma, shift in coordinates:
        pmf, reach = discrete_gaussian_pmf(sigma), int(9 * sigma) + 4
        grids.append([(pmf(k - shift), pmf(k)) for k in range(-reach, reach + shift + 1)])
    return sum(
        max(0.0, math.prod(p for p, _ in cells) - math.exp(epsilon) * math.prod(q for _, q in cells))
        for cells in product(*grids)
    )


@pytest.mark.parametrize(("sigma", "compositions"), [(20.0, 1), (20.0, 15), (60.0, 40), (120.0, 15)])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-9])
def test_wide_discrete_noise_costs_what_continuous_noise_costs(sigma: float, compositions: int, delta: float) -> None:
    mu = math.sqrt(compositions) / sigma
    exact = optimize.brentq(lambda e: gaussian_delta(e, mu) - delta, 0, 20) if gaussian_delta(0, mu) > delta else 0
    assert epsilon([DiscreteGaussian(sigma, 1, compositions)], delta) == pytest.approx(exact, rel=0.01, abs=2e-4)


@pytest.mark.parametrize("sigma", [0.5, 0.7, 1.3, 3.0])
@pytest.mark.parametrize("shift", [1, 2])
@pytest.mark.parametrize("at", [0.0, 0.3, 1.0, 2.5])
def test_one_integer_costs_what_summing_over_its_outcomes_gives(sigma: float, shift: int, at: float) -> None:
    exact = hockey_stick(at, (sigma, shift))
    computed = compose([DiscreteGaussian(sigma, shift)]).get_delta_for_epsilon(at)
    assert exact - 1e-12 <= computed <= exact * 1.002 + 1e-9


@pytest.mark.parametrize("sigma", [0.8, 2.0])
@pytest.mark.parametrize("at", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("columns", [2, 3])
def test_a_joint_release_of_histograms_costs_one_composition_a_column(sigma: float, at: float, columns: int) -> None:
    """One person more moves one cell of each of the columns' histograms by one; the other cells do not tell."""
    if columns == 3:
        sigma = min(sigma, 1.0)
    exact = hockey_stick(at, *[(sigma, 1)] * columns)
    computed = compose([DiscreteGaussian(sigma, 1, columns)]).get_delta_for_epsilon(at)
    assert exact - 1e-9 <= computed <= exact * 1.005 + 1e-9
    assert computed > compose([DiscreteGaussian(sigma, 1, columns - 1)]).get_delta_for_epsilon(at)


def test_cells_that_do_not_move_cost_nothing() -> None:
    for at in (0.0, 0.7):
        assert hockey_stick(at, (1.1, 1), (1.1, 0), (1.1, 0)) == pytest.approx(hockey_stick(at, (1.1, 1)), rel=1e-6)


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("at", [0.1, 0.5, 1.0])
def test_sampled_noise_costs_at_least_what_either_neighbour_gives(removed: bool, at: float) -> None:
    """Exact hockey-stick of one step by quadrature, for adding and for removing a unit."""
    sigma, rate = 1.2, 0.1
    x = np.linspace(-14, 15, 400_001)
    without = stats.norm.pdf(x, 0, sigma)
    with_unit = (1 - rate) * without + rate * stats.norm.pdf(x, 1, sigma)
    p, q = (with_unit, without) if removed else (without, with_unit)
    exact = float(np.trapezoid(np.maximum(0, p - math.exp(at) * q), x))
    computed = compose([PoissonGaussian(sigma, rate, 1)]).get_delta_for_epsilon(at)
    assert computed >= exact - 1e-9
    if removed:
        assert computed <= exact * 1.01 + 1e-9


@given(EVENTS, st.sampled_from([1e-4, 1e-6, 1e-8]))
@settings(max_examples=25, deadline=None)
def test_renyi_never_finds_less_than_the_privacy_loss_distribution(events: list[Event], delta: float) -> None:
    by_renyi = epsilon_by_renyi(events, delta)
    if by_renyi < 12:  # beyond, the distribution is large and no release comes near
        assert epsilon(events, delta, accounting.COARSE_INTERVAL) <= by_renyi * 1.002 + 0.02


@given(EVENTS, st.one_of(DISCRETE, SAMPLED))
@settings(max_examples=20, deadline=None)
def test_another_mechanism_never_lowers_the_cost(events: list[Event], extra: Event) -> None:
    if epsilon_by_renyi([*events, extra], 1e-6) < 12:
        fewer, more = (epsilon(e, 1e-6, accounting.COARSE_INTERVAL) for e in (events, [*events, extra]))
        assert more >= fewer - 1e-6
    assert epsilon_by_renyi([*events, extra], 1e-6) >= epsilon_by_renyi(events, 1e-6) - 1e-9


def test_order_of_composition_does_not_matter() -> None:
    events = [DiscreteGaussian(4.0, 1, 3), PoissonGaussian(1.5, 0.1, 20), DiscreteGaussian(9.0, 2)]
    assert epsilon(events, 1e-6) == pytest.approx(epsilon(events[::-1], 1e-6), rel=1e-9)


def test_a_coarser_grid_rounds_up() -> None:
    events = [DiscreteGaussian(6.0, 1, 5), PoissonGaussian(1.3, 0.05, 50)]
    fine, coarse = (epsilon(events, 1e-6, interval) for interval in (1e-4, 1e-3))
    assert fine <= coarse + 1e-9
    assert coarse == pytest.approx(fine, rel=0.02)


def test_no_mechanism_costs_nothing() -> None:
    assert epsilon([], 1e-6) == epsilon_by_renyi([], 1e-6) == 0


def test_more_noise_is_dominated_and_less_is_not() -> None:
    base, quieter, louder = ([DiscreteGaussian(s, 1, 4)] for s in (8.0, 7.5, 8.5))
    assert dominated(louder, base, 3.0)
    assert not dominated(quieter, base, 3.0)


def test_a_curve_that_crosses_is_not_dominated() -> None:
    """A smaller ε at one δ is not enough: the curves cross."""
    wide, sampled = [DiscreteGaussian(3.3)], [PoissonGaussian(0.8, 0.01, 30)]
    assert not (dominated(wide, sampled, 6.0) and dominated(sampled, wide, 6.0))
    first = compose(wide).get_delta_for_epsilon([0.05, 2.5])
    second = compose(sampled).get_delta_for_epsilon([0.05, 2.5])
    assert (first[0] < second[0]) != (first[1] < second[1]), "the example no longer crosses"
    assert not dominated(wide, sampled, 6.0)
    assert not dominated(sampled, wide, 6.0)


@pytest.mark.parametrize("order", [2, 5, 17])
@pytest.mark.parametrize("sigma", [0.6, 1.0, 4.0])
def test_the_renyi_cost_of_integers_bounds_the_exact_divergence(order: int, sigma: float) -> None:
    reach = np.arange(-int(12 * sigma) - 4, order + int(12 * sigma) + 5)
    normaliser = np.exp(-(reach**2) / (2 * sigma**2)).sum()
    exponents = -(order * (reach - 1) ** 2 + (1 - order) * reach**2) / (2 * sigma**2)
    exact = float(special.logsumexp(exponents) - math.log(normaliser)) / (order - 1)
    assert exact <= renyi(DiscreteGaussian(sigma), order) * (1 + 1e-9) + 1e-9
    assert renyi(DiscreteGaussian(sigma), order) == pytest.approx(order / (2 * sigma**2))


def epsilon_at_order(events: list[Event], delta: float, order: int) -> float:
    accountant = RdpAccountant(orders=[order])
    for event in events:
        accountant.compose(event.dp_event())
    return float(accountant.get_epsilon(delta))


@given(st.floats(0.5, 10), st.sampled_from([1e-4, 1e-6, 1e-8]), EVENTS)
@settings(max_examples=80, deadline=None)
def test_what_the_filter_admits_stays_within_the_total(total: float, delta: float, events: list[Event]) -> None:
    gate = RenyiFilter.for_budget(total, delta)
    admitted, spent = [], 0
    for event in events * 3:
        if spent + gate.cost(event) <= gate.capacity:
            admitted.append(event)
            spent += gate.cost(event)
    if admitted:
        assert epsilon_at_order(admitted, delta, gate.order) <= total + 1e-9
        assert epsilon(admitted, delta, accounting.COARSE_INTERVAL) <= total * 1.002 + 0.02


def test_a_full_filter_is_nearly_the_total() -> None:
    """So that the capacity is no looser than it has to be."""
    gate = RenyiFilter.for_budget(8.0, 1e-5)
    rho = gate.capacity / NANO / gate.order
    full = DiscreteGaussian(1.0, 1, 30).scaled_to(rho * 0.9999)
    assert gate.cost(full) <= gate.capacity
    assert epsilon_at_order([full], 1e-5, gate.order) == pytest.approx(8.0, rel=1e-3)
    assert epsilon([full], 1e-5, accounting.COARSE_INTERVAL) > 0.8 * 8.0


@given(st.one_of(DISCRETE, SAMPLED))
@settings(max_examples=40, deadline=None)
def test_costs_are_rounded_up_and_capacity_down(event: Event) -> None:
    gate = RenyiFilter.for_budget(3.0, 1e-6)
    exact = renyi(event, gate.order) * NANO
    assert exact <= gate.cost(event) < exact + 1
    assert gate.cost(event) >= 1


@pytest.mark.parametrize(("total", "delta"), [(0.5, 1e-6), (3.0, 1e-6), (8.0, 1e-5), (8.0, 1e-9), (40.0, 1e-4)])
def test_the_order_is_fixed_by_public_numbers_and_is_the_best_for_gaussians(total: float, delta: float) -> None:
    gate = RenyiFilter.for_budget(total, delta)
    assert gate == RenyiFilter.for_budget(total, delta)

    def admitted_rho(order: int) -> float:
        return RenyiFilter(order, total, delta).capacity / NANO / order

    assert admitted_rho(gate.order) == max(admitted_rho(order) for order in range(2, 1025))


def test_a_divergence_that_cannot_be_computed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a number compares false with every capacity: it must not pass as cheap."""
    monkeypatch.setattr(RdpAccountant, "compose", lambda self, event: setattr(self, "_rdp", [math.nan]))
    with pytest.raises(ValueError, match="Rényi divergence"):
        renyi(DiscreteGaussian(1.0), 8)


@given(st.one_of(DISCRETE, SAMPLED))
@settings(max_examples=30, deadline=None)
def test_events_survive_their_document(event: Event) -> None:
    assert event_from_document(event_document(event)) == event


@given(DISCRETE, st.floats(1e-4, 1.0))
@settings(max_examples=30, deadline=None)
def test_noise_scaled_to_a_cost_has_that_cost(event: DiscreteGaussian, rho: float) -> None:
    assert event.scaled_to(rho).rho == pytest.approx(rho)
