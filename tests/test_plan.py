"""The plan meets its budget tightly, the holdout adds nothing, and its digest names every number in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synth import accounting
from synth.contract import Contract
from synth.errors import ContractError
from synth.events import DiscreteGaussian, PoissonGaussian
from synth.plan import Demand, ReleasePlan, cells, integer_queries, make_plan
from synth.records import HOLDOUT, TRAIN
from synth.run import plan_release
from synth.schema import Schema
from tests.example_contract import contract, planned

EXPECTATIONS = [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": name}} for name in ("age", "ill")]
CONTRACTS: dict[str, dict[str, Any]] = {
    "small": {},
    "small epsilon": {"privacy.epsilon": 0.3, "expectations": EXPECTATIONS},
    "large epsilon": {"privacy.epsilon": 5.0, "method.options.steps": 5},
    "nearly everybody is in each batch": {
        "privacy.approximate_units": 520,
        "privacy.delta": 1e-4,
        "method.options.steps": 3,
    },
    "argmax": {"privacy.epsilon": 0.5, "method.options.labels": "argmax"},
}


@pytest.fixture(scope="module", params=CONTRACTS)
def made(request: pytest.FixtureRequest) -> tuple[Contract, ReleasePlan]:
    return contract(CONTRACTS[request.param]), planned(CONTRACTS[request.param])


@pytest.fixture(scope="module")
def plan() -> ReleasePlan:
    return planned()


def test_the_training_branch_meets_the_budget_and_wastes_little(made: tuple[Contract, ReleasePlan]) -> None:
    chosen, plan = made
    target, delta = chosen.privacy.epsilon, chosen.privacy.delta
    recomputed = accounting.epsilon(plan.events(TRAIN), delta)
    assert plan.epsilon == recomputed
    assert 0.97 * target <= recomputed <= target
    assert plan.delta == delta
    assert recomputed <= plan.epsilon_renyi


def test_the_holdouts_whole_curve_is_below_the_training_branchs(made: tuple[Contract, ReleasePlan]) -> None:
    """At four hundred ε on the fine grid, between and beyond the points that sized it."""
    chosen, plan = made
    grid = np.linspace(0, 3 * chosen.privacy.epsilon, 400)
    train, holdout = (accounting.compose(plan.events(b)).get_delta_for_epsilon(grid) for b in (TRAIN, HOLDOUT))
    assert all(low <= high * (1 + 1e-6) + 1e-12 for low, high in zip(holdout, train, strict=True))
    assert 0 < plan.epsilon_holdout <= plan.epsilon


WIDE = {f"schema.answer_{number}": {"type": "boolean"} for number in range(14)}


@pytest.mark.parametrize(
    "changes",
    [{}, {"method": {"name": "mst"}, **WIDE}, {"method": {"name": "aim", "options": {"rounds": 8}}}],
    ids=["dpsgd", "choices of a tree", "rounds"],
)
def test_the_holdout_costs_no_more_than_training_in_any_policys_filter(changes: dict[str, Any]) -> None:
    """Choices by score have a curve above their Rényi divergence: a gate below the curve alone would cost more."""
    plan = planned(changes)
    for order in (2, 3, 9, 40, 256, 1024):
        train, holdout = (sum(accounting.renyi(event, order) for event in plan.events(b)) for b in (TRAIN, HOLDOUT))
        assert holdout <= train


def test_every_share_is_asked_for_and_shares_add_up(made: tuple[Contract, ReleasePlan]) -> None:
    chosen, plan = made
    assert sum(m.share for m in plan.mechanisms if TRAIN in m.branches) == pytest.approx(1)
    names = [m.name for m in plan.mechanisms]
    assert len(set(names)) == len(names)
    assert ("calibration" in names) == (chosen.method.options.labels == "sampled")
    assert plan["validation"].branches == (TRAIN, HOLDOUT)


def test_a_larger_budget_and_a_larger_share_mean_less_noise(plan: ReleasePlan) -> None:
    fewer = planned({"privacy.epsilon": 0.3, "expectations": EXPECTATIONS})
    assert fewer.counts("marginals").sigma > plan.counts("marginals").sigma
    sigmas = [m.event.sigma for m in plan.mechanisms if isinstance(m.event, DiscreteGaussian) and m.share < 0.1]
    assert plan.counts("marginals").sigma / len(contract().columns) ** 0.5 < min(sigmas)


def test_events_describe_what_the_contract_declares() -> None:
    chosen, plan = contract(CONTRACTS["small epsilon"]), planned(CONTRACTS["small epsilon"])
    assert plan.counts("validation").compositions == 3
    assert plan.counts("marginals").compositions == len(chosen.columns)
    event = plan["label_model"].event
    assert isinstance(event, PoissonGaussian)
    assert event.steps == 30
    assert event.sampling_rate == pytest.approx(128 / (2000 * 0.8))
    with pytest.raises(TypeError, match="label_model"):
        plan.counts("label_model")
    with pytest.raises(KeyError, match="no mechanism 'other'"):
        plan["other"]


def test_a_plan_survives_its_document(made: tuple[Contract, ReleasePlan]) -> None:
    plan = made[1]
    again = ReleasePlan.from_document(json.loads(json.dumps(plan.document())))
    assert again == plan
    assert again.digest() == plan.digest()


def changed_leaves(value: Any) -> Iterator[Any]:
    """Copies of a document with one leaf changed."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from ({**value, key: other} for other in changed_leaves(part))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from ([*value[:i], other, *value[i + 1 :]] for other in changed_leaves(part))
    elif isinstance(value, str):
        yield value + "x"
    else:
        yield value + 1
        if isinstance(value, float):
            yield float(np.nextafter(value, 0))


def test_the_digest_changes_with_every_number_and_word(plan: ReleasePlan) -> None:
    digests, others = {plan.digest()}, 0
    for document in changed_leaves(plan.document()):
        if all(m["event"]["type"] in ("DiscreteGaussian", "PoissonGaussian") for m in document["mechanisms"]):
            digests.add(ReleasePlan.from_document(document).digest())
            others += 1
    assert others > 40
    assert len(digests) == others + 1


def test_the_same_contract_gives_the_same_plan(plan: ReleasePlan) -> None:
    assert plan_release(contract(), 0.2).digest() == plan.digest()
    assert plan.contract_digest == contract().digest()


def test_what_ran_once_costs_the_claim_and_retries_cost_more(plan: ReleasePlan) -> None:
    once = {mechanism.name: 1 for mechanism in plan.mechanisms}
    assert plan.charged_epsilon(once) == pytest.approx(plan.epsilon)
    assert plan.charged_epsilon({}) == 0
    assert plan.charged_epsilon({"marginals": 1}) < plan.epsilon
    assert plan.charged_epsilon({**once, "marginals": 2}) > plan.epsilon
    twice = dict.fromkeys(once, plan.max_attempts)
    assert plan.charged_epsilon(twice) == pytest.approx(plan.epsilon_all_attempts)


def test_a_release_costs_the_worse_of_its_branches(plan: ReleasePlan) -> None:
    once = {mechanism.name: 1 for mechanism in plan.mechanisms}
    retried = once | {"gate_pairs": 6}
    holdout = [m.event for m in plan.mechanisms if HOLDOUT in m.branches for _ in range(retried[m.name])]
    assert plan.charged_epsilon(retried) == accounting.epsilon(holdout, plan.delta) > plan.epsilon
    everything = plan.events(TRAIN) + plan.events(HOLDOUT)
    assert plan.charged_epsilon(once) < accounting.epsilon(everything, plan.delta)


def test_what_sees_everybody_is_charged_in_both_branches(plan: ReleasePlan) -> None:
    event = plan["validation"].event
    assert event in plan.events(TRAIN)
    assert event in plan.events(HOLDOUT)
    only_validation = accounting.epsilon([event], plan.delta)
    assert plan.charged_epsilon({"validation": 1}) == only_validation
    alone = replace(plan, mechanisms=(replace(plan["validation"], branches=(HOLDOUT,)),))
    assert alone.charged_epsilon({"validation": 1}) == only_validation


def test_a_budget_that_no_noise_meets_is_a_contract_error() -> None:
    loud = DiscreteGaussian(0.05)
    fixed = Demand("fixed", (TRAIN,), 1.0, lambda rho, total: loud, "ignores its share")
    gate = Demand("gate", (HOLDOUT,), 1.0, integer_queries(DiscreteGaussian(1.0)), "gate")
    with pytest.raises(ContractError, match=r"privacy\.epsilon=2 with delta=1e-05 cannot be met"):
        make_plan(contract(), [fixed], [gate], 0.2)


def test_a_plan_that_draws_noise_for_more_than_the_public_number_of_cells_is_a_contract_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    total = sum(cells(mechanism) for mechanism in planned().mechanisms)
    sizes = {column.name: column.size for column in Schema.from_contract(contract()).columns}
    assert total > sum(sizes.values())
    monkeypatch.setattr("synth.plan.MOST_CELLS", total)
    plan_release(contract(), 0.2)
    monkeypatch.setattr("synth.plan.MOST_CELLS", total - 1)
    widest = max(sizes, key=lambda name: sizes[name])
    with pytest.raises(ContractError, match=rf"{total:,} cells.*{widest!r} \({sizes[widest]}\)"):
        plan_release(contract(), 0.2)


def test_every_mechanism_on_integers_says_how_many_cells_it_has() -> None:
    plan, schema = planned(), Schema.from_contract(contract())
    assert cells(plan["marginals"]) == sum(column.size for column in schema.columns)
    assert cells(plan["gate_pairs"]) == 15
    assert cells(plan["gate_outcomes"]) == 8
    assert cells(plan["validation"]) == 1
    assert cells(plan["label_model"]) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"target": "age", "kind": "regression"}},
        {"quality": {"subgroups": ["city", "smoker"]}},
    ],
    ids=["a number", "subgroups"],
)
def test_a_gate_of_more_mechanisms_than_training_has_gets_as_much(changes: dict[str, Any]) -> None:
    """Truncated tails add up by the event: were they not allowed for, no noise would do, or next to none be left."""
    few = planned({"method": {"name": "independent"}, **changes})
    assert len(few.events(HOLDOUT)) > len(few.events(TRAIN))
    assert 0.9 * few.epsilon < few.epsilon_holdout <= few.epsilon
