"""The privacy statement: what is claimed about a release, on which grounds, and what is not claimed.

``privacy_statement.json`` is for machines: :mod:`synth.release.claim` composes its mechanisms again and compares.
``privacy_statement.md`` says the same to people. The content follows NIST SP 800-226 (2025) and the third tier of
the deployments registry (arXiv 2509.13509). A statement whose numbers its own mechanisms do not bear out is refused.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from synth import accounting
from synth.contract import Auto, Contract, UnitColumn
from synth.events import (
    Composed,
    DiscreteGaussian,
    ExponentialSelection,
    SingleEvent,
    ThresholdedHistogram,
    event_document,
    parts_of,
)
from synth.plan import Mechanism
from synth.records import HOLDOUT, TRAIN
from synth.release import method_words, subgroup_words, wording
from synth.release.claim import claim_problems, composed, epsilons, selection_delta
from synth.release.data import column_documents
from synth.release.facts import ReleaseFacts
from synth.release.rendering import render
from synth.release.stamp import notice, stamp

STATEMENT_VERSION = 1


def statement(facts: ReleaseFacts) -> dict[str, Any]:
    """The statement as plain values.

    :raises ValueError: if a number of the facts is not what the plan's mechanisms compose to.
    """
    contract, plan = facts.contract, facts.plan
    if facts.unsafe_seed is not None:
        return _not_private(facts, facts.unsafe_seed)
    document: dict[str, Any] = {
        "statement_version": STATEMENT_VERSION,
        "dataset": contract.dataset.model_dump(mode="json"),
        "release": _release(facts),
        "claim": _claim(facts),
        "contribution_bound": wording.contribution(contract),
        "split": wording.split(contract, plan.holdout_fraction),
        "mechanisms": [_mechanism(mechanism, facts) for mechanism in plan.mechanisms],
        "cumulative": _cumulative(facts),
        "ledger": {
            "policy": facts.budget.policy,
            "sequence": facts.budget.ledger_head[0],
            "digest": facts.budget.ledger_head[1],
            "text": wording.LEDGER,
        },
        "public_information": _public(facts),
        "columns": column_documents(facts.schema, contract),
        "dropped_columns": list(contract.dropped),
        "method": {
            **_method(contract),
            "description": method_words.method(contract),
            "facts": dict(facts.method_facts),
        },
        "randomness": method_words.randomness(contract, facts.training_devices),
        "sampling_seed": {"value": facts.sampling_seed, "text": wording.SAMPLING_SEED},
        "post_processing": method_words.post_processing(contract),
        "validation": {
            "text": wording.VALIDATION,
            "verdicts": [judgement.document() for judgement in facts.judgements],
        },
        "quality": {
            "text": wording.QUALITY,
            "measurements": [measurement.document() for measurement in facts.measurements],
            "subgroups": subgroup_words.sentence(facts.subgroups),
        },
        "units_estimate": {
            "value": facts.units_estimate[0],
            "noise_scale": facts.units_estimate[1],
            "text": "Noisy count of the units that were kept, both branches; the exact number is not released.",
        },
        "constraints": {"text": wording.constraints(contract), "cost": facts.constraint_cost},
        "noisy_counts": method_words.noisy_counts(contract),
        "not_protected": wording.not_protected(contract, plan.window),
        "trust_model": wording.TRUST_MODEL,
        "audit": wording.AUDIT,
        "contact": contract.dataset.owner,
        "software": {"code_version": facts.code_version, "written_with": _software(contract)},
        "registry": wording.REGISTRY,
    }
    document["claim"]["text"] = wording.claim(document, contract)
    if problems := list(claim_problems(document)):
        raise ValueError("The statement would not be true: " + "; ".join(problems) + ".")
    return document


def statement_markdown(facts: ReleaseFacts) -> str:
    """The statement for people."""
    template = "privacy_statement.md.jinja" if facts.unsafe_seed is None else "not_private.md.jinja"
    return render(template, s=statement(facts))


def _not_private(facts: ReleaseFacts, seed: int) -> dict[str, Any]:
    """Instead of a statement: nothing is claimed."""
    return {
        **stamp(seed),
        "statement_version": STATEMENT_VERSION,
        "dataset": facts.contract.dataset.model_dump(mode="json"),
        "release": _release(facts),
        "claim": {"not_private": True, "text": notice(seed)},
        "columns": column_documents(facts.schema, facts.contract),
        "software": {"code_version": facts.code_version, "written_with": _software(facts.contract)},
    }


def _release(facts: ReleaseFacts) -> dict[str, Any]:
    return {
        "version": facts.version,
        "created_at": facts.created_at,
        "rows": facts.rows,
        "contract_digest": facts.plan.contract_digest,
        "plan_digest": facts.plan.digest(),
    }


def _claim(facts: ReleaseFacts) -> dict[str, Any]:
    plan, privacy = facts.plan, facts.contract.privacy
    attempts = [{**m.document(), "attempts": facts.budget.attempts.get(m.name, 0)} for m in plan.mechanisms]
    ran = composed(attempts, "attempts")
    charged = epsilons(ran, plan.delta)
    by_column = isinstance(privacy.unit, UnitColumn)
    document = {
        "flavour": "approximate differential privacy, (epsilon, delta)",
        "unit": {
            "kind": "column" if by_column else "row",
            "column": privacy.unit.column if isinstance(privacy.unit, UnitColumn) else None,
            "window": plan.window or None,
            "text": wording.unit(facts.contract, plan.window),
        },
        "neighbouring": {
            "relation": privacy.neighbouring,
            "text": "Two tables are neighbours if one is the other with one unit added or removed.",
        },
        "epsilon": facts.budget.epsilon_release,
        "delta": plan.delta,
        "epsilon_train": charged[TRAIN],
        "epsilon_holdout": charged[HOLDOUT],
        "epsilon_planned": plan.epsilon,
        "epsilon_planned_holdout": plan.epsilon_holdout,
        "epsilon_renyi": plan.epsilon_renyi,
        "epsilon_all_attempts": plan.epsilon_all_attempts,
        "max_attempts": plan.max_attempts,
        "branches": wording.BRANCHES,
        "accountant": {
            "name": "dp-accounting, privacy loss distributions (PLD)",
            "version": _version("dp-accounting"),
            "discretisation_interval": accounting.FINE_INTERVAL,
            "rounding": "pessimistic: the stated epsilon is an upper bound of the composition's",
            "cross_check": "Rényi differential privacy, best order, of the planned training branch: "
            "claim.epsilon_renyi",
        },
    }
    return document | ({"selection_delta": selection_delta(ran)} if selection_delta(ran) else {})


def _mechanism(mechanism: Mechanism, facts: ReleaseFacts) -> dict[str, Any]:
    document = mechanism.document() | {
        "attempts_charged": facts.budget.attempts.get(mechanism.name, 0),
        "max_attempts": facts.plan.max_attempts,
    }
    noises = [_noise(event, mechanism) for event in parts_of(mechanism.event)]
    noise = {"parts": noises} if isinstance(mechanism.event, Composed) else noises[0]
    return document | {"event": event_document(mechanism.event), "noise": noise}


def _noise(event: SingleEvent, mechanism: Mechanism) -> dict[str, Any]:
    if isinstance(event, DiscreteGaussian):
        return {
            "distribution": "discrete Gaussian on the integers",
            "sigma": event.sigma,
            "sensitivity": event.sensitivity,
            "queries": event.compositions,
            "added_to": method_words.what_is_counted(mechanism),
            "zero_concentrated_rho": event.rho,
        }
    if isinstance(event, ThresholdedHistogram):
        return {
            "distribution": "discrete Gaussian on the integers, shown from a threshold on",
            "sigma": event.sigma,
            "sensitivity": event.sensitivity,
            "queries": event.noise.compositions,
            "added_to": method_words.what_is_counted(mechanism),
            "zero_concentrated_rho": event.rho,
            "thresholds": dict(zip(mechanism.parameters["open_columns"], event.thresholds, strict=True)),
            "added_to_delta": event.delta,
        }
    if isinstance(event, ExponentialSelection):
        return {
            "distribution": "exponential mechanism on integer scores",
            "epsilon": event.epsilon,
            "sensitivity": event.sensitivity,
            "choices": event.compositions,
            "chosen_by": method_words.what_is_scored(mechanism),
            "zero_concentrated_rho": event.rho,
        }
    return {
        "distribution": "Gaussian on the sum of the units' clipped gradients, each step",
        "noise_multiplier": event.noise_multiplier,
        "clipping_norm": mechanism.parameters["clipping_norm"],
        "sampling": "Poisson: each unit enters a batch by its own coin",
        "sampling_rate": event.sampling_rate,
        "steps": event.steps,
    }


def _method(contract: Contract) -> dict[str, Any]:
    """Its name, its structure where it has several, and why it was chosen where the contract leaves that open."""
    method = contract.method
    chosen = {"chosen_because": method.because} if isinstance(method, Auto) else {}
    structure = getattr(method.options, "structure", None)
    return {"name": method.runs, **({"structure": structure} if structure else {}), **chosen}


def _cumulative(facts: ReleaseFacts) -> dict[str, Any]:
    budget = facts.budget
    set_aside = {
        "policy_selection_delta": budget.policy_selection_delta,
        "selection_delta_spent": budget.selection_delta_spent,
    }
    return {
        **(set_aside if budget.policy_selection_delta else {}),
        "policy": budget.policy,
        "policy_epsilon": budget.policy_epsilon,
        "policy_delta": budget.policy_delta,
        "window": facts.plan.window or None,
        "filter_order": budget.filter_order,
        "share_spent": budget.share_spent,
        "epsilon_all_releases": budget.epsilon_all_releases,
        "text": wording.cumulative(facts.plan.window, budget.policy_selection_delta),
        "source": "Feldman and Zrnic, Individual Privacy Accounting via a Rényi Filter, 2021",
    }


def _public(facts: ReleaseFacts) -> dict[str, Any]:
    contract = facts.contract
    return {
        "text": wording.public(contract),
        "approximate_units": contract.privacy.approximate_units,
        "rows": contract.rows,
        "task": contract.task.model_dump(mode="json"),
        "targets": {target.target: target.kind for target in contract.task.wanted},
        "method_options": contract.method.options.model_dump(mode="json"),
        "expectations": [expectation.model_dump(mode="json") for expectation in contract.expectations],
        "constraints": [constraint.model_dump(mode="json") for constraint in contract.constraints],
        "quality_thresholds": contract.quality.model_dump(mode="json"),
        "columns": "Bounds, categories, decimals and numbers of cells: see the field columns.",
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _software(contract: Contract) -> dict[str, str]:
    return {name: _version(name) for name in method_words.software(contract)}
