"""From privacy events to (ε, δ), and the filter that admits releases one after another.

Two accountants, two jobs. One frozen plan is composed tightly by privacy loss distributions (PLD), rounded so that
the result is an upper bound; Rényi DP cross-checks it. Admission across releases uses a privacy filter: Rényi DP at
one order that is fixed when the policy is created, where the costs simply add up. A sum that stays within a bound
fixed beforehand is valid even when later choices depend on earlier outputs (Feldman and Zrnic, 2021); picking the
best order afterwards would not be. The filter is looser than PLD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from dp_accounting.rdp import RdpAccountant

from synth.events import Event, additive_delta

FINE_INTERVAL = 1e-4
COARSE_INTERVAL = 1e-3
NANO = 10**9
ATTO = 10**18
_TAIL = 1e-15  # of a loss distribution, counted as an infinite loss
# Whole orders only: the sampled Gaussian's Rényi divergence has a finite exact sum there; at fractional ones the
# series may fail to converge.
_ORDERS = [*range(2, 64), *range(64, 257, 16), 512, 1024]


@lru_cache(maxsize=512)
def _event_pld(event: Event, interval: float) -> PrivacyLossDistribution:
    return event.pld(interval)


def compose(events: Sequence[Event], interval: float = FINE_INTERVAL) -> PrivacyLossDistribution:
    """The privacy loss distribution of all events together."""
    return _compose(tuple(events), interval)


@lru_cache(maxsize=256)
def _compose(events: tuple[Event, ...], interval: float) -> PrivacyLossDistribution:
    total = privacy_loss_distribution.identity(interval)
    for event in events:
        total = total.compose(_event_pld(event, interval))
    return total


def epsilon(events: Sequence[Event], delta: float, interval: float = FINE_INTERVAL) -> float:
    """Smallest ε, rounded up, for which the composition of the events is (ε, δ)-DP."""
    return float(compose(events, interval).get_epsilon_for_delta(delta)) if events else 0.0


def epsilon_by_renyi(events: Sequence[Event], delta: float) -> float:
    """The cross-check: ε by Rényi DP at its best order. Never below the PLD's up to rounding."""
    accountant = RdpAccountant(orders=_ORDERS)
    for event in events:
        accountant.compose(event.dp_event())
    left = delta - math.fsum(additive_delta(event) for event in events)
    if left <= 0:
        return math.inf
    return float(accountant.get_epsilon(left)) if events else 0.0


def renyi(event: Event, order: float) -> float:
    """Rényi divergence bound of an event at one order, in nats."""
    accountant = RdpAccountant(orders=[order])
    accountant.compose(event.dp_event())
    divergence = float(accountant._rdp[0])
    if not divergence >= 0:  # also false for NaN
        raise ValueError(f"Expected a Rényi divergence >= 0 at order {order}, computed {divergence} for {event}.")
    return divergence


def dominated(smaller: Sequence[Event], larger: Sequence[Event], upto: float) -> bool:
    """Whether ``smaller``'s whole privacy curve δ(ε) lies below ``larger``'s, on a grid of 60 values of ε, and its
    Rényi costs do at every order that a filter may have.

    The one does not imply the other: the curve of choices by score is that of a worst case that costs more than their
    Rényi divergence does. Curves are compared up to what truncated tails add to one, about 1e-15 an event whatever its
    noise: without that allowance more events than ``larger`` has would be dominated at no noise at all.
    """
    if not (_renyi_costs(smaller) <= _renyi_costs(larger)).all():
        return False
    grid = np.concatenate([[0.0], np.geomspace(upto / 300, upto, 59)])
    low, high = compose(smaller, COARSE_INTERVAL), compose(larger, COARSE_INTERVAL)
    below: Sequence[float] = low.get_delta_for_epsilon(grid)
    above: Sequence[float] = high.get_delta_for_epsilon(grid)
    return all(b <= a + _TAIL * (1 + len(smaller)) for b, a in zip(below, above, strict=True))


def _renyi_costs(events: Sequence[Event]) -> npt.NDArray[np.float64]:
    """Rényi divergence bounds of all events together at each of ``_ORDERS``, in nats."""
    accountant = RdpAccountant(orders=_ORDERS)
    for event in events:
        accountant.compose(event.dp_event())
    return np.asarray(accountant._rdp, np.float64)


@dataclass(frozen=True)
class RenyiFilter:
    """Admission for one policy: the sum of Rényi costs at ``order`` stays within ``capacity`` nano-nats.

    What events add to δ whatever the ε has an account of its own, in whole 10⁻¹⁸: it stays within ``selection_delta``,
    which is set aside, and the capacity is that of the rest of δ. Both together are (ε, δ) over all releases, however
    these are chosen (Whitehouse, Ramdas, Rogers, Wu, 2023, Theorem 1, for one order).
    """

    order: int
    epsilon: float
    delta: float
    selection_delta: float = 0.0

    @classmethod
    def for_budget(cls, epsilon: float, delta: float, selection_delta: float = 0.0) -> RenyiFilter:
        """The filter whose order admits most Gaussian releases; depends on public numbers only."""
        best = max(range(2, 1025), key=lambda order: _renyi_budget(epsilon, delta - selection_delta, order) / order)
        return cls(best, epsilon, delta, selection_delta)

    @property
    def capacity(self) -> int:
        """Nano-nats that may be spent in all, rounded down."""
        return math.floor(max(0.0, _renyi_budget(self.epsilon, self.delta - self.selection_delta, self.order)) * NANO)

    @property
    def delta_capacity(self) -> int:
        """What may be added to δ in all, in 10⁻¹⁸, rounded down."""
        return math.floor(Fraction(repr(self.selection_delta)) * ATTO)  # as the officer wrote it

    def cost(self, event: Event) -> int:
        """Nano-nats that an event costs, rounded up."""
        return math.ceil(renyi(event, self.order) * NANO)


def delta_cost(event: Event) -> int:
    """What an event adds to δ whatever the ε, in 10⁻¹⁸, rounded up."""
    return math.ceil(Fraction(repr(float(additive_delta(event)))) * ATTO)


def _renyi_budget(epsilon: float, delta: float, order: float) -> float:
    """The Rényi divergence at ``order`` that still implies (ε, δ)-DP (Canonne, Kamath, Steinke, 2020, Prop. 12)."""
    return epsilon - math.log1p(-1 / order) + math.log(delta * order) / (order - 1)
