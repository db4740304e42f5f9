"""Which constraints a contract may declare; a fault names the field and what to do."""

from __future__ import annotations

import datetime
import subprocess
import sys
from typing import Any

import pytest

from synth.contract import contract_from_document
from synth.errors import ContractError
from tests.example_contract import document

AREA = {"kind": "combinations", "columns": ["city", "smoker"]}


def declared(*constraints: dict[str, Any], **columns: Any) -> Any:
    changes = {f"schema.{name}": column for name, column in columns.items()}
    return contract_from_document(document({"constraints": list(constraints), **changes}))


def integer(low: int, high: int, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "min": low, "max": high, **more}


def test_a_contract_holds_its_constraints_and_reads_its_own_document() -> None:
    contract = declared(
        {"kind": "inequality", "holds": ["age", ">=", 18], "where": {"smoker": [True]}},
        {"kind": "combinations", "columns": ["city", "tier"], "allowed": {"Bern": [1, 2], "Graz": 3, "Linz": [1]}},
        {"kind": "functional", "column": "tier", "of": "smoker", "mapping": {True: 1, False: 2}},
        {"kind": "rounding", "column": "income", "multiple_of": 0.05},
        {"kind": "structural_null", "column": "income", "exactly_where": {"city": ["Bern", None]}},
        {"kind": "non_negative", "columns": ["income"]},
    )
    assert contract.constraints[1].allowed == (("Bern", 1), ("Bern", 2), ("Graz", 3), ("Linz", 1))
    assert contract_from_document(contract.document()) == contract
    assert contract_from_document(contract.document()).digest() == contract.digest()


def test_texts_for_people() -> None:
    contract = declared(
        {"kind": "inequality", "holds": ["age", ">=", 18], "where": {"smoker": [True]}},
        {"kind": "functional", "column": "age", "formula": {"tenth": 10.0}, "constant": 5},
        tenth=integer(0, 9),
    )
    assert [constraint.text for constraint in contract.constraints] == [
        "age >= 18 where smoker is true",
        "age = 10 tenth + 5",
    ]


@pytest.mark.parametrize(
    ("constraint", "path", "problem"),
    [
        ({"kind": "inequality", "holds": ["age", "<=", "wealth"]}, "constraints.0", "'wealth'"),
        ({"kind": "inequality", "holds": ["age", "==", 3]}, "constraints.0.holds.1", "Input should be"),
        ({"kind": "inequality", "holds": [1, "<=", 3]}, "constraints.0.holds", "two constants"),
        ({"kind": "inequality", "holds": ["city", "<=", 3]}, "constraints.0.holds", "numbers or dates"),
        ({"kind": "inequality", "holds": ["age", "<=", "2024-01-01"]}, "constraints.0.holds", "a date with a number"),
        ({"kind": "inequality", "holds": ["age", ">", 99]}, "constraints.0", "leaves no value for 'age'"),
        ({"kind": "inequality", "holds": ["age", ">=", 200]}, "constraints.0", "widen the bounds"),
        ({"kind": "non_negative", "columns": ["city"]}, "constraints.0.columns", "columns of numbers"),
        ({**AREA, "allowed": [["Wien", True]]}, "constraints.0.allowed", "no category of 'city'"),
        ({**AREA, "allowed": [["Bern", "true"]]}, "constraints.0.allowed", "no category of 'smoker'"),
        ({**AREA, "allowed": [["Bern"]]}, "constraints.0", "1 values"),
        ({**AREA, "allowed": []}, "constraints.0.allowed", "at least 1"),
        (AREA, "constraints.0", "either allowed or forbidden"),
        (
            {**AREA, "forbidden": [[city, yes] for city in ("Bern", "Graz", "Linz") for yes in (True, False)]},
            "constraints.0.forbidden",
            "forbids every combination",
        ),
        (
            {"kind": "combinations", "columns": ["city", "age"], "allowed": [["Bern", 3]]},
            "constraints.0.columns",
            "categorical or boolean",
        ),
        (
            {"kind": "functional", "column": "tier", "of": "city", "mapping": {"Bern": 1, "Graz": 2, "Linz": 3}},
            "constraints.0.column",
            "make 'tier' nullable",
        ),
        (
            {"kind": "functional", "column": "tier", "of": "smoker", "mapping": {True: 1}},
            "constraints.0.mapping",
            "false",
        ),
        (
            {"kind": "functional", "column": "tier", "of": "smoker", "mapping": {True: 1, False: 4}},
            "constraints.0.mapping",
            "no value that its domain has",
        ),
        (
            {"kind": "functional", "column": "income", "formula": {"age": 1.0}, "constant": 1e6},
            "constraints.0.formula",
            "widen those bounds",
        ),
        ({"kind": "functional", "column": "age", "formula": {"age": 2}}, "constraints.0", "from itself"),
        (
            {"kind": "structural_null", "column": "age", "exactly_where": {"smoker": [True]}},
            "constraints.0.column",
            "not nullable",
        ),
        (
            {"kind": "structural_null", "column": "income", "exactly_where": {"smoker": ["yes"]}},
            "constraints.0.exactly_where",
            "never holds",
        ),
        ({"kind": "rounding", "column": "age", "multiple_of": 2.5}, "constraints.0.multiple_of", "own step"),
        ({"kind": "rounding", "column": "city", "multiple_of": 2}, "constraints.0.column", "columns of numbers"),
        ({"kind": "unique", "column": "age"}, "constraints.0.kind", "accepted: 'inequality'"),
        ({"holds": ["age", "<", 3]}, "constraints.0.kind", "missing"),
        ({"kind": "rounding", "column": "age", "multiple_of": 5, "unit": 1}, "constraints.0.unit", "unknown field"),
    ],
)
def test_a_fault_names_its_field_and_what_is_wrong(constraint: dict[str, Any], path: str, problem: str) -> None:
    with pytest.raises(ContractError) as caught:
        declared(constraint)
    assert [fault.path for fault in caught.value.faults] == [path]
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("constraints", "path", "problem"),
    [
        ([["age", "<=", "older"], ["older", "<", "age"]], "constraints.1", "in a circle"),
        ([["age", "<=", "older"], ["older", "<=", 20], ["age", ">=", 21]], "constraints.2", "leaves no value"),
        ([["age", "<", "older"], ["older", "<", "oldest"], ["oldest", "<=", 1]], "constraints.2", "leaves no value"),
    ],
)
def test_inequalities_that_contradict_each_other_are_refused(
    constraints: list[list[Any]], path: str, problem: str
) -> None:
    with pytest.raises(ContractError) as caught:
        declared(
            *({"kind": "inequality", "holds": holds} for holds in constraints),
            older=integer(0, 99),
            oldest=integer(0, 99),
        )
    assert [fault.path for fault in caught.value.faults] == [path]
    assert problem in str(caught.value)


def test_columns_that_follow_from_each_other_are_refused() -> None:
    with pytest.raises(ContractError, match="in a circle"):
        declared(
            {"kind": "functional", "column": "age", "formula": {"older": 1}},
            {"kind": "functional", "column": "older", "formula": {"age": 1}},
            older=integer(0, 99),
        )


def test_a_column_is_settled_by_one_constraint() -> None:
    with pytest.raises(ContractError, match=r"settled by constraints\.0"):
        declared(
            {"kind": "rounding", "column": "age", "multiple_of": 5},
            {"kind": "functional", "column": "age", "formula": {"older": 1}},
            older=integer(0, 99),
        )


def test_a_strict_inequality_needs_a_next_number() -> None:
    with pytest.raises(ContractError, match="give the column decimals"):
        declared({"kind": "inequality", "holds": ["weight", "<", 5]}, weight={"type": "number", "min": 0, "max": 9})


def test_a_date_in_a_contract_is_its_text() -> None:
    from synth.contract.constraints import Inequality

    given = Inequality(kind="inequality", holds=("first", "<=", datetime.date(2024, 5, 1)))  # type: ignore[arg-type]
    assert given.holds[2] == "2024-05-01"


def test_reading_a_contract_with_constraints_imports_no_numbers() -> None:
    """Airflow reads contracts again and again."""
    read = "import sys; import synth.contract; sys.exit('numpy' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", read], check=False).returncode == 0
