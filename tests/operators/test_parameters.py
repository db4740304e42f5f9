"""A trigger can make a contract stricter and nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError

from operators.dag import build_dag
from operators.parameters import made_stricter, offered
from operators.preflight import PreflightOperator
from synth.contract import contract_from_document
from synth.errors import ContractError
from tests.operators.planted import contract

DOCUMENT = contract_from_document(contract(Path("/nowhere"), "people", "people.csv")).document()
FORMS = {"year": "2026", "quarter": "2026-Q3", "month": "2026-07"}
NO_WINDOWS = ["2026-Q5", "2026-13", "2026-Q3\n", "２０２６", "last", 2026, True, ["2026"]]


def windowed(every: str = "quarter", release: str | None = None) -> dict[str, Any]:
    """The document of a contract with windows."""
    window = {"column": "seen", "every": every, "release": release}
    document = contract(Path("/nowhere"), "people", "people.csv", privacy={"window": window})
    return contract_from_document(document).document()


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


def released(document: dict[str, Any]) -> str | None:
    window = contract_from_document(document).privacy.window
    assert window is not None
    return window.release


@pytest.mark.parametrize(("every", "name"), FORMS.items())
def test_a_trigger_names_the_window_and_an_empty_one_is_the_last_that_is_over(every: str, name: str) -> None:
    document = windowed(every, name)
    form = build_dag(document).params
    assert form["window"] == name
    form.update({"window": name})
    for empty in (None, ""):
        form.update({"window": empty})
        assert released(made_stricter(document, {"window": empty})) is None
    assert released(made_stricter(windowed(every), {"window": name})) == name
    assert released(made_stricter(document, {})) == name
    assert build_dag(windowed(every)).params["window"] is None


def test_the_question_is_about_the_window_that_the_trigger_named() -> None:
    """The task that asks opens the run by the same parameters, or it would be refused as another contract."""
    document = windowed()
    assert offered(document) == ("epsilon", "rows", "window")
    assert set(build_dag(document).params) == set(offered(document))
    assert set(build_dag(DOCUMENT).params) == set(offered(DOCUMENT)) == {"epsilon", "rows"}


@pytest.mark.parametrize("every", FORMS)
@pytest.mark.parametrize("given", [*FORMS.values(), *NO_WINDOWS])
def test_what_is_no_window_of_the_contract_s_length_is_refused_by_form_and_code(every: str, given: Any) -> None:
    if given == FORMS[every]:
        return
    with pytest.raises(ContractError, match=rf"'window'.*accepted: a {every} such as {FORMS[every]}"):
        made_stricter(windowed(every), {"window": given})
    if given != "2026-Q3\n":  # the form's pattern lets a line end pass, the code does not
        with pytest.raises(ParamValidationError):
            build_dag(windowed(every)).params.update({"window": given})


def test_a_contract_without_windows_has_no_such_field_and_refuses_the_parameter() -> None:
    with pytest.raises(ContractError, match="parameter 'window': unknown; accepted: epsilon, rows"):
        made_stricter(DOCUMENT, {"window": "2026-Q3"})
