"""Smooth densities: what is smooth is found through the noise, spikes keep their counts, bad shapes do no harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.methods.tabular.densities import smooth_density

SIGMA = 20.0
VALUES = np.arange(300.0)


def with_noise(exact: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.round(exact + np.random.default_rng(seed).normal(0, SIGMA, exact.shape))


def hill(total: float = 30_000) -> np.ndarray:
    shape = np.exp(-(((VALUES - 120) / 40) ** 2) / 2)
    return total * shape / shape.sum()


def test_a_hill_is_found_through_noise_that_its_cells_drown_in() -> None:
    found = smooth_density(VALUES, VALUES, 1.0, with_noise(hill()), SIGMA)
    assert np.abs(found - hill()).sum() < 0.2 * np.abs(with_noise(hill()) - hill()).sum()


def test_spikes_keep_their_counts_and_their_neighbours_do_not_rise() -> None:
    exact = hill()
    exact[[50, 200]] += 900
    noisy = with_noise(exact)
    found = smooth_density(VALUES, VALUES, 1.0, noisy, SIGMA)
    assert found[[50, 200]].tolist() == noisy[[50, 200]].tolist()
    assert np.abs(found - exact)[[48, 49, 51, 52, 198, 199, 201, 202]].max() < SIGMA


def test_a_cell_of_one_real_number_has_a_spike_or_nothing() -> None:
    marks = np.arange(0.0, 100.0)
    lower = np.sort(np.concatenate([marks, np.nextafter(marks, np.inf)]))[:-1]
    upper = np.sort(np.concatenate([marks, marks[1:]]))
    single = lower == upper
    exact = np.where(single, 0.0, 100.0)
    exact[40] = 2000
    assert single[40]
    found = smooth_density(lower, upper, 0.0, with_noise(exact), SIGMA)
    assert found[40] == with_noise(exact)[40]
    assert found[single].sum() == found[40]
    assert found[~single] == pytest.approx(exact[~single], abs=SIGMA)


def test_a_column_of_few_cells_keeps_its_counts() -> None:
    noisy = np.array([5.0, -3.0, 40.0])
    assert smooth_density(VALUES[:3], VALUES[:3], 1.0, noisy, SIGMA).tolist() == [5.0, 0.0, 40.0]


@given(
    st.integers(0, 2**32), st.integers(8, 400), st.floats(0, 1e7), st.floats(0.5, 1e4), st.sampled_from([-1e6, 0, 1e6])
)
@settings(max_examples=60, deadline=None)
def test_any_counts_give_finite_ones_that_are_not_negative(
    seed: int, cells: int, level: float, sigma: float, start: float
) -> None:
    generator = np.random.default_rng(seed)
    values = start + np.arange(float(cells))
    noisy = np.round(generator.gamma(0.3, level / 0.3, cells) + generator.normal(0, sigma, cells))
    found = smooth_density(values, values, 1.0, noisy, sigma)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
