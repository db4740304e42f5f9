"""Conditions as they are written, and what they say about codes."""

from __future__ import annotations

import numpy as np
import pytest

from synth.constraints.conditions import Condition
from synth.errors import SamplingRefused
from synth.schema import Codes, Schema
from tests.example_contract import contract

SCHEMA = Schema.from_contract(contract({"method.options": {"structure": "mixture"}}))


def codes(rows: int, seed: int = 0) -> Codes:
    generator = np.random.default_rng(seed)
    sizes = [column.size if column.nullable else column.cells for column in SCHEMA.columns]
    return np.column_stack([generator.integers(0, size, rows) for size in sizes]).astype(np.int32)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("city = Bern", "city == 'Bern'"),
        ("city != Bern", "city != 'Bern' and city.notna()"),
        ("city in (Bern, 'Graz')", "city in ['Bern', 'Graz']"),
        ("tier in 1, 3", "tier in [1, 3]"),
        ("smoker = TRUE", "smoker == True"),
        ("age>=40", "age >= 40"),
        ("age < 40", "age < 40"),
        ("age = 33", "age == 33"),
        ("age between 20 and 29.5", "20 <= age <= 29.5"),
        ("income > 123.45", "income > 123.45"),
        ("income <= 777.77", "income <= 777.77"),
        ("income is null", "income.isna()"),
        ("city is not null", "city.notna()"),
    ],
)
def test_a_condition_means_what_it_says(text: str, same: str) -> None:
    condition = Condition.parse([text], SCHEMA)
    rows, generator = codes(20_000), np.random.default_rng(1)
    frame = SCHEMA.decode(rows, generator)
    holds = condition.holds(frame, SCHEMA)
    expected = frame.eval(same, engine="python").fillna(False).to_numpy(dtype=bool)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(holds, expected)
    ((place, evidence),) = condition.evidence(SCHEMA).items()
    assert abs(evidence[rows[:, place]].mean() - expected.mean()) < 0.02
    possible = rows[evidence[rows[:, place]] > 0]
    assert condition.holds(condition.decoded(possible, SCHEMA, generator), SCHEMA).all()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("wealth = 3", "not understood"),
        ("city = Wien", "no category of 'city'"),
        ("city >= Bern", "accepted: =, !=, in"),
        ("age != 3", "accepted: =, <"),
        ("age >= many", "no value of column 'age'"),
        ("age between 3", "between A and B"),
        ("age is null", "never null"),
        ("age is odd", "null, not null"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SamplingRefused, match=problem):
        Condition.parse([text], SCHEMA)


def test_two_ends_of_one_column_are_one_interval() -> None:
    both = Condition.parse(["income >= 100", "income <= 200"], SCHEMA).evidence(SCHEMA)
    between = Condition.parse(["income between 100 and 200"], SCHEMA).evidence(SCHEMA)
    assert both.keys() == between.keys()
    for place, evidence in both.items():
        np.testing.assert_array_equal(evidence, between[place])
