"""The claim of a statement, computed once more from the mechanisms that the same statement lists.

Whoever holds a privacy statement can compose its mechanisms and compare the result with the ε it states: a claim
that its own mechanisms do not bear out is found without any trust in who wrote it. What this cannot find is a
mechanism that ran and is not listed; only the ledger and an audit can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from synth import accounting
from synth.accounting import RenyiFilter
from synth.events import Event, additive_delta, event_from_document
from synth.records import HOLDOUT, TRAIN

_RELATIVE = 1e-4  # accountants of other versions differ in the last digits
_BRANCHES = (TRAIN, HOLDOUT)


def composed(mechanisms: list[dict[str, Any]], attempts: str | None = None) -> dict[str, list[Event]]:
    """The events of each branch: once each, or as often as the field ``attempts`` of each mechanism says."""
    branches: dict[str, list[Event]] = {branch: [] for branch in _BRANCHES}
    for mechanism in mechanisms:
        event = event_from_document(mechanism["event"])
        for branch in mechanism["branches"]:
            branches[branch] += [event] * (mechanism[attempts] if attempts else 1)
    return branches


def epsilons(branches: Mapping[str, list[Event]], delta: float) -> dict[str, float]:
    """ε of each branch at ``delta`` by PLD."""
    return {branch: _epsilon(tuple(branches[branch]), delta) for branch in _BRANCHES}


@lru_cache(maxsize=64)
def _epsilon(events: tuple[Event, ...], delta: float) -> float:
    """Composition takes a good part of a second, and a bundle states the same claim in several files."""
    return accounting.epsilon(events, delta)


def selection_delta(branches: Mapping[str, list[Event]]) -> float:
    """What the events add to δ whatever the ε: the worse branch."""
    return max(math.fsum(additive_delta(event) for event in branches[branch]) for branch in _BRANCHES)


def filter_share(branches: Mapping[str, list[Event]], renyi_filter: RenyiFilter) -> float:
    """Share of a policy's budget that the filter counts for these events: the worse branch."""
    costs = (sum(renyi_filter.cost(event) for event in branches[branch]) for branch in _BRANCHES)
    return max(costs) / renyi_filter.capacity


def claim_problems(statement: Mapping[str, Any]) -> Iterator[str]:
    """Everything in which a statement's numbers disagree with its own mechanisms; nothing if it is consistent.

    :raises KeyError, TypeError, ValueError: if it does not have the form of a statement.
    """
    claim, cumulative, mechanisms = statement["claim"], statement["cumulative"], statement["mechanisms"]
    delta = claim["delta"]
    if not 0 < delta < 1:
        yield f"claim.delta is {delta}, which is no probability below 1"
        return
    for mechanism in mechanisms:
        name, charged, most = mechanism["name"], mechanism["attempts_charged"], mechanism["max_attempts"]
        if not 1 <= charged <= most:
            yield f"mechanism {name!r} was charged {charged} times, accepted: 1 to {most}"
        if not mechanism["branches"] or not set(mechanism["branches"]) <= set(_BRANCHES):
            yield f"mechanism {name!r} sees the branches {mechanism['branches']}, accepted: train, holdout"
            return
    planned = epsilons(composed(mechanisms), delta)
    ran = composed(mechanisms, "attempts_charged")
    charged = epsilons(ran, delta)
    at_most = epsilons(composed(mechanisms, "max_attempts"), delta)
    train = composed(mechanisms)[TRAIN]
    pairs = {
        "claim.epsilon": (claim["epsilon"], max(charged.values())),
        "claim.epsilon_train": (claim["epsilon_train"], charged[TRAIN]),
        "claim.epsilon_holdout": (claim["epsilon_holdout"], charged[HOLDOUT]),
        "claim.epsilon_planned": (claim["epsilon_planned"], planned[TRAIN]),
        "claim.epsilon_planned_holdout": (claim["epsilon_planned_holdout"], planned[HOLDOUT]),
        "claim.epsilon_renyi": (claim["epsilon_renyi"], accounting.epsilon_by_renyi(train, delta)),
        "claim.epsilon_all_attempts": (claim["epsilon_all_attempts"], at_most[TRAIN]),
    }
    for field, (stated, computed) in pairs.items():
        if abs(stated - computed) > _RELATIVE * max(computed, 1e-3):
            yield f"{field} is stated as {stated:.6g}; its mechanisms compose to {computed:.6g}"
    if at_most[HOLDOUT] > at_most[TRAIN] * (1 + _RELATIVE):
        yield f"claim.epsilon_all_attempts is the training branch's; the holdout's is {at_most[HOLDOUT]:.6g}"
    if abs(claim.get("selection_delta", 0.0) - selection_delta(ran)) > _RELATIVE * delta:
        yield (
            f"claim.selection_delta is stated as {claim.get('selection_delta', 0.0):.6g}; its mechanisms add "
            f"{selection_delta(ran):.6g} to delta"
        )
    yield from _cumulative_problems(cumulative, ran)


def _cumulative_problems(cumulative: Mapping[str, Any], ran: Mapping[str, list[Event]]) -> Iterator[str]:
    set_aside = cumulative.get("policy_selection_delta", 0.0)
    renyi_filter = RenyiFilter.for_budget(cumulative["policy_epsilon"], cumulative["policy_delta"], set_aside)
    if renyi_filter.order != cumulative["filter_order"]:
        yield (
            f"cumulative.filter_order is stated as {cumulative['filter_order']}; the policy's totals fix it "
            f"at {renyi_filter.order}"
        )
        return
    share = filter_share(ran, renyi_filter)
    if share > cumulative["share_spent"] * (1 + _RELATIVE):
        yield (
            f"cumulative.share_spent is stated as {cumulative['share_spent']:.6g}; this release alone takes {share:.6g}"
        )
    if cumulative["share_spent"] > 1:
        yield f"cumulative.share_spent is stated as {cumulative['share_spent']:.6g}, above the whole budget"
    selected = cumulative.get("selection_delta_spent", 0.0)
    if not selection_delta(ran) * (1 - _RELATIVE) <= selected <= set_aside * (1 + _RELATIVE):
        yield (
            f"cumulative.selection_delta_spent is stated as {selected:.6g}; this release alone adds "
            f"{selection_delta(ran):.6g} to delta, and the policy sets aside {set_aside:.6g}"
        )
    alone = max(epsilons(ran, cumulative["policy_delta"]).values())
    if alone > cumulative["epsilon_all_releases"] * (1 + _RELATIVE):
        yield (
            f"cumulative.epsilon_all_releases is stated as {cumulative['epsilon_all_releases']:.6g}; this "
            f"release alone takes {alone:.6g} at the policy's delta"
        )
