"""Integer noise has the distribution that its event charges for, and no other event is accepted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from synth import mechanisms
from synth.events import DiscreteGaussian, ExponentialSelection
from synth.mechanisms import (
    noisy_counts,
    noisy_histogram,
    noisy_integers,
    noisy_marginals,
    noisy_pairs,
    noisy_statistics,
    noisy_tables,
    noisy_weighted_histograms,
    selected,
)
from tests.chance import ALPHA, discrete_gaussian_pmf, histogram_p

Noise = Callable[[npt.ArrayLike, float], npt.NDArray[np.int64]]
DRAWS = 40_000


def check_noise(noise: Noise, sigma: float) -> None:
    """Chi-square of the noise against the discrete Gaussian, of sums of two against independence; two calls differ."""
    sample = noise(np.full(DRAWS, 1000), sigma) - 1000
    pmf = discrete_gaussian_pmf(sigma)
    assert histogram_p(Counter(sample.tolist()), pmf) >= ALPHA / 2
    reach = range(-int(12 * sigma) - 3, int(12 * sigma) + 4)
    known = np.array([pmf(k) for k in reach])
    summed = np.convolve(known, known)

    def pmf_of_sum(k: int) -> float:
        index = k - 2 * reach[0]
        return float(summed[index]) if 0 <= index < len(summed) else 0.0

    sums = sample[: DRAWS // 2] + sample[DRAWS // 2 :]
    assert histogram_p(Counter(sums.tolist()), pmf_of_sum) >= ALPHA / 2
    assert (noise(np.zeros(2000, int), sigma) != noise(np.zeros(2000, int), sigma)).any()


def rounded_continuous(values: npt.ArrayLike, sigma: float) -> npt.NDArray[np.int64]:
    return np.asarray(values) + np.round(np.random.default_rng().normal(0, sigma, np.shape(values))).astype(int)


def seeded(values: npt.ArrayLike, sigma: float) -> npt.NDArray[np.int64]:
    pmf = discrete_gaussian_pmf(sigma)
    reach = np.arange(-int(12 * sigma) - 3, int(12 * sigma) + 4)
    weights = np.array([pmf(int(k)) for k in reach])
    drawn = np.random.default_rng(0).choice(reach, np.shape(values), p=weights / weights.sum())
    return np.asarray(values) + drawn


def drawn_once(values: npt.ArrayLike, sigma: float) -> npt.NDArray[np.int64]:
    half = noisy_integers(np.zeros(np.size(values) // 2, int), sigma)
    return np.asarray(values) + np.tile(half, 2)


@pytest.mark.statistical
@pytest.mark.parametrize("sigma", [0.6, 1.0, 4.3, 57.0])
def test_noise_is_discrete_gaussian(sigma: float) -> None:
    """Fails once in a million runs."""
    check_noise(noisy_integers, sigma)


@pytest.mark.parametrize("sigma", [0.6, 4.3])
@pytest.mark.parametrize(
    "broken",
    [
        lambda values, sigma: noisy_integers(values, sigma / 2),
        lambda values, sigma: noisy_integers(values, sigma * 0.95),
        lambda values, sigma: np.asarray(values),
        seeded,
        drawn_once,
    ],
    ids=["halved", "five per cent too small", "none", "one seed", "each draw used twice"],
)
def test_other_noise_is_caught(broken: Noise, sigma: float) -> None:
    with pytest.raises(AssertionError):
        check_noise(broken, sigma)


def test_a_rounded_continuous_gaussian_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_noise(rounded_continuous, 0.6)


def test_each_piece_of_a_long_vector_gets_noise_of_its_own_and_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two pieces agree by chance with probability below 2**-400."""
    monkeypatch.setattr(mechanisms, "_PIECE", 250)
    exact = np.arange(1000).reshape(4, 250) * 1_000_000
    noisy = noisy_integers(exact, 40.0)
    assert (np.round(noisy / 1e6) * 1_000_000 == exact).all()
    noise = noisy - exact
    assert len({row.tobytes() for row in noise}) == len(noise)


def test_opendp_draws_outside_of_pythons_lock() -> None:
    """Another thread goes on while a piece is drawn: many of its turns fall inside of one call."""
    turns, over = [], threading.Event()

    def take_turns() -> None:
        while not over.is_set():
            turns.append(time.monotonic())
            time.sleep(0.001)

    other = threading.Thread(target=take_turns)
    other.start()
    start = time.monotonic()
    mechanisms._drawn(np.zeros(20_000, np.int64), 30.0)
    end = time.monotonic()
    over.set()
    other.join()
    assert sum(start < turn < end for turn in turns) > 10


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, to see what is counted."""
    monkeypatch.setattr(mechanisms, "noisy_integers", lambda values, sigma: np.asarray(values, dtype=np.int64))


CODES = np.array([[0, 1], [2, 1], [2, 0]], np.int32)
WEIGHTS = np.array([[4, 0], [-1, 3], [0, -2]])


@pytest.mark.usefixtures("exact")
def test_what_is_counted() -> None:
    assert noisy_histogram(CODES[:, 0], 4, DiscreteGaussian(1.0)).tolist() == [1, 0, 2, 0]
    marginals = noisy_marginals(CODES, [3, 2], DiscreteGaussian(1.0, 1, 2))
    assert [counts.tolist() for counts in marginals] == [[1, 0, 2], [1, 2]]
    masks = np.array([[True, False], [True, True]])
    assert noisy_counts(masks, DiscreteGaussian(1.0, 1, 2)).tolist() == [2, 1]
    assert noisy_statistics([7, -2], DiscreteGaussian(1.0, 90, 2)).tolist() == [7, -2]


@pytest.mark.usefixtures("exact")
def test_every_pair_of_columns_is_counted_in_order_and_a_row_without_a_code_in_no_table_of_that_column() -> None:
    codes = np.array([[0, 1, 2], [1, -1, 2], [1, 0, -1], [-1, -1, 0]], np.int32)
    first, second, third = noisy_pairs(codes, [2, 2, 3], DiscreteGaussian(1.0, 1, 3))
    assert first.tolist() == [[0, 1], [1, 0]]
    assert second.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert third.tolist() == [[0, 0, 0], [0, 0, 1]]


@pytest.mark.usefixtures("exact")
def test_weights_are_added_up_for_every_code_of_every_column() -> None:
    weights = np.array([[5, 0], [-3, 2], [1, 1]])
    sums = noisy_weighted_histograms(CODES, [3, 2], weights, 5, DiscreteGaussian(1.0, 5, 2))
    assert sums.tolist() == [[5, 0], [0, 0], [-2, 3], [1, 1], [2, 2]]


@pytest.mark.usefixtures("exact")
def test_a_unit_moves_each_query_by_at_most_the_declared_sensitivity() -> None:
    codes = np.random.default_rng(3).integers(0, 5, (30, 3)).astype(np.int32)
    event = DiscreteGaussian(1.0, 1, 3)
    whole = noisy_marginals(codes, [5, 5, 5], event)
    for row in range(len(codes)):
        fewer = noisy_marginals(np.delete(codes, row, axis=0), [5, 5, 5], event)
        moved = [np.abs(a - b) for a, b in zip(whole, fewer, strict=True)]
        assert all(m.sum() == m.max() == 1 for m in moved)


Units = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], int]


@st.composite
def units(draw: st.DrawFn) -> Units:
    """Codes of three columns, the unit of each row, and the most rows that any unit has; some rows miss a code."""
    k = draw(st.integers(1, 5))
    rows = draw(st.lists(st.integers(1, k), min_size=1, max_size=8))
    owners = np.repeat(np.arange(len(rows)), rows)
    cell = st.integers(-1, 2) if draw(st.booleans()) else st.integers(0, 1)
    codes = draw(st.lists(st.tuples(cell, cell, cell), min_size=len(owners), max_size=len(owners)))
    return np.array(codes, np.int32), owners, k


def without_unit(given: Units, unit: int) -> Units:
    codes, owners, k = given
    kept = owners != unit
    return codes[kept], owners[kept] - (owners[kept] > unit), k


def exact_pairs(given: Units) -> list[npt.NDArray[np.int64]]:
    codes, owners, k = given
    return noisy_pairs(codes, [3, 3, 3], DiscreteGaussian(1.0, k, 3), owners)


@pytest.mark.usefixtures("exact")
def test_a_unit_moves_each_two_way_table_by_at_most_its_rows() -> None:
    """Any unit, with up to k rows; k in one cell is reached."""

    @given(units(), st.data())
    @settings(max_examples=200, deadline=None)
    def check(given: Units, data: st.DataObject) -> None:
        unit = data.draw(st.integers(0, int(given[1][-1])))
        for with_unit, without in zip(exact_pairs(given), exact_pairs(without_unit(given, unit)), strict=True):
            assert np.abs(with_unit - without).sum() <= given[2]

    check()
    alike = np.ones((4, 3), np.int32), np.zeros(4, np.int64), 4
    assert [int(table.max()) for table in exact_pairs(alike)] == [4, 4, 4]


@pytest.mark.usefixtures("exact")
def test_a_unit_moves_the_weighted_histogram_of_each_column_by_at_most_its_rows_weights() -> None:
    """Over all codes and all weights of a column together."""
    most = 7

    def sums(given: Units, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        codes, owners, k = given
        return noisy_weighted_histograms(
            codes + 1, [4, 4, 4], weights, most, DiscreteGaussian(1.0, k * most, 3), owners
        )

    @given(units(), st.data())
    @settings(max_examples=200, deadline=None)
    def check(given: Units, data: st.DataObject) -> None:
        row = st.tuples(st.integers(-3, 3), st.integers(-4, 4))
        rows = len(given[1])
        weights = np.array(data.draw(st.lists(row, min_size=rows, max_size=rows)))
        unit = data.draw(st.integers(0, int(given[1][-1])))
        moved = sums(given, weights) - sums(without_unit(given, unit), weights[given[1] != unit])
        assert np.abs(moved).reshape(3, -1).sum(axis=1).max() <= given[2] * most

    check()
    alike = np.ones((4, 3), np.int32), np.zeros(4, np.int64), 4
    assert np.abs(sums(alike, np.tile([-3, 4], (4, 1)))).reshape(3, -1).sum(axis=1).tolist() == [28, 28, 28]


def test_an_empty_branch_is_counted_with_noise() -> None:
    nobody = np.zeros((0, 2), np.int32)
    assert [table.shape for table in noisy_pairs(nobody, [3, 2], DiscreteGaussian(1.0))] == [(3, 2)]
    no_weights = np.zeros((0, 3), int)
    assert noisy_weighted_histograms(nobody, [3, 2], no_weights, 5, DiscreteGaussian(1.0, 5, 2)).shape == (5, 3)
    assert noisy_histogram(nobody[:, 0], 4, DiscreteGaussian(1.0)).shape == (4,)
    assert [len(c) for c in noisy_marginals(nobody, [3, 2], DiscreteGaussian(1.0, 1, 2))] == [3, 2]
    assert noisy_counts(np.zeros((0, 2), bool), DiscreteGaussian(1.0, 1, 2)).shape == (2,)


@pytest.mark.parametrize(
    "release",
    [
        lambda: noisy_histogram(CODES[:, 0], 3, DiscreteGaussian(1.0, 1, 2)),
        lambda: noisy_marginals(CODES, [3, 2], DiscreteGaussian(1.0)),
        lambda: noisy_marginals(CODES, [3, 2], DiscreteGaussian(1.0, 1, 3)),
        lambda: noisy_counts(np.zeros((3, 4), bool), DiscreteGaussian(1.0, 1, 3)),
        lambda: noisy_statistics([1], DiscreteGaussian(1.0, 5, 2)),
        lambda: noisy_pairs(CODES, [3, 2], DiscreteGaussian(1.0, 1, 2)),
        lambda: noisy_weighted_histograms(CODES, [3, 2], WEIGHTS, 4, DiscreteGaussian(1.0, 4, 1)),
        lambda: noisy_weighted_histograms(CODES, [3, 2], WEIGHTS, 4, DiscreteGaussian(1.0, 6, 2)),
        lambda: noisy_weighted_histograms(CODES, [3, 2], WEIGHTS, 4, DiscreteGaussian(1.0, 2, 2)),
    ],
)
def test_an_event_that_does_not_describe_the_release_is_refused(release: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        release()


def test_weights_above_what_the_event_charges_for_are_refused() -> None:
    """One row is enough, whatever the signs."""
    noisy_weighted_histograms(CODES, [3, 2], WEIGHTS, 4, DiscreteGaussian(1.0, 4, 2))
    for row, weight in ((0, (5, 0)), (1, (3, -2)), (2, (-5, 0))):
        weights = WEIGHTS.copy()
        weights[row] = weight
        with pytest.raises(ValueError, match="weights of at most 4 a row"):
            noisy_weighted_histograms(CODES, [3, 2], weights, 4, DiscreteGaussian(1.0, 4, 2))
    weights = WEIGHTS.astype(np.int64)
    weights[0, 0] = np.iinfo(np.int64).min  # what NaN becomes, and its own size
    with pytest.raises(ValueError, match="weights of at most 4 a row"):
        noisy_weighted_histograms(CODES, [3, 2], weights, 4, DiscreteGaussian(1.0, 4, 2))


@pytest.mark.parametrize(
    "release",
    [
        lambda owners, k: noisy_pairs(CODES, [3, 2], DiscreteGaussian(1.0, k), owners),
        lambda owners, k: noisy_weighted_histograms(CODES, [3, 2], WEIGHTS, 4, DiscreteGaussian(1.0, 4 * k, 2), owners),
    ],
    ids=["pairs", "weighted"],
)
def test_a_unit_with_more_rows_than_the_event_charges_for_is_refused(
    release: Callable[[npt.NDArray[np.int64], int], object],
) -> None:
    """Weights of 4 do not make up for it: the bound is on rows."""
    release(np.array([0, 0, 1]), 2)
    for owners in ([0, 0, 1], [0, 1, 1]):
        with pytest.raises(ValueError, match="at most 1 rows a unit"):
            release(np.array(owners), 1)
    with pytest.raises(ValueError, match="one owner a row"):
        release(np.array([0, 1]), 3)


@pytest.mark.statistical
@pytest.mark.parametrize("release", ["histogram", "marginals", "counts", "statistics", "pairs", "weighted"])
def test_each_release_adds_exactly_its_events_noise(release: str) -> None:
    """Chi-square against sigma 2.5; fails once in a million runs."""
    sigma, times = 2.5, 400
    event = DiscreteGaussian(sigma)
    nobody, joint = np.zeros((0, 40), np.int32), DiscreteGaussian(sigma, 1, 40)
    draws: dict[str, Callable[[], npt.ArrayLike]] = {
        "histogram": lambda: noisy_histogram(nobody[:, 0], 40, event),
        "marginals": lambda: np.concatenate(noisy_marginals(nobody, [3] * 40, joint)),
        "counts": lambda: noisy_counts(np.zeros((0, 40), bool), joint),
        "statistics": lambda: noisy_statistics(np.zeros(10), DiscreteGaussian(sigma, 9, 10)),
        "pairs": lambda: np.concatenate(
            [table.ravel() for table in noisy_pairs(nobody[:, :5], [2] * 5, DiscreteGaussian(sigma, 1, 10))]
        ),
        "weighted": lambda: noisy_weighted_histograms(
            nobody[:, :4], [5] * 4, np.zeros((0, 2), int), 64, DiscreteGaussian(sigma, 64, 4)
        ).ravel(),
    }
    sample = Counter(int(value) for _ in range(times) for value in np.asarray(draws[release]()))
    assert histogram_p(sample, discrete_gaussian_pmf(sigma)) >= ALPHA
    assert histogram_p(sample, discrete_gaussian_pmf(sigma / 2)) < ALPHA
    assert histogram_p(sample, discrete_gaussian_pmf(sigma * 1.2)) < ALPHA


def chosen_often(scores: list[int], event: ExponentialSelection) -> float:
    """P-value that choices have the exponential mechanism's chances at a sensitivity of 2 and an ε of 1."""
    counts = np.bincount([selected(scores, event) for _ in range(6000)], minlength=len(scores))
    chances = np.exp(np.array(scores) / 4)
    return float(stats.chisquare(counts, 6000 * chances / chances.sum()).pvalue)


@pytest.mark.statistical
def test_a_choice_has_the_chances_that_its_event_charges_for() -> None:
    """Fails once in a million runs; a choice twice as sharp is caught."""
    assert chosen_often([0, 5, 9, -3], ExponentialSelection(1.0, 2)) >= ALPHA
    assert chosen_often([0, 5, 9, -3], ExponentialSelection(2.0, 2)) < ALPHA


def test_one_event_makes_one_choice() -> None:
    with pytest.raises(ValueError, match="one choice"):
        selected([1, 2], ExponentialSelection(1.0, 1, 2))


def test_tables_of_chosen_columns_are_those_of_the_rows_that_have_declared_values_in_them() -> None:
    codes = np.array([[0, 1, 2], [0, 1, -1], [1, 0, 2]], np.int32)
    event = DiscreteGaussian(1e-3, 1, 2)
    pair, triple = noisy_tables(codes, [2, 2, 3], [(1, 0), (0, 1, 2)], event)
    assert pair.tolist() == [[0, 1], [2, 0]]
    assert triple.shape == (2, 2, 3)
    assert (triple.sum(), triple[0, 1, 2], triple[1, 0, 2]) == (2, 1, 1)


def test_one_table_more_than_the_event_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="plan does not describe"):
        noisy_tables(np.zeros((3, 2), np.int32), [2, 2], [(0,), (1,)], DiscreteGaussian(1.0, 1, 1))
