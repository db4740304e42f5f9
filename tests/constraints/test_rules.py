"""Each rule by itself: what breaks it, that null holds, and that repair leaves nothing broken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from synth.constraints.repair import Rules
from synth.contract.constraints import Constraints

COLUMNS: dict[str, Any] = {
    "a": SimpleNamespace(type="integer", min=0, max=20, nullable=True),
    "b": SimpleNamespace(type="integer", min=0, max=20, nullable=True),
    "c": SimpleNamespace(type="number", min=0.0, max=20.0, decimals=1, nullable=True),
    "first": SimpleNamespace(type="date", min="2020-01-01", max="2020-12-31", nullable=True),
    "last": SimpleNamespace(type="date", min="2020-01-01", max="2020-12-31", nullable=True),
    "kind": SimpleNamespace(type="categorical", categories=["x", "y", "z"], nullable=True),
    "code": SimpleNamespace(type="categorical", categories=[1, 2, 3], nullable=True),
    "flag": SimpleNamespace(type="boolean", nullable=True),
}


def rules(*constraints: dict[str, Any]) -> Rules:
    return Rules(TypeAdapter(Constraints).validate_python(constraints), COLUMNS)


def random_frame(rows: int, seed: int = 0, missing: float = 0.1) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(generator.integers(0, 366, (2, rows)).ravel(), unit="D")
    frame = pd.DataFrame(
        {
            "a": pd.array(generator.integers(0, 21, rows), "Int64"),
            "b": pd.array(generator.integers(0, 21, rows), "Int64"),
            "c": np.round(generator.uniform(0, 20, rows), 1),
            "first": days[:rows],
            "last": days[rows:],
            "kind": pd.Categorical(generator.choice(["x", "y", "z"], rows), ["x", "y", "z"]),
            "code": pd.Categorical(generator.choice([1, 2, 3], rows), [1, 2, 3]),
            "flag": pd.array(generator.random(rows) < 0.5, "boolean"),
        }
    )
    return frame.mask(pd.DataFrame(generator.random(frame.shape) < missing, columns=frame.columns))


DECLARED: dict[str, list[dict[str, Any]]] = {
    "order": [{"kind": "inequality", "holds": ["a", "<", "b"]}],
    "descending": [{"kind": "inequality", "holds": ["a", ">=", "b"]}],
    "chain": [
        {"kind": "inequality", "holds": ["a", "<", "b"]},
        {"kind": "inequality", "holds": ["b", "<=", "c"]},
        {"kind": "inequality", "holds": ["c", "<", 18]},
        {"kind": "inequality", "holds": ["a", ">=", 3]},
    ],
    "dates": [
        {"kind": "inequality", "holds": ["first", "<", "last"]},
        {"kind": "inequality", "holds": ["first", ">=", "2020-03-01"]},
    ],
    "conditional": [{"kind": "inequality", "holds": ["a", "<=", "b"], "where": {"kind": ["x", None]}}],
    "multiples in order": [
        {"kind": "rounding", "column": "c", "multiple_of": 2.5},
        {"kind": "rounding", "column": "a", "multiple_of": 3},
        {"kind": "inequality", "holds": ["a", "<", "c"]},
    ],
    "allowed": [{"kind": "combinations", "columns": ["kind", "flag"], "allowed": [["x", True], ["y", False]]}],
    "forbidden": [{"kind": "combinations", "columns": ["code", "flag"], "forbidden": [[1, True], [2, False]]}],
    "mapping": [{"kind": "functional", "column": "code", "of": "kind", "mapping": {"x": 3, "y": 1, "z": None}}],
    "mapping to numbers": [{"kind": "functional", "column": "c", "of": "kind", "mapping": {"x": 1.5, "y": 2, "z": 3}}],
    "mapping to truth": [
        {"kind": "functional", "column": "flag", "of": "code", "mapping": {1: True, 2: False, 3: True}}
    ],
    "formula": [{"kind": "functional", "column": "c", "formula": {"a": 0.5, "b": 0.25}, "constant": 0.5}],
    "formula out of bounds": [{"kind": "functional", "column": "c", "formula": {"a": 1.0, "b": -1.0}}],
    "difference in order": [
        {"kind": "functional", "column": "c", "formula": {"b": 1.0, "a": -1.0}},
        {"kind": "inequality", "holds": ["a", "<=", "b"]},
    ],
    "null": [{"kind": "structural_null", "column": "a", "exactly_where": {"kind": ["x"]}}],
    "null of dates": [{"kind": "structural_null", "column": "last", "exactly_where": {"flag": [True, None]}}],
    "null of categories": [{"kind": "structural_null", "column": "code", "exactly_where": {"a": [3, 4]}}],
    "null and order": [
        {"kind": "structural_null", "column": "b", "exactly_where": {"kind": ["x"]}},
        {"kind": "inequality", "holds": ["a", "<", "b"]},
        {"kind": "combinations", "columns": ["kind", "code"], "allowed": {"x": [1], "y": [1, 2], "z": [3]}},
    ],
}
_REPAIRED_IN_PART = {"formula out of bounds"}


@pytest.mark.parametrize("name", DECLARED)
def test_random_rows_break_it_and_repaired_rows_do_not(name: str) -> None:
    declared, frame = rules(*DECLARED[name]), random_frame(2000)
    broken = declared.broken(frame)
    assert broken.any(axis=1).all()
    pool = frame.iloc[np.flatnonzero(~broken.any(axis=0))]
    repaired = declared.repaired(declared.computed(frame), pool, np.random.default_rng(0))
    left = declared.broken(repaired).any(axis=0).mean()
    assert left < 0.6 if name in _REPAIRED_IN_PART else left == 0
    assert (repaired.dtypes == frame.dtypes).all()
    untouched = [column for column in frame.columns if column not in declared.touched]
    pd.testing.assert_frame_equal(repaired[untouched], frame[untouched])


@pytest.mark.parametrize("name", ["order", "chain", "dates", "allowed", "forbidden", "multiples in order"])
def test_rows_that_keep_it_are_not_touched_by_repair(name: str) -> None:
    declared, frame = rules(*DECLARED[name]), random_frame(4000)
    sound = frame.iloc[np.flatnonzero(~declared.broken(frame).any(axis=0))].reset_index(drop=True)
    assert len(sound) > 50
    pd.testing.assert_frame_equal(declared.repaired(sound, sound, np.random.default_rng(0)), sound)


@pytest.mark.parametrize("name", ["order", "chain", "dates", "allowed", "forbidden", "multiples in order"])
def test_a_null_side_holds(name: str) -> None:
    declared = rules(*DECLARED[name])
    empty = random_frame(50, missing=1.0).astype({"kind": COLUMNS_DTYPE["kind"], "code": COLUMNS_DTYPE["code"]})
    assert not declared.broken(empty).any()


COLUMNS_DTYPE = random_frame(1).dtypes


@pytest.mark.parametrize(
    ("name", "row", "breaks"),
    [
        ("order", {"a": 3, "b": 3}, True),
        ("order", {"a": 2, "b": 3}, False),
        ("dates", {"first": "2020-05-01", "last": "2020-05-01"}, True),
        ("dates", {"first": "2020-05-01", "last": "2020-05-02"}, False),
        ("dates", {"first": "2020-02-29", "last": "2020-05-02"}, True),
        ("conditional", {"a": 5, "b": 1, "kind": "y"}, False),
        ("conditional", {"a": 5, "b": 1, "kind": "x"}, True),
        ("conditional", {"a": 5, "b": 1, "kind": None}, True),
        ("null", {"a": None, "kind": "x"}, False),
        ("null", {"a": 1, "kind": "x"}, True),
        ("null", {"a": None, "kind": "y"}, True),
        ("mapping", {"kind": "z", "code": 3}, False),  # null follows, and a null side holds
        ("mapping", {"kind": "x", "code": 1}, True),
        ("formula", {"a": 10, "b": 10, "c": 8.0}, False),
        ("formula", {"a": 10, "b": 10, "c": 8.1}, True),
    ],
)
def test_single_rows(name: str, row: dict[str, Any], breaks: bool) -> None:
    frame = random_frame(1, missing=0)
    for column, value in row.items():
        given = pd.Timestamp(value) if column in ("first", "last") else value
        frame[column] = pd.Series([given]).astype(frame[column].dtype)
    assert rules(*DECLARED[name]).broken(frame).any() == breaks


def test_what_is_null_by_rule_is_null_after_it_is_computed() -> None:
    declared, frame = rules(*DECLARED["mapping"]), random_frame(500)
    computed = declared.computed(frame)
    assert computed.loc[frame["kind"].isin(["z"]) | frame["kind"].isna(), "code"].isna().all()
    assert (computed.loc[frame["kind"] == "x", "code"] == 3).all()
