"""Great Expectations finds the rows, charged counts judge them, and nothing else gets out."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from synth import validation
from synth.contract import Contract, Expectation
from synth.contract.row_expectations import ROW_EXPECTATIONS
from synth.errors import ContractError
from synth.events import DiscreteGaussian
from synth.mechanisms import noisy_integers
from synth.records import Records
from synth.schema import Schema
from synth.validation import check_expectations, judge, measure
from tests.chance import ALPHA, rate_p
from tests.example_contract import contract
from tests.sealed import own_units

GENERATOR = np.random.default_rng(9)
ROWS = 60
FRAME = pd.DataFrame(
    {
        "age": np.where(GENERATOR.random(ROWS) < 0.2, np.nan, GENERATOR.integers(0, 99, ROWS)),
        "income": np.where(GENERATOR.random(ROWS) < 0.2, np.nan, GENERATOR.integers(0, 99, ROWS)),
        "city": GENERATOR.choice(np.array(["Bern", "Graz", "Linz", "Ulm", None], dtype=object), ROWS),
        "tier": GENERATOR.choice([1.0, 2.0, 3.0, 7.0, np.nan], ROWS),
        "smoker": GENERATOR.choice([0.0, 1.0, np.nan], ROWS),
        "ill": GENERATOR.choice([0.0, 1.0], ROWS),
    }
)
age, income, city, tier = FRAME["age"], FRAME["income"], FRAME["city"], FRAME["tier"]
lengths = city.map(lambda text: len(text) if isinstance(text, str) else math.nan)

# type, kwargs, and which rows violate it; null violates nothing but an expectation about null
BY_HAND: list[tuple[str, dict[str, Any], pd.Series]] = [
    (
        "expect_column_values_to_be_between",
        {"column": "age", "min_value": 18, "max_value": 65},
        (age < 18) | (age > 65),
    ),
    ("expect_column_values_to_be_between", {"column": "age", "min_value": 18, "strict_min": True}, age <= 18),
    (
        "expect_column_values_to_be_in_set",
        {"column": "city", "value_set": ["Bern", "Linz"]},
        city.isin(["Graz", "Ulm"]),
    ),
    ("expect_column_values_to_be_in_set", {"column": "tier", "value_set": [1, 2]}, tier.isin([3, 7])),
    ("expect_column_values_to_not_be_in_set", {"column": "city", "value_set": ["Ulm"]}, city == "Ulm"),
    ("expect_column_values_to_not_be_null", {"column": "age"}, age.isna()),
    ("expect_column_values_to_not_be_null", {"column": "city"}, city.isna()),
    ("expect_column_values_to_be_null", {"column": "city"}, city.notna()),
    ("expect_column_values_to_match_regex", {"column": "city", "regex": "^[BG]"}, city.isin(["Linz", "Ulm"])),
    ("expect_column_values_to_not_match_regex", {"column": "city", "regex": "^[BG]"}, city.isin(["Bern", "Graz"])),
    ("expect_column_value_lengths_to_be_between", {"column": "city", "min_value": 4, "max_value": 9}, lengths < 4),
    ("expect_column_value_lengths_to_equal", {"column": "city", "value": 4}, lengths == 3),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "age", "column_B": "income", "ignore_row_if": "either_value_is_missing"},
        age <= income,
    ),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "age", "column_B": "tier", "or_equal": True, "ignore_row_if": "either_value_is_missing"},
        age < tier,
    ),
    (
        "expect_column_pair_values_to_be_equal",
        {"column_A": "smoker", "column_B": "ill", "ignore_row_if": "either_value_is_missing"},
        FRAME["smoker"].notna() & (FRAME["smoker"] != FRAME["ill"]),
    ),
    (
        "expect_multicolumn_sum_to_equal",
        {"column_list": ["smoker", "ill"], "sum_total": 1, "ignore_row_if": "any_value_is_missing"},
        FRAME["smoker"].notna() & (FRAME["smoker"] + FRAME["ill"] != 1),
    ),
]
EXPECTATIONS = [Expectation(type=kind, kwargs=kwargs) for kind, kwargs, _ in BY_HAND]


def with_expectations(*expectations: tuple[str, dict[str, Any]], tolerance: float = 0.0) -> Contract:
    listed = [{"type": kind, "kwargs": kwargs, "tolerance": tolerance} for kind, kwargs in expectations]
    return contract({"expectations": listed})


@pytest.fixture(scope="module")
def masks() -> Any:
    return validation._violations(FRAME, EXPECTATIONS)


@pytest.mark.parametrize("position", range(len(BY_HAND)), ids=[f"{kind}-{i}" for i, (kind, *_) in enumerate(BY_HAND)])
def test_violating_rows_are_those_found_by_hand(masks: Any, position: int) -> None:
    by_hand = BY_HAND[position][2].fillna(False).to_numpy(dtype=bool)
    assert 0 < by_hand.sum() < ROWS
    np.testing.assert_array_equal(masks[:, position], by_hand)


def test_every_accepted_expectation_is_tried() -> None:
    assert {kind for kind, *_ in BY_HAND} == set(ROW_EXPECTATIONS)


@pytest.mark.parametrize(
    "extra",
    [
        {"age": 1e300, "income": -1e300, "city": "x" * 10_000, "tier": 9.0, "smoker": 0.0, "ill": 1.0},
        {"age": math.nan, "income": math.nan, "city": None, "tier": math.nan, "smoker": math.nan, "ill": math.nan},
        {"age": 5e-324, "income": 0.5, "city": "\x00?", "tier": -1.0, "smoker": 7.0, "ill": 7.0},
    ],
    ids=["extreme", "all null", "odd"],
)
def test_another_person_changes_the_verdict_on_nobody_else(masks: Any, extra: dict[str, Any]) -> None:
    """So that each count has sensitivity one."""
    larger = pd.concat([pd.DataFrame([extra]), FRAME], ignore_index=True)
    np.testing.assert_array_equal(validation._violations(larger, EXPECTATIONS)[1:], masks)


@pytest.mark.parametrize(
    "cell", ["9999-12-31T23:59-23:59", "0001-01-01T00:00+23:59", "9999-12-31", "0001-01-01", "1e400"]
)
def test_whether_dates_can_be_judged_depends_on_no_cell(cell: str) -> None:
    """A zone moves the first two out of the years that can be compared: a step that fails on them tells of somebody."""
    kwargs = {"column": "day", "min_value": "2020-06-01", "max_value": "2021-01-01"}
    day = {"type": "datetime", "min": "2020-01-01", "max": "2024-12-31", "nullable": True}
    chosen = contract(
        {"schema.day": day, "expectations": [{"type": "expect_column_values_to_be_between", "kwargs": kwargs}]}
    )
    schema = Schema.from_contract(chosen)
    parsed = schema["day"].parse(pa.array([cell, "2020-07-01", "2022-01-01"]))
    frame = schema.native(FRAME.iloc[:3].assign(day=parsed))
    assert validation._violations(frame, chosen.expectations)[1:, 0].tolist() == [False, True]


@pytest.mark.parametrize("rows", [0, 1, 20])
def test_tables_of_nobody_and_of_nothing_but_null_are_judged(rows: int) -> None:
    """Whether evaluation succeeds must not depend on the cells."""
    empty = FRAME.iloc[:0].reset_index(drop=True)
    blank = pd.DataFrame({name: [None if name == "city" else math.nan] * rows for name in FRAME.columns})
    for frame in (empty, blank):
        found = validation._violations(frame, EXPECTATIONS)
        assert found.shape == (len(frame), len(EXPECTATIONS))


def test_the_counts_are_units_and_violations(monkeypatch: pytest.MonkeyPatch, masks: Any) -> None:
    monkeypatch.setattr("synth.mechanisms.noisy_integers", lambda values, sigma: np.asarray(values))
    chosen = with_expectations(*[(kind, kwargs) for kind, kwargs, _ in BY_HAND])
    counts = measure(Records(FRAME, own_units(len(FRAME))), chosen, DiscreteGaussian(1.0, 1, 1 + len(BY_HAND)))
    assert counts.tolist() == [ROWS, *masks.sum(axis=0)]
    with pytest.raises(ValueError, match="compositions"):
        measure(Records(FRAME, own_units(len(FRAME))), chosen, DiscreteGaussian(1.0, 1, len(BY_HAND)))


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_match_regex", {"column": "city", "regex": "("}),
        ("expect_column_values_to_be_between", {"column": "age", "min_value": "eighteen"}),
        ("expect_column_values_to_be_between", {"column": "city", "min_value": 3}),
        ("expect_column_values_to_be_between", {"column": "age"}),
        ("expect_column_values_to_be_between", {"column": "age", "min_value": 9, "max_value": 3}),
        ("expect_column_value_lengths_to_equal", {"column": "age", "value": "four"}),
        ("expect_multicolumn_sum_to_equal", {"column_list": ["city", "age"], "sum_total": 1}),
        ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "age", "column_B": "city"}),
    ],
)
def test_what_cannot_be_evaluated_is_found_before_any_look_at_data(kind: str, kwargs: dict[str, Any]) -> None:
    good = ("expect_column_values_to_not_be_null", {"column": "age"})
    chosen = with_expectations(good, (kind, kwargs))
    with pytest.raises(ContractError, match=rf"expectations\.1 \({kind}\)") as caught:
        check_expectations(chosen, Schema.from_contract(chosen))
    assert "expectations.0" not in str(caught.value)


def test_expectations_that_can_be_evaluated_pass_the_probe() -> None:
    chosen = with_expectations(*[(kind, kwargs) for kind, kwargs, _ in BY_HAND])
    check_expectations(chosen, Schema.from_contract(chosen))


def test_verdicts_carry_expectation_columns_and_nothing_measured() -> None:
    chosen = with_expectations(
        ("expect_column_values_to_not_be_null", {"column": "age"}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "smoker", "column_B": "ill"}),
        tolerance=0.1,
    )
    event = DiscreteGaussian(2.0, 1, 3)
    first, second = judge(np.array([1000, 90, 150]), chosen, event)
    assert (first.passed, second.passed) == (True, False)
    assert second.columns == ("smoker", "ill")
    assert set(first.document()) == {"expectation", "columns", "tolerance", "passed"}


def test_verdicts_far_from_the_border_do_not_depend_on_one_person() -> None:
    chosen = with_expectations(("expect_column_values_to_not_be_null", {"column": "age"}), tolerance=0.1)
    event = DiscreteGaussian(2.0, 1, 2)
    for violating, expected in ((60, True), (140, False)):
        for units, count in ((1000, violating), (1001, violating), (1001, violating + 1)):
            noisy = noisy_integers([units, count], event.sigma)  # 15 standard deviations from the border
            assert judge(noisy, chosen, event)[0].passed is expected


def check_false_alarms(tolerance: float, judged_sigma: float) -> None:
    """Exactly at the border, 20,000 times: the noise is of scale 20, judged as if of ``judged_sigma``."""
    chosen = with_expectations(("expect_column_values_to_not_be_null", {"column": "age"}), tolerance=tolerance)
    event, trials = DiscreteGaussian(20.0, 1, 2), 20_000
    noisy = noisy_integers(np.tile([1000, round(1000 * tolerance)], (trials, 1)), event.sigma)
    judged = replace(event, sigma=judged_sigma)
    failed = sum(not judge(row, chosen, judged)[0].passed for row in noisy)
    assert rate_p(failed, trials, 0.01) >= ALPHA


@pytest.mark.statistical
@pytest.mark.parametrize("tolerance", [0.0, 0.1, 0.5])
def test_an_expectation_met_exactly_fails_once_in_a_hundred(tolerance: float) -> None:
    """The test itself fails once in a million runs."""
    check_false_alarms(tolerance, 20.0)


@pytest.mark.parametrize("judged_sigma", [0.0, 15.0, 30.0])
def test_other_rates_of_false_alarm_are_caught(judged_sigma: float) -> None:
    with pytest.raises(AssertionError):
        check_false_alarms(0.1, judged_sigma)


SECRET = "SECRET-CELL"


def planted() -> pd.DataFrame:
    return FRAME.assign(city=SECRET)


EVALUATIONS: dict[str, Callable[[], object]] = {
    "violations": lambda: validation._violations(planted(), EXPECTATIONS),
    "failure": lambda: validation._violations(
        planted(), [Expectation(type="expect_column_values_to_be_between", kwargs={"column": "city", "min_value": 3})]
    ),
    "sum of text": lambda: validation._violations(
        planted(),
        [Expectation(type="expect_multicolumn_sum_to_equal", kwargs={"column_list": ["city", "age"], "sum_total": 3})],
    ),
}


@pytest.mark.parametrize("evaluate", EVALUATIONS.values(), ids=EVALUATIONS)
def test_nothing_is_printed_logged_or_raised_that_quotes_a_cell(
    evaluate: Callable[[], object], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raised: list[Exception] = []
    try:
        evaluate()
    except Exception as error:
        raised.append(error)
    assert all(error.__cause__ is None and error.__suppress_context__ for error in raised)
    assert SECRET not in "".join(map(str, raised))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_cell_that_great_expectations_prints_is_swallowed(capfd: pytest.CaptureFixture[str]) -> None:
    """The same quiet block, tried with something that does print and log; outside of it both are heard."""

    def speak() -> None:
        print(SECRET)
        logging.getLogger("great_expectations").error(SECRET)

    with validation._hushed():
        speak()
    assert capfd.readouterr() == ("", "")
    speak()
    assert SECRET in capfd.readouterr().out


def test_no_analytics_are_sent() -> None:
    validation._violations(FRAME, EXPECTATIONS[:1])
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
