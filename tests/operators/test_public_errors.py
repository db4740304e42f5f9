"""An error that reaches Airflow has the text that was written for it, and decides about the retry."""

from __future__ import annotations

import traceback

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from operators.base import with_public_errors
from synth.errors import BudgetExceeded, LedgerUnavailable, SluiceError

CELL = "qzx.mail@example.test"


def raised_by(error: BaseException) -> AirflowException:
    def work() -> None:
        try:
            pd.to_numeric(pd.Series([CELL]))
        finally:
            raise error

    with pytest.raises(AirflowException) as caught:
        with_public_errors(work)
    return caught.value


@pytest.mark.parametrize("error", [BudgetExceeded("too much"), LedgerUnavailable("not there")])
def test_an_error_raised_on_purpose_keeps_its_text_and_loses_its_context(error: SluiceError) -> None:
    shown = raised_by(error)
    assert str(shown) == f"{type(error).__name__}: {error}"
    assert isinstance(shown, AirflowFailException) is not error.retry
    assert CELL not in "".join(traceback.format_exception(shown))


def test_an_unexpected_error_loses_its_text_and_keeps_its_type_and_place() -> None:
    with pytest.raises(ValueError, match=CELL):
        pd.to_numeric(pd.Series([CELL]))
    with pytest.raises(AirflowException) as caught:
        with_public_errors(lambda: pd.to_numeric(pd.Series([CELL])))
    shown = "".join(traceback.format_exception(caught.value))
    assert CELL not in shown
    assert "unexpected ValueError at" in shown
    assert not isinstance(caught.value, AirflowFailException)


def test_an_interruption_passes_and_leaves_behind_what_it_interrupted() -> None:
    def work() -> None:
        try:
            pd.to_numeric(pd.Series([CELL]))
        except ValueError:
            raise KeyboardInterrupt  # noqa: B904 - as a signal does

    with pytest.raises(KeyboardInterrupt) as caught:
        with_public_errors(work)
    assert CELL not in "".join(traceback.format_exception(caught.value))
