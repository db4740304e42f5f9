"""Privacy events: what a mechanism did to its data, as a value that accountants judge.

An event and the code that adds the noise take their numbers from the same plan, so they cannot drift apart. Integer
noise is accounted as what it is, a discrete Gaussian, never relabelled as a continuous one. All events are for the
add/remove-one neighbouring relation: one unit, with all of its records, is there or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import Any

import dp_accounting
import numpy as np
import numpy.typing as npt
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from dp_accounting.pld.common import DifferentialPrivacyParameters
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution


@dataclass(frozen=True)
class DiscreteGaussian:
    """``compositions`` integer queries, each moved by at most ``sensitivity``, each with discrete Gaussian noise.

    One histogram in which a unit moves one cell by one is one composition of sensitivity 1: the other cells are
    the same on both neighbours. A joint release of p histograms is p compositions (Canonne, Kamath, Steinke, 2020).

    A unit with up to k records may move several cells, by k in all. It is charged for the move of largest L2 norm, k in
    one cell. Of all moves that has the largest Rényi divergence (a move v costs the order times |v|²/2σ² at most, and k
    attains it up to rounding: loc. cit., Proposition 5), which is what admission counts. That it also has the largest
    privacy curve, which the PLD of one plan needs, is plain for continuous noise; for integers it follows by induction
    from moves of two cells, which tests/test_events.py compares by summing over the integers.
    """

    sigma: float
    sensitivity: int = 1
    compositions: int = 1

    @property
    def rho(self) -> float:
        """Zero-concentrated DP parameter; an upper bound of the Rényi curve divided by the order."""
        return self.compositions * self.sensitivity**2 / (2 * self.sigma**2)

    def dp_event(self) -> dp_accounting.DpEvent:
        """For accountants of Rényi DP."""
        return dp_accounting.ZCDpEvent(self.rho)

    def pld(self, interval: float) -> PrivacyLossDistribution:
        """Privacy loss distribution, rounded up to multiples of ``interval``."""
        single = privacy_loss_distribution.from_discrete_gaussian_mechanism(
            self.sigma, self.sensitivity, value_discretization_interval=interval, use_connect_dots=True
        )
        return single if self.compositions == 1 else single.self_compose(self.compositions)

    def scaled_to(self, rho: float) -> DiscreteGaussian:
        """The same queries with the noise that costs ``rho``."""
        sigma = self.sensitivity * math.sqrt(self.compositions / (2 * rho))
        return DiscreteGaussian(sigma, self.sensitivity, self.compositions)

    def singles(self) -> Iterator[DiscreteGaussian]:
        """Each query by itself."""
        return repeat(replace(self, compositions=1), self.compositions)


@dataclass(frozen=True)
class PoissonGaussian:
    """``steps`` sums of clipped vectors over Poisson samples, each with Gaussian noise: DP-SGD (Abadi et al., 2016).

    :ivar noise_multiplier: standard deviation of the noise over the clipping norm.
    :ivar sampling_rate: probability with which each unit enters a batch, independently.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def dp_event(self) -> dp_accounting.DpEvent:
        """For accountants of Rényi DP."""
        step = dp_accounting.PoissonSampledDpEvent(
            self.sampling_rate, dp_accounting.GaussianDpEvent(self.noise_multiplier)
        )
        return dp_accounting.SelfComposedDpEvent(step, self.steps)

    def pld(self, interval: float) -> PrivacyLossDistribution:
        """Privacy loss distribution, rounded up to multiples of ``interval``."""
        step = privacy_loss_distribution.from_gaussian_mechanism(
            self.noise_multiplier,
            sampling_prob=self.sampling_rate,
            value_discretization_interval=interval,
            neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        )
        return step.self_compose(self.steps)


@dataclass(frozen=True)
class ThresholdedHistogram:
    """Histograms over values that nobody declared, one a column, of which only counts that pass a threshold are shown.

    Every value that occurs is counted, with discrete Gaussian noise, and shown if the noisy count is the column's
    threshold at least (Korolova, Kenthapadi, Mishra, Ntoulas, 2009; with Gaussian noise Swanberg, Desfontaines, Haney,
    2023). With ``sensitivity`` k, a unit has at most k values in each column.

    *Argument.* Of a unit's values some occur without it too. Their counts move as :class:`DiscreteGaussian` says. The
    others occur only with it: if none of these is shown, the release is that of the shared values alone, from counts
    that the unit moves. Their noise is independent of all other noise and shows one of them with a probability p. So
    with the unit there the release is one of the Gaussian kind with probability 1 − p. Without it, split the release
    by a coin of that bias: in both directions two mixtures with the weights 1 − p and p, of which the first parts are
    those of the Gaussian mechanism. Hence hockey-stick divergences are at most (1 − p) times those of the Gaussian
    mechanism plus p, at every ε: its privacy loss, composed with an infinite one of probability p. And the mechanism
    has the Gaussian's Rényi cost but for a probability of p, which adds up over releases, however these are chosen
    (δ-approximate zCDP: Bun and Steinke, 2016; Whitehouse, Ramdas, Rogers, Wu, 2023).

    :ivar thresholds: one a column.
    :ivar delta: what is charged for p: never below the largest p, :attr:`failure`.
    """

    sigma: float
    sensitivity: int
    thresholds: tuple[int, ...]
    delta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        if not self.failure <= self.delta * _ROUNDED_UP < 1:
            raise ValueError(
                f"Expected thresholds that show a unit's own values with probability {self.delta:g} at most, given "
                f"such that do so with {self.failure:g}."
            )

    @classmethod
    def for_deltas(cls, sigma: float, sensitivity: int, deltas: tuple[float, ...]) -> ThresholdedHistogram:
        """The least thresholds for which each column's own values are shown with probability δ at most."""
        thresholds = tuple(_least_threshold(sigma, sensitivity, delta) for delta in deltas)
        return cls(sigma, sensitivity, thresholds, math.fsum(deltas))

    @property
    def noise(self) -> DiscreteGaussian:
        """What the counts cost."""
        return DiscreteGaussian(self.sigma, self.sensitivity, len(self.thresholds))

    @property
    def rho(self) -> float:
        """Zero-concentrated DP parameter of the counts."""
        return self.noise.rho

    @property
    def failure(self) -> float:
        """The largest probability that a value which a unit alone has is shown, by a union over columns and cells."""
        return math.fsum(_own_value_shown(self.sigma, self.sensitivity, threshold) for threshold in self.thresholds)

    def dp_event(self) -> dp_accounting.DpEvent:
        """For accountants of Rényi DP, who have to add ``delta`` to theirs."""
        return self.noise.dp_event()

    def pld(self, interval: float) -> PrivacyLossDistribution:
        """Privacy loss distribution, rounded up to multiples of ``interval``."""
        shown = DifferentialPrivacyParameters(0.0, self.delta)
        return self.noise.pld(interval).compose(privacy_loss_distribution.from_privacy_parameters(shown, interval))


_REACH = 40  # standard deviations; what lies beyond is below 1e-347
_ROUNDED_UP = 1 + 1e-9  # sums of up to some 1e6 positive numbers are good to 1e-10


@lru_cache(maxsize=8)
def _tail(sigma: float) -> npt.NDArray[np.float64]:
    """P[noise >= t] of the discrete Gaussian for t = 0, 1, … up to where it is no number any more, summed exactly."""
    weights = np.exp(-(np.arange(math.ceil(_REACH * sigma) + 2, dtype=np.float64) ** 2) / (2 * sigma**2))
    from_the_end = np.cumsum(weights[::-1])[::-1]  # the smallest first
    return np.asarray(from_the_end / (2 * from_the_end[0] - weights[0]))


def _own_value_shown(sigma: float, most: int, threshold: int) -> float:
    """The largest probability that one of a unit's own values passes, over all ways to spread ``most`` records.

    A value that the unit has r times passes with P[noise >= threshold − r]; probabilities of values add up at most.
    """
    tail = _tail(sigma)

    def passes(records: int) -> float:
        least = threshold - records
        if least <= 0:
            return 1.0 - float(tail[min(1 - least, len(tail) - 1)])
        return float(tail[min(least, len(tail) - 1)])

    worst = [0.0]
    for records in range(1, most + 1):
        worst.append(max(passes(part) + worst[records - part] for part in range(1, records + 1)))
    return min(1.0, worst[most] * _ROUNDED_UP)


def _least_threshold(sigma: float, most: int, delta: float) -> int:
    low, high = 0, most + math.ceil(_REACH * sigma) + 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _own_value_shown(sigma, most, middle) <= delta else (middle, high)
    return high


@dataclass(frozen=True)
class ExponentialSelection:
    """``compositions`` choices by the exponential mechanism, of integer scores that a unit moves by at most
    ``sensitivity``: a candidate is chosen with probability proportional to exp(epsilon x score / 2 sensitivity).

    Between neighbours the chances of all candidates change by factors within one range [e^(t - ε), e^t], whose place t
    depends on the tables: *bounded range* (Durfee, Rogers, 2019), which is more than pure DP says. Of all pairs of
    distributions with such factors those on two points have the largest δ(a), of these the one with t = (a + ε) / 2:

        δ(a) = (1 - e^((a - ε) / 2))² / (1 - e^-ε)    for -ε <= a <= ε

    As the supremum of privacy curves this is one itself, so it has a dominating pair, and dominating pairs compose
    adaptively (Zhu, Dong, Wang, 2022). It is the same for adding and removing. For each single t the Rényi
    divergence is at most the order times ε²/8 (Cesar, Rogers, 2021), which is what admission counts; the curve, which
    holds for all t at once, costs a composition of many choices about a third more zero-concentrated DP than that, and
    randomised response, which knows of no range, four times as much.
    """

    epsilon: float
    sensitivity: int = 1
    compositions: int = 1

    @property
    def rho(self) -> float:
        """Zero-concentrated DP parameter."""
        return self.compositions * self.epsilon**2 / 8

    @property
    def scale(self) -> float:
        """Of the Gumbel noise under which the highest score wins, rounded up."""
        return math.nextafter(2 * self.sensitivity / self.epsilon, math.inf)

    def dp_event(self) -> dp_accounting.DpEvent:
        """For accountants of Rényi DP."""
        return dp_accounting.ZCDpEvent(self.rho)

    def pld(self, interval: float) -> PrivacyLossDistribution:
        """Privacy loss distribution, the curve joined pessimistically between multiples of ``interval``."""
        reach = math.ceil(self.epsilon / interval)
        losses = np.arange(-reach, reach + 1)
        pmf = pld_pmf.create_pmf_pessimistic_connect_dots(
            interval, losses, self.delta(np.asarray(losses * interval, np.float64))
        )
        single = PrivacyLossDistribution(pmf)
        return single if self.compositions == 1 else single.self_compose(self.compositions)

    def delta(self, losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """δ at each loss, of one choice."""
        inside = np.expm1((np.minimum(losses, self.epsilon) - self.epsilon) / 2) ** 2 / -np.expm1(-self.epsilon)
        return np.where(losses <= -self.epsilon, -np.expm1(losses), inside)

    def scaled_to(self, rho: float) -> ExponentialSelection:
        """The same choices, as sharp as costs ``rho``."""
        return ExponentialSelection(math.sqrt(8 * rho / self.compositions), self.sensitivity, self.compositions)

    def singles(self) -> Iterator[ExponentialSelection]:
        """Each choice by itself."""
        return repeat(replace(self, compositions=1), self.compositions)


@dataclass(frozen=True)
class Composed:
    """The events of one mechanism that does several things, each of which may depend on what came out before."""

    parts: tuple[SingleEvent, ...]

    def dp_event(self) -> dp_accounting.DpEvent:
        """For accountants of Rényi DP."""
        return dp_accounting.ComposedDpEvent([part.dp_event() for part in self.parts])

    def pld(self, interval: float) -> PrivacyLossDistribution:
        """Privacy loss distribution, rounded up to multiples of ``interval``."""
        total = privacy_loss_distribution.identity(interval)
        for part in self.parts:
            total = total.compose(part.pld(interval))
        return total


SingleEvent = DiscreteGaussian | PoissonGaussian | ThresholdedHistogram | ExponentialSelection
Event = SingleEvent | Composed
_KINDS: dict[str, Callable[..., SingleEvent]] = {
    kind.__name__: kind for kind in (DiscreteGaussian, PoissonGaussian, ThresholdedHistogram, ExponentialSelection)
}


def parts_of(event: Event) -> tuple[SingleEvent, ...]:
    """The events that an event is made of: itself, if it is none that is composed."""
    return event.parts if isinstance(event, Composed) else (event,)


def additive_delta(event: Event) -> float:
    """What an event adds to δ whatever the ε."""
    return math.fsum(part.delta for part in parts_of(event) if isinstance(part, ThresholdedHistogram))


def event_document(event: Event) -> dict[str, Any]:
    """Plain values of an event, ``type`` among them."""
    if isinstance(event, Composed):
        return {"type": "Composed", "parts": [event_document(part) for part in event.parts]}
    return {"type": type(event).__name__, **asdict(event)}


def event_from_document(document: Mapping[str, Any]) -> Event:
    """The inverse of :func:`event_document`."""
    if document["type"] == "Composed":
        return Composed(tuple(_single_event(part) for part in document["parts"]))
    return _single_event(document)


def _single_event(document: Mapping[str, Any]) -> SingleEvent:
    values = dict(document)
    return _KINDS[values.pop("type")](**values)
