"""A trigger can make a contract stricter and nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError

from operators.dag import build_dag
from operators.parameters import made_stricter
from operators.preflight import PreflightOperator
from synth.contract import contract_from_document
from synth.errors import ContractError
from tests.operators.planted import contract

DOCUMENT = contract_from_document(contract(Path("/nowhere"), "people", "people.csv")).document()


def test_a_stricter_trigger_changes_the_contract_that_runs() -> None:
    stricter = contract_from_document(made_stricter(DOCUMENT, {"epsilon": 1, "rows": 10}))
    assert (stricter.privacy.epsilon, stricter.rows) == (1.0, 10)
    assert stricter.privacy.delta == DOCUMENT["privacy"]["delta"]


def test_the_contract_s_own_values_leave_it_as_it_was_reserved() -> None:
    defaults = made_stricter(DOCUMENT, {"epsilon": 3, "rows": 900.0})
    assert contract_from_document(defaults).digest() == contract_from_document(DOCUMENT).digest()


@pytest.mark.parametrize(
    "params",
    [
        {"epsilon": 3.0001},
        {"epsilon": 0},
        {"epsilon": -1},
        {"epsilon": math.nan},
        {"epsilon": math.inf},
        {"epsilon": "1"},
        {"epsilon": True},
        {"epsilon": None},
        {"rows": 901},
        {"rows": 0},
        {"rows": 1.5},
        {"rows": True},
        {"delta": 1e-9},
        {"privacy": {"epsilon": 40}},
    ],
)
def test_anything_else_is_refused_in_code_and_without_a_retry(params: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match=next(iter(params))):
        made_stricter(DOCUMENT, params)
    operator = PreflightOperator(task_id="preflight", document=DOCUMENT)
    context: Any = {"run_id": "r", "params": {"epsilon": 3.0, "rows": 900} | params}
    with pytest.raises(AirflowFailException, match="can only be stricter"):
        operator.execute(context)


@pytest.mark.parametrize("params", [{"epsilon": 3.0001}, {"epsilon": 0}, {"rows": 901}, {"rows": 1.5}])
def test_the_form_refuses_it_first(params: dict[str, Any]) -> None:
    form = build_dag(DOCUMENT).params
    with pytest.raises(ParamValidationError):
        form.update(params)
