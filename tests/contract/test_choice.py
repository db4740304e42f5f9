"""``method: auto``: chosen by public facts, said why, and part of what is reserved."""

from __future__ import annotations

from typing import Any

import pytest

from synth.contract import Auto, Contract, contract_from_document
from synth.run import plan_release
from tests.example_contract import contract

AUTO: dict[str, Any] = {"method": {"name": "auto"}}


def method(chosen: Contract) -> Auto:
    assert isinstance(chosen.method, Auto)
    return chosen.method


def test_pairs_that_stand_out_of_their_noise_are_kept() -> None:
    found = method(contract(AUTO))
    assert (found.runs, found.options.structure) == ("dpdsyn", "mixture")  # type: ignore[union-attr]
    assert "stand out" in str(found.because)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"privacy.epsilon": 0.05, "privacy.approximate_units": 500}, "pairs would say nothing"),
        (
            {
                "schema.ill": {"type": "categorical", "categories": [f"c{i}" for i in range(101)]},
                "task.kind": "multiclass",
            },
            "101 categories",
        ),
    ],
)
def test_columns_by_themselves_where_pairs_cannot_be_kept(changes: dict[str, Any], because: str) -> None:
    found = method(contract({**AUTO, **changes}))
    assert found.runs == "independent"
    assert because in str(found.because)


def test_a_contract_that_is_read_again_chooses_the_same_and_keeps_its_digest() -> None:
    first = contract(AUTO)
    again = contract_from_document(first.document())
    assert again == first
    assert again.digest() == first.digest()


def test_what_was_chosen_is_digested() -> None:
    """With another ε the choice may be another, and then it is another contract."""
    document = contract(AUTO).document()
    document["privacy"]["epsilon"] = 0.01
    assert method(contract_from_document(document)).runs == "independent"


def test_a_choice_that_an_owner_writes_is_overruled() -> None:
    claimed = {"method": {"name": "auto", "chosen": {"name": "independent"}, "because": "I say so"}}
    assert contract(claimed) == contract(AUTO)


def test_the_plan_is_that_of_the_chosen_method() -> None:
    plan = plan_release(contract(AUTO), 0.2)
    named = plan_release(contract({"method": {"name": "dpdsyn"}}), 0.2)
    assert [m.document() for m in plan.mechanisms] == [m.document() for m in named.mechanisms]
    assert plan.contract_digest != named.contract_digest
