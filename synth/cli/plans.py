"""`sluice plan`: what a release would do and cost, from public facts and the ledger's balance."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from synth.accounting import ATTO, delta_cost
from synth.cli.output import console
from synth.cli.totals import covered, releases_left
from synth.contract import Contract, Policy, resolve_uri
from synth.errors import PolicyError
from synth.events import ExponentialSelection, PoissonGaussian, SingleEvent, ThresholdedHistogram, parts_of
from synth.ledger import Ledger
from synth.methods.base import synthesizer
from synth.officer import policy_for
from synth.plan import Mechanism, ReleasePlan
from synth.records import HOLDOUT, TRAIN
from synth.run import pace_of, plan_release, window_to_release
from synth.schema import Schema
from synth.settings import Settings

_WIDE = 130  # columns of a terminal that fits a sentence beside the numbers
_UNREGISTERED_FRACTION = float(Policy.model_fields["holdout_fraction"].default)


def plan_document(contract: Contract) -> dict[str, Any]:
    """The plan, and the filter's cost and what it would leave where a policy covers the source."""
    with Ledger.open(Settings.from_environment().ledger_url) as ledger:
        try:
            ledger.policy_for_source(resolve_uri(contract.source.uri))
        except PolicyError as error:
            release = plan_release(contract, _UNREGISTERED_FRACTION)
            return {**_plan(release, contract), "policy": None, "note": str(error), "advice": advice(contract, release)}
        registered = policy_for(ledger, contract)
        policy, window = registered.policy, window_to_release(contract)
        planned = None
        if policy.horizon is not None:
            planned = releases_left(ledger, policy.name, policy.horizon, window)
        pace = pace_of(registered, ledger, window) if planned else None
        release = plan_release(contract, policy.holdout_fraction, pace=pace, window=window)
        balance = ledger.balance(policy.name, window)
    cost = {
        branch: sum(registered.filter.cost(m.event) for m in release.mechanisms if branch in m.branches)
        for branch in (TRAIN, HOLDOUT)
    }
    capacity, fitting = balance.capacity, balance.left // max(cost.values())
    selection = sum(delta_cost(mechanism.event) for mechanism in release.mechanisms)
    if selection:
        fitting = min(fitting, (balance.delta_capacity - balance.delta_held) // selection)
    return {
        **_plan(release, contract),
        "policy": {
            "name": registered.policy.name,
            "epsilon": registered.policy.epsilon,
            "delta": registered.policy.delta,
            "filter_order": registered.filter.order,
            "cost_share": {branch: value / capacity for branch, value in cost.items()},
            "used_share": balance.total / capacity,
            "left_share_after": (balance.left - max(cost.values())) / capacity,
            "releases_left_at_this_rate": fitting if planned is None else min(fitting, planned),
            "window": window or None,
            "every": policy.window.every if policy.window else None,
            "horizon": policy.horizon,
            "selection_delta": policy.selection_delta,
            "selection_delta_left_after": (balance.delta_capacity - balance.delta_held) / ATTO
            - release.selection_delta,
        },
        "note": "",
        "advice": advice(contract, release),
    }


def advice(contract: Contract, release: ReleasePlan) -> str:
    """What the method says of so many units and such a budget."""
    train_units = contract.privacy.approximate_units * (1 - release.holdout_fraction)
    return synthesizer(contract.method).advice(contract, Schema.from_contract(contract), train_units)


def show_plan(document: dict[str, Any]) -> None:
    """For people."""
    table = Table(title="Mechanisms", title_justify="left")
    described = console.width >= _WIDE
    for heading in ("mechanism", "branch", "share", "noise", "sampling", *(["what it does"] if described else [])):
        table.add_column(heading, justify="right" if heading == "share" else "left")
    for row in document["mechanisms"]:
        share = f"{row['share']:.0%}" if row["branches"] != [HOLDOUT] else f"gate {row['share']:.0%}"
        branches = "both" if len(row["branches"]) > 1 else row["branches"][0]
        description = [row["description"]] if described else []
        table.add_row(row["name"], branches, share, row["noise"], row["sampling"], *description)
    console.print(table)
    claim = Table(title="Composed", title_justify="left", show_header=False)
    claim.add_row("training branch, PLD", f"ε={document['epsilon']:.4f} at δ={document['delta']:g}")
    claim.add_row("holdout branch, PLD", f"ε={document['epsilon_holdout']:.4f} (its whole curve stays below)")
    claim.add_row("cross-check, Rényi DP", f"ε={document['epsilon_renyi']:.4f}")
    if document["selection_delta"]:
        claim.add_row("selection of categories", f"δ={document['selection_delta']:.3g} of the δ above")
    claim.add_row(f"if everything ran {document['max_attempts']} times", f"ε={document['epsilon_all_attempts']:.4f}")
    policy = document["policy"]
    if policy:
        costs = ", ".join(f"{branch} {share:.1%}" for branch, share in policy["cost_share"].items())
        total = f"ε={policy['epsilon']:g}, δ={policy['delta']:g} {covered(policy['every'])}"
        claim.add_row(f"policy {policy['name']}", total)
        claim.add_row("filter's cost", f"{costs} of the policy's budget (Rényi order {policy['filter_order']})")
        claim.add_row("used so far, left after", f"{policy['used_share']:.1%}, {policy['left_share_after']:.1%}")
        left, horizon = policy["releases_left_at_this_rate"], policy["horizon"]
        claim.add_row("at this rate", f"{left} of {horizon} releases left" if horizon else f"{left} releases left")
        if document["selection_delta"]:
            claim.add_row(
                "set aside for selection",
                f"δ={policy['selection_delta']:.3g}, left after δ={policy['selection_delta_left_after']:.3g}",
            )
        if policy["window"]:
            claim.add_row("window", f"{policy['window']}, with a total of its own")
    console.print(claim)
    if document["method"]["because"]:
        console.print(
            f"[green]auto[/] chose {document['method']['runs']} because {document['method']['because']}",
            highlight=False,
        )
    if document["note"]:
        console.print(f"[yellow]no policy[/] {document['note']}", highlight=False)
    if document["advice"]:
        console.print(f"[yellow]what to expect[/] {document['advice']}", highlight=False)


def _plan(release: ReleasePlan, contract: Contract) -> dict[str, Any]:
    document = release.document()
    document["selection_delta"] = release.selection_delta
    structure = getattr(contract.method.options, "structure", None)
    document["method"] = {
        "runs": "/".join(filter(None, [contract.method.runs, structure])),
        "because": getattr(contract.method, "because", None),
    }
    document["mechanisms"] = [{**m.document(), **_words(m)} for m in release.mechanisms]
    return document


def _words(mechanism: Mechanism) -> dict[str, str]:
    noise = ", ".join(_noise(event) for event in parts_of(mechanism.event))
    sampled = [event for event in parts_of(mechanism.event) if isinstance(event, PoissonGaussian)]
    sampling = ", ".join(f"Poisson {event.sampling_rate:.4f} x {event.steps}" for event in sampled)
    return {"noise": noise, "sampling": sampling or "everyone"}


def _noise(event: SingleEvent) -> str:
    if isinstance(event, PoissonGaussian):
        return f"Gaussian σ={event.noise_multiplier:.3f} C"
    if isinstance(event, ThresholdedHistogram):
        counts = f"{len(event.thresholds)} x " if len(event.thresholds) > 1 else ""
        shown = ", ".join(str(threshold) for threshold in event.thresholds)
        return f"{counts}discrete σ={event.sigma:.2f} Δ={event.sensitivity}, shown from {shown} on"
    times = f"{event.compositions} x " if event.compositions > 1 else ""
    if isinstance(event, ExponentialSelection):
        return f"{times}exponential ε={event.epsilon:.4f} Δ={event.sensitivity}"
    return f"{times}discrete σ={event.sigma:.2f} Δ={event.sensitivity}"
