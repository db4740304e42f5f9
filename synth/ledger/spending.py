"""Spending inside one transaction: reserve, begin, commit, settle.

Each function takes a `Chain` whose policy's lock is held, decides on a bounded number of entries (the
reservation, the attempts of one mechanism, the last entry) and, under a horizon, on a count of runs, and appends. The
whole history is read only to word a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synth.errors import (
    AttemptsExhausted,
    BudgetExceeded,
    LedgerError,
    NotReserved,
    PlanChanged,
    PolicyError,
    ReservationReleased,
)
from synth.ledger import entries as keys
from synth.ledger.balance import (
    Charge,
    checked_charges,
    delta_refusal,
    delta_total,
    held_under,
    minus,
    plus,
    refusal,
    total,
)
from synth.ledger.chain import Chain
from synth.ledger.entries import Entry, Splits, canonical_json
from synth.ledger.history import Replay
from synth.ledger.pacing import releases_left

MOST_ATTEMPTS = 100


def reservation_payload(
    plan_digest: str,
    split_id: str,
    max_attempts: int,
    charges: Sequence[Charge],
    details: Mapping[str, Any],
    window: str,
    units_may_move: bool,
) -> dict[str, Any]:
    """The payload of a reservation, if it is acceptable. What it does not need it does not mention."""
    if type(max_attempts) is not int or not 1 <= max_attempts <= MOST_ATTEMPTS:
        raise LedgerError(f"max_attempts {max_attempts!r} is not accepted: a whole number from 1 to {MOST_ATTEMPTS}")
    if not plan_digest or not split_id:
        raise LedgerError("a reservation needs a plan_digest and a split_id, neither of them empty")
    held_under(window, split_id)
    payload = {
        "plan_digest": plan_digest,
        "split_id": split_id,
        "max_attempts": max_attempts,
        "charges": [charge.as_json() for charge in checked_charges(charges)],
        "details": dict(details),
    }
    train, holdout = (_in_branch(charges, branch) for branch in ("train", "holdout"))
    if units_may_move and any(there > here for there, here in zip(holdout, train, strict=True)):
        raise LedgerError("where units may move between branches the holdout must not cost more than training")
    return payload | ({"window": window} if window else {}) | ({"units_may_move": True} if units_may_move else {})


def reserve(chain: Chain, run: str, payload: dict[str, Any], horizon: int | None) -> Entry:
    """See `Ledger.reserve`."""
    reserved = chain.find(keys.reserve_key(run))
    if reserved is not None:
        _require_plan(reserved, payload["plan_digest"])
        recorded = reserved.payload
        for name in ("split_id", "max_attempts", "charges", "window", "units_may_move"):
            if canonical_json(recorded.get(name)) != canonical_json(payload.get(name)):
                raise PlanChanged(
                    f"run {run!r}: {name} differs from what was reserved under the same plan digest; "
                    "the digest has to cover it"
                )
        return reserved
    if horizon is not None:
        releases_left(chain, horizon, window_of(payload))
    before = _held(chain)
    after = plus(before, _key(payload), charges_of(payload))
    _admit(chain, before, after, window_of(payload), f"run {run!r}")
    return chain.append("reserve", keys.reserve_key(run), run, payload, after)


def begin(chain: Chain, run: str, mechanism: str, plan_digest: str) -> int:
    """See `Ledger.begin`."""
    reserved = chain.find(keys.reserve_key(run))
    if reserved is None:
        raise NotReserved(
            f"run {run!r} has no reservation under policy {chain.policy!r}; reserve its plan before anything reads rows"
        )
    _require_plan(reserved, plan_digest)
    if chain.find(keys.fact_key(run, "settled")) is not None:
        raise ReservationReleased(
            f"run {run!r} was settled and its private rows are erased, so mechanism {mechanism!r} cannot start; "
            "start a new run"
        )
    charge = _charge(reserved, mechanism)
    most: int = reserved.payload["max_attempts"]
    begun = chain.find_all([keys.begin_key(run, mechanism, number) for number in range(1, most + 1)])
    if any(entry.kind == "free" for entry in begun.values()):
        raise ReservationReleased(
            f"run {run!r} was settled before mechanism {mechanism!r} started, and its budget was given back; "
            "start a new run"
        )
    attempt = len(begun) + 1
    if attempt > most:
        raise AttemptsExhausted(
            f"run {run!r}: mechanism {mechanism!r} started {most} times, which is max_attempts of the plan, "
            "and each attempt stays spent; find out why its output was lost, then start a new run"
        )
    before = _held(chain)
    after = before
    if attempt > 1:
        purpose = f"attempt {attempt} of mechanism {mechanism!r} in run {run!r}"
        charge = charge.of_attempt(attempt, reserved.payload.get("units_may_move", False))
        after = plus(before, _key(reserved.payload), [charge])
        _admit(chain, before, after, window_of(reserved.payload), purpose)
    payload = {"mechanism": mechanism, "attempt": attempt, "plan_digest": plan_digest}
    chain.append("start", keys.begin_key(run, mechanism, attempt), run, payload, after)
    return attempt


def commit(chain: Chain, run: str, mechanism: str, attempt: int) -> Entry:
    """See `Ledger.commit`."""
    begun = chain.find(keys.begin_key(run, mechanism, attempt))
    if begun is None or begun.kind != "start":
        raise NotReserved(
            f"run {run!r}: attempt {attempt} of mechanism {mechanism!r} was never started, so it cannot "
            "have an output; begin it first"
        )
    key = keys.commit_key(run, mechanism, attempt)
    return chain.find(key) or chain.append("commit", key, run, {"mechanism": mechanism, "attempt": attempt})


def settle(chain: Chain, run: str) -> list[str]:
    """See `Ledger.settle`."""
    reserved = chain.find(keys.reserve_key(run))
    if reserved is None:
        return []
    charges = charges_of(reserved.payload)
    begun = chain.find_all([keys.begin_key(run, charge.mechanism, 1) for charge in charges])
    freed = []
    for charge in charges:
        key = keys.begin_key(run, charge.mechanism, 1)
        if key not in begun:
            after = minus(_held(chain), _key(reserved.payload), [charge])
            chain.append("free", key, run, {"mechanism": charge.mechanism, "attempt": 1}, after)
        if key not in begun or begun[key].kind == "free":
            freed.append(charge.mechanism)
    return freed


def _in_branch(charges: Sequence[Charge], branch: str) -> tuple[int, int]:
    """Nano-nats, and what is added to δ."""
    there = [charge for charge in charges if branch in charge.branches]
    return sum(charge.cost for charge in there), sum(charge.delta for charge in there)


def charges_of(payload: Mapping[str, Any]) -> list[Charge]:
    """The charges of a reservation's payload."""
    return [Charge.from_json(charge) for charge in payload["charges"]]


def window_of(payload: Mapping[str, Any]) -> str:
    """The window of a reservation's payload."""
    window: str = payload.get("window", "")
    return window


def _key(payload: Mapping[str, Any]) -> str:
    return held_under(window_of(payload), payload["split_id"])


def _held(chain: Chain) -> Splits:
    return chain.last().balance


def _admit(chain: Chain, before: Splits, after: Splits, window: str, purpose: str) -> None:
    successor = chain.successor()
    if successor is not None:
        raise PolicyError(
            f"policy {chain.policy!r} does not admit {purpose}: policy {successor.policy!r} succeeded it on "
            f"{successor.at[:10]}; start a new run, which is charged to that one"
        )
    registration = chain.policy_entry().payload
    if total(after, window) > registration["capacity"]:
        balance = Replay.of(chain.stream()).balance(window)
        raise BudgetExceeded(refusal(chain.policy, balance, total(after, window) - total(before, window), purpose))
    if delta_total(after, window) > registration.get("delta_capacity", 0):
        balance = Replay.of(chain.stream()).balance(window)
        asked = delta_total(after, window) - delta_total(before, window)
        raise BudgetExceeded(delta_refusal(chain.policy, balance, asked, purpose))


def _require_plan(reserved: Entry, plan_digest: str) -> None:
    if reserved.payload["plan_digest"] != plan_digest:
        raise PlanChanged(
            f"run {reserved.run!r} reserved plan {reserved.payload['plan_digest']} and was handed plan "
            f"{plan_digest}; run the plan that was reserved, or start a new run for the new one"
        )


def _charge(reserved: Entry, mechanism: str) -> Charge:
    charges = charges_of(reserved.payload)
    for charge in charges:
        if charge.mechanism == mechanism:
            return charge
    raise LedgerError(
        f"mechanism {mechanism!r} is not in the reservation of run {reserved.run!r}, which holds "
        f"{', '.join(charge.mechanism for charge in charges)}; the plan has to hold every mechanism that runs"
    )
