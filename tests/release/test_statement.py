"""The statement is true, complete, and refused where it would not be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synth.contract import Contract, contract_from_document
from synth.device import noise_source
from synth.release.facts import ReleaseFacts
from synth.release.rendering import rounded_up
from synth.release.statement import statement, statement_markdown
from tests.release.conftest import Release


@pytest.fixture
def facts(release: Release) -> ReleaseFacts:
    return release.facts


def test_the_statements_numbers_are_the_plans(facts: ReleaseFacts) -> None:
    document, plan = statement(facts), facts.plan
    claim = document["claim"]
    assert claim["epsilon"] == plan.charged_epsilon(facts.budget.attempts) > plan.epsilon
    assert claim["delta"] == plan.delta
    assert (claim["epsilon_planned"], claim["epsilon_planned_holdout"]) == (plan.epsilon, plan.epsilon_holdout)
    assert claim["epsilon_renyi"] == plan.epsilon_renyi
    assert claim["epsilon_all_attempts"] == plan.epsilon_all_attempts
    listed = {m["name"]: (m["event"], m["branches"], m["share"]) for m in document["mechanisms"]}
    planned = {m["name"]: (m["event"], m["branches"], m["share"]) for m in plan.document()["mechanisms"]}
    assert listed == planned
    attempts = {m["name"]: m["attempts_charged"] for m in document["mechanisms"]}
    assert attempts == facts.budget.attempts


def test_every_mechanism_says_its_noise_in_full(facts: ReleaseFacts) -> None:
    noise = {m["name"]: m["noise"] for m in statement(facts)["mechanisms"]}
    options = facts.contract.method.options
    assert noise["marginals"]["sigma"] == facts.marginal_sigma
    assert noise["marginals"]["queries"] == len(facts.schema.columns)
    assert noise["label_model"]["clipping_norm"] == options.clipping_norm
    assert noise["label_model"]["steps"] == options.steps
    assert noise["label_model"]["sampling_rate"] == options.batch_size / 1600


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_release_epsilon_that_the_mechanisms_do_not_compose_to_is_refused(facts: ReleaseFacts, factor: float) -> None:
    budget = replace(facts.budget, epsilon_release=facts.budget.epsilon_release * factor)
    with pytest.raises(ValueError, match=r"claim\.epsilon is stated"):
        statement(replace(facts, budget=budget))


def test_an_attempt_that_is_left_out_is_refused(facts: ReleaseFacts) -> None:
    attempts = dict(facts.budget.attempts, label_model=0)
    with pytest.raises(ValueError, match="'label_model' was charged 0 times"):
        statement(replace(facts, budget=replace(facts.budget, attempts=attempts)))


def test_a_cumulative_share_below_this_release_alone_is_refused(facts: ReleaseFacts) -> None:
    budget = replace(facts.budget, share_spent=facts.budget.share_spent / 3)
    with pytest.raises(ValueError, match=r"cumulative\.share_spent"):
        statement(replace(facts, budget=budget))


def test_a_filter_order_chosen_afterwards_is_refused(facts: ReleaseFacts) -> None:
    budget = replace(facts.budget, filter_order=facts.budget.filter_order + 1)
    with pytest.raises(ValueError, match=r"cumulative\.filter_order"):
        statement(replace(facts, budget=budget))


def test_a_row_unit_is_stated_as_no_protection_of_people_with_several_rows(
    facts: ReleaseFacts, contract: Contract
) -> None:
    document = contract.document()
    document["privacy"]["unit"] = "row"
    by_row = statement(replace(facts, contract=contract_from_document(document)))
    assert "A person with several rows" in by_row["claim"]["unit"]["text"]
    assert any("the unit is the row" in line for line in by_row["not_protected"])
    assert "dropped" not in by_row["contribution_bound"]["text"].split("CSV")[0]
    by_person = statement(facts)
    assert "Rows without a unit id are dropped" in by_person["contribution_bound"]["text"]
    assert not any("the unit is the row" in line for line in by_person["not_protected"])


def test_the_statement_for_people_holds_the_same_claim(facts: ReleaseFacts) -> None:
    text = statement_markdown(facts)
    budget = facts.budget
    for value in (budget.epsilon_release, facts.plan.epsilon, facts.plan.epsilon_renyi, budget.epsilon_all_releases):
        assert rounded_up(value) in text
    for mechanism in facts.plan.mechanisms:
        assert f"`{mechanism.name}`" in text
    assert "2 of at most 2" in text
    assert "No empirical privacy audit was run" in text
    assert "The practice" in text


def test_every_registry_hint_names_a_field_of_the_statement(facts: ReleaseFacts) -> None:
    document = statement(facts)
    hints = [path for tier in ("tier_1", "tier_2", "tier_3") for path in document["registry"][tier].values()]
    for path in ", ".join(hints).split(", "):
        value = document
        for part in path.split("."):
            value = value[part]
        assert value


@pytest.mark.parametrize("value", [0.99914, 1.00001, 1e-6, 1.2345678e-7, 9.99999, 0.1, 7.0])
def test_a_shown_epsilon_is_never_below_the_real_one(value: float) -> None:
    assert value <= float(rounded_up(value)) <= value * 1.002


def noise_of_training(facts: ReleaseFacts, *devices: str) -> list[dict[str, str]]:
    document = statement(replace(facts, training_devices=devices))
    return [entry for entry in document["randomness"] if entry["used_for"].startswith("noise of DP-SGD")]


def test_noise_of_a_cpu_is_stated_as_the_operating_systems(facts: ReleaseFacts) -> None:
    (entry,) = noise_of_training(facts, "cpu")
    assert "operating system's cryptographic generator, through Box and Muller" in entry["source"]
    assert entry["caveat"].startswith("floating-point")


def test_noise_of_a_gpu_is_stated_as_not_cryptographic(facts: ReleaseFacts) -> None:
    (entry,) = noise_of_training(facts, "cuda")
    assert "Philox" in entry["source"]
    assert "64 bits" in entry["source"]
    assert entry["caveat"].startswith("not cryptographic")
    assert "floating-point" in entry["caveat"]
    markdown = statement_markdown(replace(facts, training_devices=("cuda",)))
    assert entry["source"] in markdown
    assert entry["caveat"] in markdown


def test_attempts_on_both_are_both_stated(facts: ReleaseFacts) -> None:
    entries = noise_of_training(facts, "cpu", "cuda")
    assert [entry["used_for"] for entry in entries] == [
        "noise of DP-SGD, attempts on cpu",
        "noise of DP-SGD, attempts on cuda",
    ]
    assert [entry["source"] for entry in entries] == [noise_source(device).source for device in ("cpu", "cuda")]


def test_a_device_whose_generator_nobody_described_gets_no_statement(facts: ReleaseFacts) -> None:
    with pytest.raises(KeyError, match="mps"):
        noise_of_training(facts, "mps")
