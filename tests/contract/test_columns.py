"""What a contract may declare of its columns, and how it is told what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from synth.contract import contract_from_document, parse_contract
from synth.errors import ContractError, NotSupportedYet
from tests.example_contract import contract, document


def report(column: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(ContractError) as caught:
        contract({"schema.x": column, **changes})
    return str(caught.value)


DATE = {"type": "date", "min": "2020-01-01", "max": "2020-12-31"}
INSTANT = {"type": "datetime", "min": "2020-01-01T00:00", "max": "2020-12-31"}


@pytest.mark.parametrize("column", [DATE, INSTANT, {**INSTANT, "type": "timestamp", "resolution": "hour"}])
def test_a_contract_with_dates_is_the_same_from_yaml_and_from_its_own_document(column: dict[str, Any]) -> None:
    made = contract({"schema.x": column})
    again = contract_from_document(json.loads(json.dumps(made.document())))
    assert again == made
    assert again.digest() == made.digest()
    quoted = json.dumps(document({"schema.x": column}))  # JSON is YAML
    unquoted = quoted.replace('"2020-01-01"', "2020-01-01").replace('"2020-12-31"', "2020-12-31")
    assert parse_contract(unquoted).digest() == made.digest()


def test_a_last_day_of_instants_is_meant_to_its_end() -> None:
    for resolution, last in (("second", "23:59:59"), ("minute", "23:59:00"), ("hour", "23:00:00"), ("day", "00:00:00")):
        column = contract({"schema.x": {**INSTANT, "resolution": resolution}}).columns["x"]
        assert column.max.isoformat() == f"2020-12-31T{last}"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({**DATE, "min": 20200101}, "schema.x.min: accepted: an ISO 8601 date"),
        ({**DATE, "min": True}, "schema.x.min: accepted: an ISO 8601 date"),
        ({**DATE, "max": "soon"}, "schema.x.max: accepted: an ISO 8601 date"),
        ({**DATE, "max": "2020-02-30"}, "schema.x.max: accepted: an ISO 8601 date"),
        ({**DATE, "min": "0001-01-01T00:00+05:00"}, "schema.x.min: accepted: an ISO 8601 date"),
        ({**DATE, "max": "2020-12-31T10:00"}, "declare type: datetime"),
        ({**DATE, "max": "2019-12-31"}, "min=2020-01-01 must not be after max=2019-12-31"),
        ({**DATE, "resolution": "hour"}, "schema.x.resolution: unknown field"),
        ({**INSTANT, "max": "2019-12-31"}, "must not be after"),
        ({**INSTANT, "min": "2020-01-01T10:30", "resolution": "hour"}, "is no whole hour"),
        ({**INSTANT, "resolution": "week"}, "schema.x.resolution"),
        ({"type": "integer", "min": 3, "max": 2}, "min=3 must not be above max=2"),
        ({"type": "categorical", "categories": [3, 1], "ordered": True}, "ascending, or as text"),
        ({"type": "identifier", "action": "drop", "pattern": "#####"}, "exclude each other"),
        ({"type": "identifier", "pattern": "##"}, "has 100 different identifiers, fewer than the 1,000 rows"),
        ({"type": "identifier", "pattern": "####\\"}, "backslash"),
        ({"type": "identifier", "nullable": True}, "unknown field"),
        ({"type": "identifier", "action": "keep"}, "schema.x.action"),
    ],
)
def test_a_fault_of_a_column_names_the_field_and_what_is_accepted(column: dict[str, Any], message: str) -> None:
    assert message in report(column)


def test_free_text_is_refused_with_what_to_do_instead() -> None:
    """For good, not until later."""
    with pytest.raises(ContractError) as caught:
        contract({"schema.x": {"type": "text"}})
    assert not isinstance(caught.value, NotSupportedYet)
    for part in ("schema.x.type", "free text is not released", "leave the column out", "identifier", "categorical"):
        assert part in str(caught.value)


def test_the_units_column_may_be_declared_if_it_is_declared_as_an_identifier() -> None:
    assert contract({"schema.person": {"type": "identifier"}}).dropped == ("person",)
    assert contract({"schema.person": {"type": "identifier", "pattern": "P-#####"}}).dropped == ()
    with pytest.raises(ContractError, match="declare type: identifier"):
        contract({"schema.person": {"type": "integer", "min": 0, "max": 9}})


def test_an_identifier_is_no_target_and_no_table_is_of_identifiers_alone() -> None:
    assert "task.target" in report({"type": "identifier"}, **{"task.target": "x"})
    columns = {"ill": {"type": "boolean"}, "a": {"type": "identifier"}, "b": {"type": "identifier"}}
    with pytest.raises(ContractError, match="two columns or more that are no identifiers"):
        contract({"schema": columns})
