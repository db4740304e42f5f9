"""What was charged, added up exactly.

Costs are whole nano-nats of Rényi divergence at the policy's fixed order, rounded up by the caller, so a
balance never drifts. A privacy unit is in one branch, train or holdout, as long as the split stays the same:
under one split a policy has spent the worse of the two branches. Another split (changed key, fraction or
unit) may put a person on the other side, so the totals of different splits add up. Composition at one fixed
order stays valid when later choices depend on earlier outputs (Feldman and Zrnic, 2021, "Individual Privacy
Accounting via a Rényi Filter").

A policy may give a fresh total in each window, a quarter say; the privacy unit is then a person in a window. What is
charged in a window is held under ``window/split``, and counts in no other window. The window ``""`` is that of
policies without windows, held under the plain split.

What a mechanism adds to δ whatever the ε has a second account: whole 10⁻¹⁸, held beside each branch's cost where any
was charged, and bounded by what the policy set aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synth.errors import LedgerError
from synth.ledger.entries import Splits, mechanism_name

BRANCHES = ("train", "holdout")
_DELTAS = {branch: f"{branch}_delta" for branch in BRANCHES}  # a second account, there once something is charged to it

# No '/', which parts it from the split.
_WINDOW = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,39})?")


@dataclass(frozen=True)
class Charge:
    """What one attempt of one mechanism costs, and the branches whose rows it sees.

    :param mechanism: the mechanism's name in the plan.
    :param branches: ``("train",)``, ``("holdout",)`` or both.
    :param cost: nano-nats of Rényi divergence at the policy's order, rounded up.
    :param delta: what it adds to δ whatever the ε, in 10⁻¹⁸, rounded up.
    """

    mechanism: str
    branches: tuple[str, ...]
    cost: int
    delta: int = 0

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
        if type(self.delta) is not int or self.delta < 0:
            raise LedgerError(
                f"charge of mechanism {self.mechanism!r}: delta {self.delta!r} is not accepted: a whole number of "
                "10⁻¹⁸, at least 0; round up"
            )

    def of_attempt(self, attempt: int, units_may_move: bool) -> Charge:
        """What an attempt is charged to.

        Where a unit may be in one branch today and in the other for the next release, it may pay either branch of
        each. A release's training branch costs at least as much as its holdout, so the sum over training branches
        covers that; what comes on top, a further attempt in either branch, is charged to both.
        """
        return replace(self, branches=BRANCHES) if units_may_move and attempt > 1 else self

    def as_json(self) -> dict[str, Any]:
        document = {"mechanism": self.mechanism, "branches": sorted(self.branches), "cost": self.cost}
        return document | ({"delta": self.delta} if self.delta else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Charge:
        return cls(document["mechanism"], tuple(document["branches"]), document["cost"], document.get("delta", 0))


@dataclass(frozen=True)
class Balance:
    """Where a policy stands, in nano-nats.

    ``spent`` counts mechanisms that started, ``reserved`` what the others would add, ``left`` what can still
    be asked; all of them in one window. ``delta_held``, spent or reserved, and ``delta_capacity`` are those of the
    second account, in 10⁻¹⁸.
    """

    capacity: int
    spent: int
    reserved: int
    left: int
    by_split: Mapping[str, Mapping[str, int]]
    window: str = ""
    delta_held: int = 0
    delta_capacity: int = 0

    @property
    def total(self) -> int:
        """What admission compares with the capacity."""
        return self.spent + self.reserved


def opening(registration: Mapping[str, Any]) -> Splits:
    """What a policy starts with, from its registration's payload: nothing, or all that the one it succeeds held.

    Carried over under a split of its own and in both branches: whoever it was, they were charged that.

    >>> opening({"succeeds": {"policy": "p", "carried": {"": {"total": 5, "releases": 1}}}})
    {'carried:p': {'train': 5, 'holdout': 5}}
    >>> opening({"succeeds": {"policy": "p", "carried": {"": {"total": 5, "releases": 1, "delta": 2}}}})
    {'carried:p': {'train': 5, 'holdout': 5, 'train_delta': 2, 'holdout_delta': 2}}
    """
    if "succeeds" not in registration:
        return {}
    split_id, carried = f"carried:{registration['succeeds']['policy']}", registration["succeeds"]["carried"]
    return {
        held_under(window, split_id): dict.fromkeys(BRANCHES, held["total"])
        | (dict.fromkeys(_DELTAS.values(), held["delta"]) if "delta" in held else {})
        for window, held in carried.items()
    }


def checked_charges(charges: Sequence[Charge]) -> tuple[Charge, ...]:
    """``charges`` if there is one at least and none twice."""
    names = [charge.mechanism for charge in charges]
    if not names:
        raise LedgerError("a reservation needs at least one charge: every mechanism of the plan is one")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LedgerError(f"charges name a mechanism twice: {', '.join(twice)}; a mechanism has one charge")
    return tuple(charges)


def window_name(window: str) -> str:
    """``window`` if a window can be called that."""
    if not isinstance(window, str) or not _WINDOW.fullmatch(window):
        raise LedgerError(
            f"window {window!r} is not accepted: empty, or up to 40 letters, digits, '.', '_' and '-', a letter or "
            "digit first"
        )
    return window


def held_under(window: str, split_id: str) -> str:
    """The key of a balance under which a split's charges of one window are held.

    >>> held_under("2026-Q3", "a"), held_under("", "a")
    ('2026-Q3/a', 'a')
    """
    if not split_id or "/" in split_id:
        raise LedgerError(f"split_id {split_id!r} is not accepted: some text without '/'")
    return f"{window}/{split_id}" if window_name(window) else split_id


def windows_of(balance: Splits) -> set[str]:
    """The windows in which something is or was held."""
    return {_apart(key)[0] for key in balance}


def in_window(balance: Splits, window: str) -> Splits:
    """What is held in one window, by split.

    >>> in_window({"2026-Q3/a": {"train": 5, "holdout": 3}, "a": {"train": 1, "holdout": 2}}, "2026-Q3")
    {'a': {'train': 5, 'holdout': 3}}
    """
    held = ((_apart(key), branches) for key, branches in balance.items())
    return {split_id: branches for (there, split_id), branches in held if there == window}


def plus(balance: Splits, key: str, charges: Iterable[Charge]) -> Splits:
    """``balance`` with ``charges`` added under ``key``, see :func:`held_under`; the argument stays as it is."""
    return _moved(balance, key, charges, 1)


def minus(balance: Splits, key: str, charges: Iterable[Charge]) -> Splits:
    """``balance`` with ``charges`` taken away under ``key``; the argument stays as it is."""
    return _moved(balance, key, charges, -1)


def total(balance: Splits, window: str = "") -> int:
    """The worst any one person has been charged in a window: per split the worse branch, added over splits.

    >>> total({"a": {"train": 5, "holdout": 3}, "b": {"train": 1, "holdout": 2}, "2026-Q3/a": {"train": 9}})
    7
    """
    held = in_window(balance, window).values()
    return sum(max(branches.get(branch, 0) for branch in BRANCHES) for branches in held)


def delta_total(balance: Splits, window: str = "") -> int:
    """As :func:`total`, of the second account.

    >>> delta_total({"a": {"train": 5, "holdout": 3, "train_delta": 4, "holdout_delta": 0}, "b": {"train": 1}})
    4
    """
    held = in_window(balance, window).values()
    return sum(max(branches.get(account, 0) for account in _DELTAS.values()) for branches in held)


def budget_name(policy: str, window: str) -> str:
    """What a text calls the budget of a window.

    >>> budget_name("patients", "2026-Q3"), budget_name("patients", "")
    ("policy 'patients', window '2026-Q3',", "policy 'patients'")
    """
    return f"policy {policy!r}, window {window!r}," if window else f"policy {policy!r}"


def refusal(policy: str, balance: Balance, asked: int, purpose: str) -> str:
    """Why ``asked`` nano-nats more are not admitted; rounded so that asked reads above left."""

    def up(cost: int) -> str:
        hundredths = -(-cost * 10_000 // balance.capacity)
        return f"{hundredths // 100}.{hundredths % 100:02d} %"

    def down(cost: int) -> str:
        hundredths = cost * 10_000 // balance.capacity
        return f"{hundredths // 100}.{hundredths % 100:02d} %"

    return (
        f"{budget_name(policy, balance.window)} does not admit {purpose}. In percent of the policy's "
        f"budget: total capacity 100 %, spent {up(balance.spent)}, reserved {up(balance.reserved)}, asked {up(asked)}, "
        f"left {down(balance.left)}. What was spent never comes back; what is reserved comes back only for "
        "mechanisms that have not started when their run is settled. Lower the release's epsilon in the "
        "share contract, or wait until runs that hold a reservation are settled."
    )


def delta_refusal(policy: str, balance: Balance, asked: int, purpose: str) -> str:
    """Why so much more is not added to δ."""

    def of_delta(units: int) -> str:
        return f"{units / 10**18:.3g}"

    return (
        f"{budget_name(policy, balance.window)} does not admit {purpose}: selecting categories of open columns would "
        f"add {of_delta(asked)} to δ. The policy's selection_delta sets aside {of_delta(balance.delta_capacity)} for "
        f"that, of which {of_delta(balance.delta_held)} is spent or reserved. What was spent never comes back. Lower "
        "selection_delta of the open columns in the share contract, or declare their categories"
    )


def _apart(key: str) -> tuple[str, str]:
    window, _, split_id = key.rpartition("/")
    return window, split_id


def _moved(balance: Splits, key: str, charges: Iterable[Charge], sign: int) -> Splits:
    moved = {held: dict(branches) for held, branches in balance.items()}
    branches = moved.setdefault(key, dict.fromkeys(BRANCHES, 0))
    for charge in charges:
        for branch in charge.branches:
            branches[branch] += sign * charge.cost
        if charge.delta:
            for branch, account in _DELTAS.items():
                branches[account] = branches.get(account, 0) + sign * charge.delta * (branch in charge.branches)
    return moved
