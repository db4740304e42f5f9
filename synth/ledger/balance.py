"""What was charged, added up exactly.

Costs are whole nano-nats of Rényi divergence at the policy's fixed order, rounded up by the caller, so a
balance never drifts. A privacy unit is in one branch, train or holdout, as long as the split stays the same:
under one split a policy has spent the worse of the two branches. Another split (changed key, fraction or
unit) may put a person on the other side, so the totals of different splits add up. Composition at one fixed
order stays valid when later choices depend on earlier outputs (Feldman and Zrnic, 2021, "Individual Privacy
Accounting via a Rényi Filter").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth.errors import LedgerError
from synth.ledger.entries import Splits, mechanism_name

BRANCHES = ("train", "holdout")


@dataclass(frozen=True)
class Charge:
    """What one attempt of one mechanism costs, and the branches whose rows it sees.

    :param mechanism: the mechanism's name in the plan.
    :param branches: ``("train",)``, ``("holdout",)`` or both.
    :param cost: nano-nats of Rényi divergence at the policy's order, rounded up.
    """

    mechanism: str
    branches: tuple[str, ...]
    cost: int

    def __post_init__(self) -> None:
        mechanism_name(self.mechanism)
        if not self.branches or any(self.branches.count(b) != 1 or b not in BRANCHES for b in self.branches):
            raise LedgerError(
                f"charge of mechanism {self.mechanism!r}: branches {self.branches!r} are not accepted: "
                "('train',), ('holdout',) or ('train', 'holdout')"
            )
        if type(self.cost) is not int or self.cost < 1:
            raise LedgerError(
                f"charge of mechanism {self.mechanism!r}: cost {self.cost!r} is not accepted: a whole "
                "number of nano-nats, at least 1; round up"
            )

    def as_json(self) -> dict[str, Any]:
        return {"mechanism": self.mechanism, "branches": sorted(self.branches), "cost": self.cost}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Charge:
        return cls(document["mechanism"], tuple(document["branches"]), document["cost"])


@dataclass(frozen=True)
class Balance:
    """Where a policy stands, in nano-nats.

    ``spent`` counts mechanisms that started, ``reserved`` what the others would add, ``left`` what can still
    be asked.
    """

    capacity: int
    spent: int
    reserved: int
    left: int
    by_split: Mapping[str, Mapping[str, int]]

    @property
    def total(self) -> int:
        """What admission compares with the capacity."""
        return self.spent + self.reserved


def checked_charges(charges: Sequence[Charge]) -> tuple[Charge, ...]:
    """``charges`` if there is one at least and none twice."""
    names = [charge.mechanism for charge in charges]
    if not names:
        raise LedgerError("a reservation needs at least one charge: every mechanism of the plan is one")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LedgerError(f"charges name a mechanism twice: {', '.join(twice)}; a mechanism has one charge")
    return tuple(charges)


def plus(balance: Splits, split_id: str, charges: Iterable[Charge]) -> Splits:
    """``balance`` with ``charges`` added under ``split_id``; the argument stays as it is."""
    return _moved(balance, split_id, charges, 1)


def minus(balance: Splits, split_id: str, charges: Iterable[Charge]) -> Splits:
    """``balance`` with ``charges`` taken away under ``split_id``; the argument stays as it is."""
    return _moved(balance, split_id, charges, -1)


def total(balance: Splits) -> int:
    """The worst any one person has been charged: per split the worse branch, added over splits.

    >>> total({"a": {"train": 5, "holdout": 3}, "b": {"train": 1, "holdout": 2}})
    7
    """
    return sum(max(branches.values()) for branches in balance.values())


def refusal(policy: str, balance: Balance, asked: int, purpose: str) -> str:
    """Why ``asked`` nano-nats more are not admitted; rounded so that asked reads above left."""

    def up(cost: int) -> str:
        hundredths = -(-cost * 10_000 // balance.capacity)
        return f"{hundredths // 100}.{hundredths % 100:02d} %"

    def down(cost: int) -> str:
        hundredths = cost * 10_000 // balance.capacity
        return f"{hundredths // 100}.{hundredths % 100:02d} %"

    return (
        f"policy {policy!r} does not admit {purpose}. In percent of the policy's budget: total capacity 100 "
        f"%, spent {up(balance.spent)}, reserved {up(balance.reserved)}, asked {up(asked)}, left "
        f"{down(balance.left)}. What was spent never comes back; what is reserved comes back only for "
        "mechanisms that have not started when their run is settled. Lower the release's epsilon in the "
        "share contract, or wait until runs that hold a reservation are settled."
    )


def _moved(balance: Splits, split_id: str, charges: Iterable[Charge], sign: int) -> Splits:
    moved = {split: dict(branches) for split, branches in balance.items()}
    branches = moved.setdefault(split_id, dict.fromkeys(BRANCHES, 0))
    for charge in charges:
        for branch in charge.branches:
            branches[branch] += sign * charge.cost
    return moved
