"""The event of a selection against sums over all outcomes: what it charges is never less than what happens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from synth import accounting
from synth.accounting import ATTO, RenyiFilter, delta_cost
from synth.events import DiscreteGaussian, ThresholdedHistogram, event_document, event_from_document
from tests.chance import discrete_gaussian_pmf

HIDDEN = None
Outcomes = dict[tuple[int | None, int | None], float]


def release(shared: int, own: int, sigma: float, threshold: int) -> Outcomes:
    """Probabilities of what is shown of two values, with their noisy counts; a count of 0 is no cell."""
    pmf, reach = discrete_gaussian_pmf(sigma), math.ceil(12 * sigma) + 2

    def cell(count: int) -> dict[int | None, float]:
        if count == 0:
            return {HIDDEN: 1.0}
        shown: dict[int | None, float] = {HIDDEN: 0.0}
        for noise in range(-reach, reach + 1):
            place = count + noise if count + noise >= threshold else HIDDEN
            shown[place] = shown.get(place, 0.0) + pmf(noise)
        return shown

    return {(a, b): p * q for a, p in cell(shared).items() for b, q in cell(own).items()}


def hockey_stick(one: Outcomes, other: Outcomes, at: float) -> float:
    return sum(max(0.0, p - math.exp(at) * other.get(outcome, 0.0)) for outcome, p in one.items())


def neighbours(event: ThresholdedHistogram) -> Iterator[tuple[Outcomes, Outcomes]]:
    """With and without one unit, in both orders: all ways to spread its records over a shared value and its own."""
    (threshold,) = event.thresholds
    for own in range(event.sensitivity + 1):
        for shared in (1, threshold - 2, threshold + 3):
            moved = shared + event.sensitivity - own
            there = release(moved, own, event.sigma, threshold)
            away = release(shared, 0, event.sigma, threshold)
            yield there, away
            yield away, there


@pytest.mark.parametrize("sensitivity", [1, 3])
@pytest.mark.parametrize("sigma", [1.5, 4.0])
@pytest.mark.parametrize("delta", [0.03, 1e-4])
def test_no_neighbours_are_further_apart_than_the_privacy_loss_says(
    sigma: float, sensitivity: int, delta: float
) -> None:
    event = ThresholdedHistogram.for_deltas(sigma, sensitivity, (delta,))
    claimed = accounting.compose([event])
    for one, other in neighbours(event):
        for at in (0.0, 0.3, 1.0, 3.0, 8.0):
            assert hockey_stick(one, other, at) <= claimed.get_delta_for_epsilon(at) + 1e-12


def test_noise_alone_would_claim_too_much() -> None:
    """The twin that forgets the threshold."""
    event = ThresholdedHistogram.for_deltas(4.0, 1, (0.03,))
    claimed = accounting.compose([event.noise])
    assert any(hockey_stick(one, other, 3.0) > claimed.get_delta_for_epsilon(3.0) for one, other in neighbours(event))


def partitions(records: int, largest: int) -> Iterator[tuple[int, ...]]:
    yield ()
    for part in range(1, min(records, largest) + 1):
        for rest in partitions(records - part, part):
            yield (part, *rest)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("most", [1, 2, 5, 8])
@pytest.mark.parametrize("above", [1.5, 3.0, 5.0])
def test_the_worst_way_to_spread_records_is_that_of_all_ways(sigma: float, most: int, above: float) -> None:
    threshold = most + math.ceil(above * sigma)
    pmf = discrete_gaussian_pmf(sigma)

    def shown(records: int) -> float:
        return math.fsum(pmf(z) for z in range(threshold - records, threshold + math.ceil(40 * sigma)))

    worst = min(1.0, max(math.fsum(map(shown, parts)) for parts in partitions(most, most)))
    event = ThresholdedHistogram(sigma, most, (threshold,), 0.999999)
    assert worst <= event.failure <= worst * (1 + 1e-8)


def test_the_tail_is_summed_exactly_enough_where_it_is_tiny() -> None:
    """Against exact rational sums of double exponentials: relative error far below what is rounded up."""
    sigma = 2.0
    weights = {z: Fraction(math.exp(-(z**2) / (2 * sigma**2))) for z in range(-90, 91)}
    for threshold in (8, 13, 20):
        exact = sum(w for z, w in weights.items() if z >= threshold - 1) / sum(weights.values())
        failure = ThresholdedHistogram(sigma, 1, (threshold,), 0.5).failure
        assert 1 <= Fraction(failure) / exact <= 1 + 2e-9


@pytest.mark.parametrize("sigma", [0.4, 3.0, 900.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-7, 1e-12])
def test_thresholds_are_the_least_that_delta_allows(sigma: float, delta: float) -> None:
    event = ThresholdedHistogram.for_deltas(sigma, 2, (delta, delta / 10))
    assert event.failure <= event.delta == math.fsum((delta, delta / 10))
    first, second = event.thresholds
    assert second >= first
    for lower in ((first - 1, second), (first, second - 1)):
        one = ThresholdedHistogram(sigma, 2, lower, 0.999).failure
        assert one > min(delta, delta / 10)


def test_a_threshold_that_its_delta_does_not_bear_out_is_no_event() -> None:
    """Nor one that a document states: a forged statement cannot be read."""
    event = ThresholdedHistogram.for_deltas(3.0, 1, (1e-6,))
    document = event_document(event)
    assert event_from_document(document) == event
    with pytest.raises(ValueError, match="probability"):
        event_from_document({**document, "thresholds": [event.thresholds[0] - 1]})
    with pytest.raises(ValueError, match="probability"):
        event_from_document({**document, "delta": 1e-8})


def test_its_delta_composes_as_a_share_of_delta_that_is_used_up() -> None:
    event = ThresholdedHistogram.for_deltas(20.0, 1, (1e-7, 2e-7))
    other = DiscreteGaussian(10.0, 1, 5)
    for delta in (1e-6, 1e-4):
        whole = accounting.epsilon([event, other], delta)
        assert whole == pytest.approx(accounting.epsilon([event.noise, other], delta - 3e-7), abs=2e-4)
        assert whole > accounting.epsilon([event.noise, other], delta) - 1e-12
    assert accounting.epsilon([event] * 3, 1e-6) == pytest.approx(accounting.epsilon([event.noise] * 3, 1e-7), abs=2e-4)
    assert accounting.epsilon([event] * 4, 1e-6) == math.inf


def test_both_accountants_count_it() -> None:
    event = ThresholdedHistogram.for_deltas(20.0, 1, (5e-7,))
    assert accounting.epsilon_by_renyi([event], 1e-6) == pytest.approx(accounting.epsilon_by_renyi([event.noise], 5e-7))
    assert accounting.epsilon_by_renyi([event] * 2, 1e-6) == math.inf
    assert accounting.dominated([event.noise], [event], 3.0)
    assert not accounting.dominated([event], [event.noise], 3.0)


def test_the_filter_sets_delta_aside_and_charges_the_noise_as_before() -> None:
    whole, parted = RenyiFilter.for_budget(3.0, 1e-5), RenyiFilter.for_budget(3.0, 1e-5, 1e-6)
    event = ThresholdedHistogram.for_deltas(20.0, 1, (1e-7,))
    assert parted.capacity == RenyiFilter(parted.order, 3.0, 9e-6).capacity < whole.capacity
    assert (whole.delta_capacity, parted.delta_capacity) == (0, ATTO // 10**6)
    assert parted.cost(event) == parted.cost(event.noise)
    assert (delta_cost(event), delta_cost(event.noise)) == (ATTO // 10**7, 0)


def test_ten_times_a_tenth_is_all_of_it() -> None:
    """Decimals as they are written, not as a float rounds them."""
    for whole in (1e-5, 3e-6, 7e-9):
        part = float(Fraction(repr(whole)) / 10)
        event = ThresholdedHistogram.for_deltas(20.0, 1, (part,))
        assert 10 * delta_cost(event) == RenyiFilter.for_budget(3.0, 1e-4, whole).delta_capacity


def test_at_most_so_many_attempts_of_the_noise_are_seen_by_numpy_too() -> None:
    """Thresholds from a document are a list, from numpy integers; equal events are equal and hash alike."""
    event = ThresholdedHistogram(3.0, 1, (int(np.int64(30)),), 0.5)
    assert event == event_from_document({"type": "ThresholdedHistogram", "sigma": 3.0, "sensitivity": 1,
                                         "thresholds": [30], "delta": 0.5})  # fmt: skip
    assert len({event, ThresholdedHistogram(3.0, 1, [30], 0.5)}) == 1  # type: ignore[arg-type]
