"""Coins and noise: fresh, from the right distribution, and out of reach of any seed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats

from synth.mechanisms import noisy_integers
from synth.randomness import poisson_mask, random_words, standard_normal
from tests.chance import ALPHA, histogram_p, normal_scale_p, rate_p

Mask = Callable[[int, float], npt.NDArray[np.bool_]]
Normal = Callable[[int], npt.NDArray[np.float64]]


def fixed_size(count: int, rate: float) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_)
    mask[np.random.default_rng().permutation(count)[: round(count * rate)]] = True
    return mask


def in_pairs(count: int, rate: float) -> npt.NDArray[np.bool_]:
    return np.repeat(np.random.default_rng().random((count + 1) // 2) < rate, 2)[:count]


def seeded(count: int, rate: float) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(0).random(count) < rate


def check_coins(mask: Mask) -> None:
    """Rate, batch sizes, neighbours and successive draws; the four p-values share the rate of failing."""
    drawn = np.array([mask(100, 0.3) for _ in range(4000)])
    assert rate_p(int(drawn.sum()), drawn.size, 0.3) >= ALPHA / 4
    sizes = Counter(drawn.sum(axis=1).tolist())
    assert histogram_p(sizes, lambda size: float(stats.binom.pmf(size, 100, 0.3))) >= ALPHA / 4
    neighbours = drawn[:, ::2] & drawn[:, 1::2]
    assert rate_p(int(neighbours.sum()), neighbours.size, 0.09) >= ALPHA / 4
    successive = drawn[::2] & drawn[1::2]
    assert rate_p(int(successive.sum()), successive.size, 0.09) >= ALPHA / 4


@pytest.mark.statistical
def test_each_unit_enters_a_batch_by_a_coin_of_its_own() -> None:
    """Fails once in a million runs."""
    check_coins(poisson_mask)


@pytest.mark.parametrize(
    "broken",
    [fixed_size, in_pairs, seeded, lambda count, rate: poisson_mask(count, rate * 1.03)],
    ids=["batches of a fixed size", "coins shared by two", "one seed", "a higher rate"],
)
def test_other_coins_are_caught(broken: Mask) -> None:
    with pytest.raises(AssertionError):
        check_coins(broken)


def without_the_other_bytes(count: int, rate: float) -> npt.NDArray[np.bool_]:
    return poisson_mask(count, int(rate * 256) / 256)


def check_rare_coins(mask: Mask) -> None:
    """Rates between two first bytes: 0.0007 of a million coins, and 0.3007."""
    for rate in (0.0007, 0.3007):
        assert rate_p(int(mask(1_000_000, rate).sum()), 1_000_000, rate) >= ALPHA / 2


@pytest.mark.statistical
def test_a_tie_of_the_first_byte_is_broken_by_the_other_seven() -> None:
    """Fails once in a million runs."""
    check_rare_coins(poisson_mask)


@pytest.mark.parametrize(
    "broken",
    [without_the_other_bytes, lambda count, rate: poisson_mask(count, (int(rate * 256) + 1) / 256)],
    ids=["ties lose", "ties win"],
)
def test_ties_that_are_not_broken_are_caught(broken: Mask) -> None:
    with pytest.raises(AssertionError):
        check_rare_coins(broken)


def test_coins_are_numbers_of_64_bits_below_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """First byte and rest, at and around a threshold of 2**63 + 2**11."""
    rate = float.fromhex("0x1.0000000000001p-1")  # 2**63 + 2**11 of 2**64 numbers
    words = [0, 2**63 - 1, 2**63, 2**63 + 2**11 - 1, 2**63 + 2**11, 2**64 - 1]
    first = bytes(word >> 56 for word in words)
    rest = b"".join(((word << 8) % 2**64).to_bytes(8, sys.byteorder) for word in words if word >> 56 == 2**7)
    monkeypatch.setattr("os.urandom", {6: first, 24: rest}.__getitem__)
    assert poisson_mask(6, rate).tolist() == [word < 2**63 + 2**11 for word in words]


def test_a_fork_draws_anew() -> None:
    """Two children of a process that has drawn itself agree by chance with probability below 2**-190."""
    _from_a_child()
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as children:
        drawn = [child.result() for child in [children.submit(_from_a_child) for _ in range(2)]]
    assert all(one != other for one, other in zip(*drawn, strict=True))


def _from_a_child() -> tuple[bytes, ...]:
    return standard_normal(8).tobytes(), poisson_mask(400, 0.5).tobytes(), noisy_integers([0] * 80, 100.0).tobytes()


def test_certain_and_impossible_coins() -> None:
    assert poisson_mask(1000, 1.0).all()
    assert not poisson_mask(1000, 0.0).any()
    assert len(poisson_mask(0, 0.5)) == 0


def check_normal(draw: Normal) -> None:
    """Standard deviation, shape (Kolmogorov and Smirnov), tails and independence of successive draws."""
    sample = draw(200_000)
    assert sample.shape == (200_000,)
    assert normal_scale_p(sample, 1.0) >= ALPHA / 4
    assert stats.kstest(sample, "norm").pvalue >= ALPHA / 4
    assert rate_p(int((np.abs(sample) > 3).sum()), sample.size, 2 * stats.norm.sf(3)) >= ALPHA / 4
    correlation = float((sample[:100_000] * sample[100_000:]).mean() * np.sqrt(100_000))
    assert 2 * stats.norm.sf(abs(correlation)) >= ALPHA / 4


def uniform_noise(count: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng().uniform(-np.sqrt(3), np.sqrt(3), count)


def repeated(count: int) -> npt.NDArray[np.float64]:
    return np.tile(standard_normal(count // 2), 2)


@pytest.mark.statistical
def test_noise_is_standard_normal() -> None:
    """Fails about once in a million runs."""
    check_normal(standard_normal)


@pytest.mark.parametrize(
    "broken",
    [lambda n: standard_normal(n) * 0.5, lambda n: standard_normal(n) * 0.97, uniform_noise, repeated],
    ids=["halved", "three per cent too small", "uniform", "each draw used twice"],
)
def test_other_noise_is_caught(broken: Normal) -> None:
    with pytest.raises(AssertionError):
        check_normal(broken)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_draws_can_be_had(count: int) -> None:
    assert standard_normal(count).shape == (count,)
    assert np.isfinite(standard_normal(count)).all()


def check_fresh(draw: Callable[[], object]) -> None:
    """The same state of every seeded generator, twice."""
    drawn = []
    for _ in range(2):
        np.random.seed(7)
        torch.manual_seed(7)
        drawn.append(np.asarray(draw()))
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize(
    "draw",
    [lambda: random_words(8), lambda: standard_normal(8), lambda: poisson_mask(200, 0.5)],
    ids=["words", "normal", "coins"],
)
def test_no_seed_decides_what_is_drawn(draw: Callable[[], object]) -> None:
    """Two draws agree by chance with probability below 2**-190."""
    check_fresh(draw)


@pytest.mark.parametrize("draw", [lambda: np.random.randn(8), lambda: torch.randn(8)], ids=["numpy", "torch"])
def test_seeded_generators_are_caught(draw: Callable[[], object]) -> None:
    with pytest.raises(AssertionError):
        check_fresh(draw)
