"""Rows that were asked for: the model's own conditional distribution, equal shares, and a clear end to trying."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth.constraints.conditions import Condition
from synth.constraints.sampling import Sampler, Wanted
from synth.errors import SamplingRefused
from synth.methods.tabular.drawing import TabularModel
from tests.methods import test_dpdsyn, test_dpdsyn_mixture

CONDITIONS = ["city = Bern", "age between 20 and 60", "income >= 1000.5", "ill = true"]


@pytest.fixture(scope="module", params=["independent", "mixture", "any other"])
def model(request: pytest.FixtureRequest) -> TabularModel:
    if request.param == "independent":
        return test_dpdsyn.fit({}, 1600)[0]
    fitted = test_dpdsyn_mixture.fit(test_dpdsyn_mixture.MIXTURE, 1600)[0]
    if request.param == "any other":  # one that cannot be conditioned
        fitted.given = lambda evidence: TabularModel.given(fitted, evidence)  # type: ignore[method-assign]
    return fitted


def drawn(model: TabularModel, rows: int, *where: str, **wanted: Any) -> pd.DataFrame:
    asked = Wanted(where=Condition.parse(where, model.schema), **wanted)
    return pd.concat(model.frames(rows, 5, asked), ignore_index=True)


def test_conditional_rows_are_the_models_own_that_meet_the_condition(model: TabularModel) -> None:
    """Shares within 5 standard deviations of two samples: about one in 10^5 tests fails by chance."""
    conditional = drawn(model, 8000, *CONDITIONS)
    condition = Condition.parse(CONDITIONS, model.schema)
    plain = pd.concat(model.frames(150_000, 9), ignore_index=True)
    expected = plain[condition.holds(plain, model.schema)]
    assert len(conditional) == 8000
    assert condition.holds(conditional, model.schema).all()
    for name, cut in {"age": [19, 30, 40, 50, 60], "income": [0, 5000, 20_000, 35_000, 50_000]}.items():
        _assert_close(pd.cut(conditional[name], cut), pd.cut(expected[name], cut))
    for name in ("tier", "smoker"):
        _assert_close(conditional[name], expected[name])


def _assert_close(drawn: Any, expected: Any) -> None:
    shares, wanted = drawn.value_counts(normalize=True), expected.value_counts(normalize=True)
    for value, share in wanted.items():
        assert abs(shares.get(value, 0) - share) < 5 * np.sqrt(share * (1 - share) * (1 / 8000 + 1 / len(expected)))


def test_each_label_gets_an_equal_share(model: TabularModel) -> None:
    assert drawn(model, 1001, balance="ill")["ill"].value_counts().tolist() == [501, 500]
    balanced = drawn(model, 900, "city in (Bern, Graz)", balance="city")
    assert balanced["city"].value_counts().to_dict() == {"Bern": 450, "Graz": 450, "Linz": 0}


def test_the_same_seed_gives_the_same_rows(model: TabularModel) -> None:
    pd.testing.assert_frame_equal(*(drawn(model, 300, *CONDITIONS, balance="tier") for _ in range(2)))


def test_the_share_that_is_told_is_the_conditions(model: TabularModel) -> None:
    condition = Condition.parse(CONDITIONS, model.schema)
    plain = pd.concat(model.frames(100_000, 9), ignore_index=True)
    share = Sampler(model, Wanted(where=condition)).shares(np.random.default_rng(0))
    assert share[" and ".join(CONDITIONS)] == pytest.approx(condition.holds(plain, model.schema).mean(), rel=0.3)


def test_what_the_model_never_draws_is_refused(model: TabularModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth.constraints.sampling._LEAST_TRIED", 2000)
    with pytest.raises(SamplingRefused, match="ask for a wider condition"):
        drawn(model, 10, "city = Bern", "city = Graz")


@pytest.mark.parametrize(("column", "problem"), [("wealth", "no column"), ("age", "holds numbers")])
def test_a_column_that_cannot_be_balanced_is_refused(model: TabularModel, column: str, problem: str) -> None:
    with pytest.raises(SamplingRefused, match=problem):
        drawn(model, 10, balance=column)
