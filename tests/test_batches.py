"""The batches that DP-SGD draws: Poisson samples, which other samplers are told apart from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from synth import dpsgd
from synth.events import PoissonGaussian
from tests.chance import ALPHA, histogram_p, rate_p
from tests.dpsgd_runs import random_rows, run


def fixed_size(count: int, rate: float) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, bool)
    mask[np.random.default_rng().permutation(count)[: round(count * rate)]] = True
    return mask


class Shuffled:
    """Epochs of a shuffled table: every row once in each."""

    def __init__(self) -> None:
        self.left = np.zeros(0, np.int64)

    def __call__(self, count: int, rate: float) -> npt.NDArray[np.bool_]:
        size = round(count * rate)
        if len(self.left) < size:
            self.left = np.random.default_rng().permutation(count)
        mask = np.zeros(count, bool)
        mask[self.left[:size]], self.left = True, self.left[size:]
        return mask


def check_batches() -> None:
    """Sizes of 160 batches of 60 rows at rate 0.25, how often each row came, and how often in two batches running."""
    rows, steps = random_rows(60, 2), 160
    run(rows, PoissonGaussian(1.0, 0.25, steps))
    assert len(rows.asked) == steps
    drawn = np.zeros((steps, 60), bool)
    for step, chosen in enumerate(rows.asked):
        drawn[step, chosen] = True
        assert len(set(chosen.tolist())) == len(chosen)
    sizes, often = Counter(drawn.sum(axis=1).tolist()), drawn.sum(axis=0)
    assert histogram_p(sizes, lambda size: float(stats.binom.pmf(size, 60, 0.25))) >= ALPHA / 4
    spread = float(((often - steps * 0.25) ** 2).sum() / (steps * 0.25 * 0.75))
    assert 2 * min(stats.chi2.sf(spread, 60), stats.chi2.cdf(spread, 60)) >= ALPHA / 4
    running = drawn[::2] & drawn[1::2]
    assert rate_p(int(running.sum()), running.size, 0.25**2) >= ALPHA / 4


@pytest.mark.statistical
def test_batches_are_poisson_samples() -> None:
    """Fails about once in a million runs."""
    check_batches()


@pytest.mark.parametrize("sampler", [fixed_size, Shuffled()], ids=["fixed size", "shuffled epochs"])
def test_other_batches_are_caught(monkeypatch: pytest.MonkeyPatch, sampler: Callable[..., Any]) -> None:
    monkeypatch.setattr(dpsgd, "poisson_mask", sampler)
    with pytest.raises(AssertionError):
        check_batches()


def test_empty_batches_take_their_noise_and_go_on() -> None:
    seen = run(random_rows(3, 2), PoissonGaussian(1.0, 1e-9, 5))
    assert len(seen) == 5
    assert all(np.isfinite(step).all() and (step != 0).all() for step in seen)
