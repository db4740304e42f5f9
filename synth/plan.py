"""The release plan: every mechanism of one release, in two branches, with its noise and its event.

One frozen value is computed from contract and policy before any data is touched, reserved in the ledger under its
digest, and handed to every step: what runs is what was reserved. A unit is in one branch, *train* or *holdout*, so
a release costs the worse of the two composed branches; what sees all rows (validation) is in both.

Parts of a release declare *demands*: a mechanism's name, branches, share of the budget, and how a share becomes
noise. Shares are of zero-concentrated cost; one common scale is then tightened until the PLD composition of the
training branch meets the contract's ε. The holdout's gate is sized so that its branch's whole privacy curve stays
below the training branch's: it adds nothing to the claim.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scipy.optimize import brentq

from synth import accounting
from synth.accounting import RenyiFilter
from synth.canonical import canonical_json
from synth.contract import Contract
from synth.errors import ContractError
from synth.events import (
    Composed,
    DiscreteGaussian,
    Event,
    ExponentialSelection,
    PoissonGaussian,
    ThresholdedHistogram,
    additive_delta,
    event_document,
    event_from_document,
    parts_of,
)
from synth.records import HOLDOUT, TRAIN
from synth.schema import Schema

MOST_CELLS = 20_000_000  # of noise that one release draws: some three minutes of a core, ten microseconds each
_PACE_SLACK = 2e-4
_LEAST_GATE = 1e-6  # of what the gate may take at most: less measures nothing
_SLACK = 1e-3  # relative; the search uses coarse accounting and must land below the target on the fine one


@dataclass(frozen=True)
class Demand:
    """What a part of the release asks for: a mechanism whose noise is still open.

    :ivar sized: the event that costs a zero-concentrated ``rho``, given about the total ``rho`` of the branch.
    """

    name: str
    branches: tuple[str, ...]
    share: float
    sized: Callable[[float, float], Event]
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def integer_queries(template: DiscreteGaussian | ExponentialSelection) -> Callable[[float, float], Event]:
    """Sizes discrete Gaussian queries, or choices by score."""
    return lambda rho, total: template.scaled_to(rho)


def choose_and_count(
    choices: ExponentialSelection, counts: DiscreteGaussian, choosing: float
) -> Callable[[float, float], Event]:
    """Sizes rounds that each choose what they count; ``choosing`` is the choices' part."""
    return lambda rho, total: Composed((choices.scaled_to(choosing * rho), counts.scaled_to((1 - choosing) * rho)))


def sampled_gaussian(sampling_rate: float, steps: int, delta: float) -> Callable[[float, float], Event]:
    """Sizes DP-SGD: the noise multiplier whose Rényi cost, at the order that matters for the total, is order x rho."""

    def sized(rho: float, total: float) -> Event:
        order = int(min(max(2, round(1 + math.sqrt(math.log(1 / delta) / total))), 256))

        def excess(log_noise: float) -> float:
            event = PoissonGaussian(math.exp(log_noise), sampling_rate, steps)
            return math.log(accounting.renyi(event, order)) - math.log(order * rho)

        return PoissonGaussian(math.exp(brentq(excess, math.log(0.3), math.log(500), xtol=1e-4)), sampling_rate, steps)

    return sized


@dataclass(frozen=True)
class Mechanism:
    """One mechanism of a plan: what it does, whom it sees, what is charged."""

    name: str
    branches: tuple[str, ...]
    share: float
    event: Event
    description: str
    parameters: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "branches": list(self.branches),
            "share": self.share,
            "event": event_document(self.event),
            "description": self.description,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True)
class ReleasePlan:
    """All mechanisms of one release, and what they cost together.

    :ivar epsilon: claimed ε of one release at ``delta``: the training branch by PLD, rounded up.
    :ivar epsilon_holdout: the holdout branch's, never above it.
    :ivar epsilon_renyi: cross-check of ``epsilon`` by Rényi DP.
    :ivar epsilon_all_attempts: the worse branch if every mechanism ran ``max_attempts`` times.
    :ivar window: the window of time that is released; empty where the contract has no windows.
    """

    contract_digest: str
    mechanisms: tuple[Mechanism, ...]
    delta: float
    epsilon: float
    epsilon_holdout: float
    epsilon_renyi: float
    epsilon_all_attempts: float
    max_attempts: int
    holdout_fraction: float
    window: str = ""

    def __getitem__(self, name: str) -> Mechanism:
        for mechanism in self.mechanisms:
            if mechanism.name == name:
                return mechanism
        raise KeyError(f"The plan has no mechanism {name!r}.")

    def events(self, branch: str) -> list[Event]:
        """Events of one branch."""
        return [mechanism.event for mechanism in self.mechanisms if branch in mechanism.branches]

    def counts(self, name: str) -> DiscreteGaussian:
        """The event of a mechanism on integers."""
        event = self[name].event
        if not isinstance(event, DiscreteGaussian):
            raise TypeError(f"Expected {name!r} to be a discrete Gaussian, the plan has {type(event).__name__}.")
        return event

    def thresholds(self, name: str) -> ThresholdedHistogram:
        """The event of a mechanism that shows what passes a threshold."""
        event = self[name].event
        if not isinstance(event, ThresholdedHistogram):
            raise TypeError(f"Expected {name!r} to have thresholds, the plan has {type(event).__name__}.")
        return event

    @property
    def selection_delta(self) -> float:
        """What of ``delta`` goes into selecting the categories of open columns, each mechanism once."""
        return math.fsum(additive_delta(event) for event in self.events(TRAIN))

    def charged_epsilon(self, attempts: Mapping[str, int]) -> float:
        """ε at ``delta`` of what ran: each mechanism as often as it was started, by PLD, the worse branch."""
        worst = 0.0
        for branch in (TRAIN, HOLDOUT):
            events = [
                mechanism.event
                for mechanism in self.mechanisms
                if branch in mechanism.branches
                for _ in range(attempts.get(mechanism.name, 0))
            ]
            worst = max(worst, accounting.epsilon(events, self.delta))
        return worst

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "contract_digest": self.contract_digest,
            "mechanisms": [mechanism.document() for mechanism in self.mechanisms],
            "delta": self.delta,
            "epsilon": self.epsilon,
            "epsilon_holdout": self.epsilon_holdout,
            "epsilon_renyi": self.epsilon_renyi,
            "epsilon_all_attempts": self.epsilon_all_attempts,
            "max_attempts": self.max_attempts,
            "holdout_fraction": self.holdout_fraction,
            "window": self.window,
        }

    def digest(self) -> str:
        """SHA-256 of the canonical document."""
        return hashlib.sha256(canonical_json(self.document()).encode()).hexdigest()

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ReleasePlan:
        """The inverse of :meth:`document`."""
        values = dict(document)
        values["mechanisms"] = tuple(
            Mechanism(
                m["name"],
                tuple(m["branches"]),
                m["share"],
                event_from_document(m["event"]),
                m["description"],
                m["parameters"],
            )
            for m in document["mechanisms"]
        )
        return cls(**values)


@dataclass(frozen=True)
class Pace:
    """The most that one release may cost in the policy's filter, so that the planned number of releases fits.

    :ivar delta: the same of what the policy set aside of its δ.
    """

    filter: RenyiFilter
    nano_nats: int
    delta: float = 0.0

    def allows(self, events: Sequence[Event]) -> bool:
        """Whether a branch of these events stays within the pace."""
        return sum(self.filter.cost(event) for event in events) <= self.nano_nats


def make_plan(
    contract: Contract,
    demands: Sequence[Demand],
    gate: Sequence[Demand],
    holdout_fraction: float,
    *,
    pace: Pace | None = None,
    window: str = "",
) -> ReleasePlan:
    """Calibrate the demands to the contract's (ε, δ), or to the policy's pace where that allows less.

    :param demands: mechanisms that see the training branch; shares add up to 1.
    :param gate: mechanisms that see the holdout alone; their shares say how they divide what the gate may take.
    :raises ContractError: if no amount of noise within reason meets the budget, or there are more than
        ``MOST_CELLS`` numbers to draw noise for.
    """
    target, delta = contract.privacy.epsilon, contract.privacy.delta

    nominal = nominal_rho(target, delta)  # not the searched one: Rényi orders would jump, and the search end at a jump

    def sized(log_rho: float) -> list[Mechanism]:
        return [_mechanism(demand, demand.share * math.exp(log_rho), nominal) for demand in demands]

    def excess(log_rho: float) -> float:
        events = [mechanism.event for mechanism in sized(log_rho)]
        return accounting.epsilon(events, delta, accounting.COARSE_INTERVAL) - target * (1 - _SLACK)

    start = math.log(nominal)
    try:
        log_rho = brentq(excess, start - 3, start + 3, xtol=2e-4)
        mechanisms = sized(log_rho)
        while accounting.epsilon([m.event for m in mechanisms], delta) > target:
            log_rho -= _SLACK
            mechanisms = sized(log_rho)
        if pace is not None and not pace.allows([m.event for m in mechanisms]):
            mechanisms = _paced(sized, log_rho, pace)
    except ValueError:
        paced = " at the pace of the policy's horizon" if pace else ""
        raise ContractError(
            f"privacy.epsilon={target:g} with delta={delta:g} cannot be met{paced} by method.options as given: "
            "raise epsilon, or lower the number of steps or the batch size"
        ) from None
    mechanisms += _size_gate(mechanisms, gate, target, pace)
    _refuse_costly_draw(contract, mechanisms)
    branch = {name: [m.event for m in mechanisms if name in m.branches] for name in (TRAIN, HOLDOUT)}
    return ReleasePlan(
        contract_digest=contract.digest(),
        mechanisms=tuple(mechanisms),
        delta=delta,
        epsilon=accounting.epsilon(branch[TRAIN], delta),
        epsilon_holdout=accounting.epsilon(branch[HOLDOUT], delta),
        epsilon_renyi=accounting.epsilon_by_renyi(branch[TRAIN], delta),
        epsilon_all_attempts=max(
            accounting.epsilon(events * contract.privacy.max_attempts, delta) for events in branch.values()
        ),
        max_attempts=contract.privacy.max_attempts,
        holdout_fraction=holdout_fraction,
        window=window,
    )


def _paced(sized: Callable[[float], list[Mechanism]], above: float, pace: Pace) -> list[Mechanism]:
    """The mechanisms with the least noise that the pace allows; ``above`` is a scale that costs more."""

    def excess(log_rho: float) -> float:
        cost = sum(pace.filter.cost(mechanism.event) for mechanism in sized(log_rho))
        return math.log(cost) - math.log(pace.nano_nats)

    below = above - 1
    while excess(below) > 0:
        below -= 1
    log_rho = brentq(excess, below, below + 1, xtol=1e-5)
    mechanisms = sized(log_rho)
    while not pace.allows([mechanism.event for mechanism in mechanisms]):
        log_rho -= _PACE_SLACK
        mechanisms = sized(log_rho)
    return mechanisms


def _size_gate(
    mechanisms: Sequence[Mechanism], gate: Sequence[Demand], upto: float, pace: Pace | None
) -> list[Mechanism]:
    """The gate's mechanisms with the least noise for which the holdout's curve stays below the training branch's."""
    # Without what selection adds to δ: the holdout shall not have more of it because the training branch has.
    train = [_noise(m.event) for m in mechanisms if TRAIN in m.branches]
    shared = [m.event for m in mechanisms if HOLDOUT in m.branches]
    rho = nominal_rho(accounting.epsilon(train, 1e-6), 1e-6) * 2
    shares = sum(demand.share for demand in gate)
    gate = [replace(demand, share=demand.share / shares) for demand in gate]
    least = _LEAST_GATE * rho
    while rho > least:
        sized = [_mechanism(demand, rho * demand.share, rho) for demand in gate]
        holdout = shared + [m.event for m in sized]
        if accounting.dominated(holdout, train, 3 * upto) and (pace is None or pace.allows(holdout)):
            return sized
        rho *= 0.93
    raise ContractError(
        "quality: what the gate asks of the holdout does not fit below what training costs, with any noise; leave out "
        "quality.subgroups or some of task.targets, or give method.options.shares.validation a smaller share"
    )


def _noise(event: Event) -> Event:
    return event.noise if isinstance(event, ThresholdedHistogram) else event


def cells(mechanism: Mechanism) -> int:
    """How many integers a mechanism adds discrete noise to; none, if its noise is not discrete. A public number."""
    noises = [_noise(part) for part in parts_of(mechanism.event)]
    queries = sum(noise.compositions for noise in noises if isinstance(noise, DiscreteGaussian))
    if not queries:
        return 0
    declared = (mechanism.parameters.get(name, 0) for name in ("cells", "columns", "pairs", "counts"))
    return max(queries, *declared)


def _refuse_costly_draw(contract: Contract, mechanisms: Sequence[Mechanism]) -> None:
    total = sum(cells(mechanism) for mechanism in mechanisms)
    if total > MOST_CELLS:
        most = max(mechanisms, key=cells)
        widest = sorted(Schema.from_contract(contract).columns, key=lambda column: -column.size)[:3]
        named = ", ".join(f"{column.name!r} ({column.size:,})" for column in widest)
        raise ContractError(
            f"schema: noise would be drawn for {total:,} cells, {cells(most):,} of them for {most.name!r}; accepted: "
            f"at most {MOST_CELLS:,}. Declare fewer bins or categories, or leave columns out; the columns with most "
            f"cells are {named}"
        )


def _mechanism(demand: Demand, rho: float, total: float) -> Mechanism:
    event = demand.sized(rho, total)
    return Mechanism(demand.name, demand.branches, demand.share, event, demand.description, demand.parameters)


def nominal_rho(epsilon: float, delta: float) -> float:
    """Roughly the zero-concentrated cost of (ε, δ), on the low side: where the search starts."""
    return (math.sqrt(math.log(1 / delta) + epsilon) - math.sqrt(math.log(1 / delta))) ** 2
