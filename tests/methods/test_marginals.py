"""Smoothing: what the noise cannot tell from even is even; a spike, an empty stretch and the total stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.methods.tabular.marginals import smoothed
from synth.schema import ColumnDomain, Schema
from tests.example_contract import contract

SIGMA = 10.0


def domain(column: dict[str, Any]) -> ColumnDomain:
    return Schema.from_contract(contract({"schema.x": column}))["x"]


AGE = domain({"type": "integer", "min": 0, "max": 127, "scale": "decimal"})
PAY = domain({"type": "number", "min": 0, "max": 50_000, "scale": "decimal", "nullable": True})


def with_noise(exact: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Seeded: its size is what is tried, not its chance."""
    return np.round(exact + np.random.default_rng(3).normal(0, SIGMA, exact.shape)).astype(np.int64)


def test_an_even_stretch_becomes_even() -> None:
    exact = np.append(np.full(128, 50.0), 0)
    found = smoothed(AGE, with_noise(exact), SIGMA)[:-1]
    assert np.abs(found - 50).max() < 5 < np.abs(with_noise(exact)[:-1] - 50).max()


def test_a_spike_and_an_empty_stretch_stay() -> None:
    exact = np.append(np.full(128, 40.0), 0)
    exact[64:] = 0
    exact[30], exact[100] = 400, 300
    found = smoothed(AGE, with_noise(exact), SIGMA)
    assert found[[30, 100]] == pytest.approx([400, 300], abs=4 * SIGMA)
    neighbours = [28, 29, 31, 32, 98, 99, 101, 102]
    assert np.abs(found - exact)[neighbours].max() < 4 * SIGMA
    empty = np.setdiff1d(np.arange(64, 128), [100])
    assert np.abs(found[empty]).mean() < SIGMA / 2


def test_numbers_at_round_values_are_told_from_numbers_between_them() -> None:
    """A cell of one number is as narrow as can be: what is even over the range gives it nearly nothing."""
    widths = np.asarray(PAY.upper) - np.asarray(PAY.lower)
    exact = np.append(20_000 * widths / widths.sum(), 700)
    spike = int(PAY.encode(np.array([12_000.0]))[0])
    exact[spike] = 3000
    found = smoothed(PAY, with_noise(exact), SIGMA)
    assert found[spike] == pytest.approx(3000, abs=5 * SIGMA)
    spikes = (widths == 0) & (np.arange(PAY.cells) != spike)
    assert np.abs(found[:-1][spikes]).mean() < SIGMA / 2
    assert found[-1] == with_noise(exact)[-1]


@given(st.integers(0, 2**32), st.floats(0, 200), st.sampled_from([0.1, 1.0, 20.0]))
@settings(max_examples=100, deadline=None)
def test_totals_stay_but_for_noise_and_runs_below_nothing(seed: int, level: float, rough: float) -> None:
    """A run whose noisy total is negative is empty; a column of one shape has that shape's total, which has less noise
    than the sum of its cells."""
    generator = np.random.default_rng(seed)
    noisy = np.round(generator.gamma(rough, level / rough, 129) + generator.normal(0, SIGMA, 129)).astype(np.int64)
    found = smoothed(AGE, noisy, SIGMA)
    noise = 4 * np.sqrt(129 * (SIGMA**2 + level))
    assert -noise <= found.sum() - noisy.sum() <= np.abs(noisy[noisy < 0]).sum() + noise


def test_a_heavy_tail_is_followed_where_each_cell_drowns() -> None:
    """Thousands of small amounts and few large ones: in most cells the noise is larger than the count."""
    generator = np.random.default_rng(5)
    amounts = np.minimum(generator.lognormal(6, 1.5, 20_000), 50_000)
    exact = np.bincount(PAY.encode(amounts), minlength=PAY.size).astype(np.float64)
    noisy = np.round(exact + generator.normal(0, 4 * SIGMA, exact.shape)).astype(np.int64)
    found = smoothed(PAY, noisy, 4 * SIGMA)
    edges = np.searchsorted(np.asarray(PAY.lower), np.quantile(amounts, np.linspace(0, 1, 33)[1:-1]))
    off, off_before = (np.abs(np.add.reduceat(counts - exact, [0, *edges])).mean() for counts in (found, noisy))
    assert off < 0.6 * off_before
    assert found.sum() == pytest.approx(20_000, rel=0.05)


def test_categories_have_no_neighbours_to_be_smoothed_with() -> None:
    noisy = np.array([3, -7, 9, 2])
    column = domain({"type": "categorical", "categories": ["a", "b", "c"]})
    assert smoothed(column, noisy, 100.0).tolist() == noisy.tolist()


@pytest.mark.parametrize("level", [-1000, 0, 5])
def test_nothing_but_noise_gives_finite_counts(level: int) -> None:
    for column in (AGE, PAY, domain({"type": "number", "min": 0, "max": 5e-324})):
        assert np.isfinite(smoothed(column, np.full(column.size, level), 0.5)).all()
