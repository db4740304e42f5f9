"""Privacy events: what a mechanism did to its data, as a value that accountants judge.

An event and the code that adds the noise take their numbers from the same plan, so they cannot drift apart. Integer
noise is accounted as what it is, a discrete Gaussian, never relabelled as a continuous one. All events are for the
add/remove-one neighbouring relation: one unit, with all of its records, is there or not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, get_args

import dp_accounting
import numpy as np
import numpy.typing as npt
from dp_accounting.pld import privacy_loss_distribution
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


Event = DiscreteGaussian | PoissonGaussian | ThresholdedHistogram


def additive_delta(event: Event) -> float:
    """What an event adds to δ whatever the ε."""
    return event.delta if isinstance(event, ThresholdedHistogram) else 0.0


def event_document(event: Event) -> dict[str, Any]:
    """Plain values of an event, ``type`` among them."""
    return {"type": type(event).__name__, **asdict(event)}


def event_from_document(document: dict[str, Any]) -> Event:
    """The inverse of :func:`event_document`."""
    values = dict(document)
    kinds: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
    return kinds[values.pop("type")](**values)
