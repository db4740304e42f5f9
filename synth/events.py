"""Privacy events: what a mechanism did to its data, as a value that accountants judge.

An event and the code that adds the noise take their numbers from the same plan, so they cannot drift apart. Integer
noise is accounted as what it is, a discrete Gaussian, never relabelled as a continuous one. All events are for the
add/remove-one neighbouring relation: one unit, with all of its records, is there or not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import dp_accounting
from dp_accounting.pld import privacy_loss_distribution
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


Event = DiscreteGaussian | PoissonGaussian


def event_document(event: Event) -> dict[str, Any]:
    """Plain values of an event, ``type`` among them."""
    return {"type": type(event).__name__, **asdict(event)}


def event_from_document(document: dict[str, Any]) -> Event:
    """The inverse of :func:`event_document`."""
    values = dict(document)
    kinds: dict[str, type[DiscreteGaussian] | type[PoissonGaussian]] = {
        "DiscreteGaussian": DiscreteGaussian,
        "PoissonGaussian": PoissonGaussian,
    }
    return kinds[values.pop("type")](**values)
