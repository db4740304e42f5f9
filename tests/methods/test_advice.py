"""What a plan says of a table that is too small for its budget."""

from __future__ import annotations

import re
from typing import Any

from synth.methods.base import synthesizer
from synth.schema import Schema
from tests.example_contract import contract


def advice(units: int, epsilon: float, **options: Any) -> str:
    chosen = contract(
        {
            "privacy.approximate_units": units,
            "privacy.epsilon": epsilon,
            "method": {"name": "dpdsyn", "options": options},
        }
    )
    return synthesizer(chosen.method).advice(chosen, Schema.from_contract(chosen), units * 0.8)


def smallest_share(units: int, epsilon: float) -> float:
    chosen = contract({"privacy.approximate_units": units, "privacy.epsilon": epsilon, "method": {}})
    demands = synthesizer(chosen.method).demands(chosen, Schema.from_contract(chosen), units * 0.8)
    return float(next(demand for demand in demands if demand.name == "pairs").parameters["smallest_share"])


def test_a_table_that_is_large_enough_needs_no_advice() -> None:
    assert advice(30_000, 1.0) == ""
    assert advice(800, 1.0, structure="independent", batch_size=64) == ""


def test_what_a_small_table_is_told_to_need_is_enough_and_not_much_more() -> None:
    for units, epsilon in ((800, 1.0), (2000, 0.2)):
        told = advice(units, epsilon)
        enough, larger = re.search(r"about ([\d,]+) units, or at ε=([\d.]+),", told).groups()  # type: ignore[union-attr]
        assert 0.04 < smallest_share(int(enough.replace(",", "")), epsilon) <= 0.0501
        assert 0.04 < smallest_share(units, float(larger)) <= 0.0501
