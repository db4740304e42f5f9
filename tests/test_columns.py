"""Columns of every type the whole way: contract, plan, steps, the release folder, pandas, and noisy counts."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth import steps
from synth.errors import ContractError, SamplingRefused
from synth.further_rows import write_further_rows
from synth.measurements import Measurements
from synth.release.data import part_problems
from synth.release.verify import verify_release
from tests.conftest import MIXTURE, Deployment, people, run_all

PLANTED_ID = "QZX-31337-PERSON"
PLANTED_DAY = "1931-07-13"

SCHEMA: dict[str, Any] = {
    "person": {"type": "identifier", "pattern": "CUST-########@"},
    "joined": {"type": "date", "min": "2020-01-01", "max": "2023-12-31"},
    "seen": {
        "type": "timestamp",
        "min": "2024-01-01",
        "max": "2024-01-31",
        "resolution": "minute",
        "nullable": True,
    },
    "age": {"type": "integer", "min": 18, "max": 90},
    "size": {"type": "categorical", "categories": ["small", "medium", "large"], "ordered": True, "nullable": True},
    "stars": {"type": "categorical", "categories": [1, 2, 3, 4, 5], "ordered": True},
    "passport": {"type": "identifier"},
    "member": {"type": "boolean", "nullable": True},
    "wing": {"type": "integer", "min": 3, "max": 3},
    "rate": {"type": "number", "min": 0, "max": 0},
    "opened": {"type": "date", "min": "2019-05-01", "max": "2019-05-01"},
    "never": {"type": "number", "min": 0, "max": 9, "nullable": True},
    "buys": {"type": "categorical", "categories": ["no", "yes"]},
}
EXPECTATIONS = [
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "joined", "min_value": "2020-01-01", "max_value": dt.date(2023, 12, 31)},
        "tolerance": 0.05,
    },
    {
        "type": "expect_column_pair_values_a_to_be_greater_than_b",
        "kwargs": {"column_A": "seen", "column_B": "joined", "ignore_row_if": "either_value_is_missing"},
        "tolerance": 0.05,
    },
]


def table(rows: int = 1500) -> pd.DataFrame:
    """Like the made-up people, with dates that grow with age, sizes in order, and columns that hold one thing."""
    generator = np.random.default_rng(3)
    found = people(rows)
    start = pd.Timestamp("2020-01-01")
    found["joined"] = start + pd.to_timedelta((found["age"] - 18) * 19 + generator.integers(0, 60, rows), unit="D")
    seen = pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(0, 30 * 86_400, rows), unit="s")
    found["seen"] = seen.where(generator.random(rows) < 0.8)
    found["size"] = np.select([found["income"] < 20_000, found["income"] < 50_000], ["small", "medium"], "large")
    found["stars"] = np.minimum(5, 1 + found["age"] // 20)
    found["person"] = [f"QZX-{31_000 + i}-PERSON" for i in range(rows)]
    found["passport"] = found["person"] + "-PASS"
    found["wing"], found["rate"], found["opened"], found["never"] = 3, 0.0, pd.Timestamp("2019-05-01"), None
    return found


def start(folder: Path, kind: str = "parquet", **changes: Any) -> Any:
    deployment = Deployment(folder)
    source = folder / f"people.{kind}"
    made = table().astype({"joined": object, "opened": object})
    made.loc[4, "joined"] = PLANTED_DAY  # before the first day of the domain
    if kind == "parquet":
        made["joined"] = pd.to_datetime(made["joined"]).dt.tz_localize("UTC")
        made["opened"] = pd.to_datetime(made["opened"]).dt.date
        made.to_parquet(source)
    else:
        made.to_csv(source, index=False)
    deployment.register(sources=[str(source)])
    document = {"source": {"uri": str(source)}, "schema": SCHEMA, "expectations": EXPECTATIONS, **MIXTURE, **changes}
    return deployment.run(**document)


def folder_of(facts: dict[str, Any]) -> Path:
    return Path(facts["publish"]["uri"].removeprefix("file://"))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("parquet", MIXTURE),
        ("csv", {"method": {"options": {"structure": "independent", "batch_size": 256, "steps": 40}}}),
    ],
    ids=["mixture of parquet", "independent of csv"],
)
def test_every_type_of_column_comes_out_as_the_contract_says(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    run = start(tmp_path, kind, **changes)
    facts = run_all(run)
    folder = folder_of(facts)
    verification = verify_release(str(folder))
    assert verification.ok, verification.problems
    released = pd.read_parquet(folder / "data")
    assert list(released.columns) == [name for name in SCHEMA if name != "passport"]
    assert {name: str(dtype) for name, dtype in released.dtypes.items()} == {
        "person": "str",
        "joined": "datetime64[us]",
        "seen": "datetime64[us]",
        "age": "int64",
        "size": "category",
        "stars": "int64",
        "member": "boolean",
        "wing": "int64",
        "rate": "float64",
        "opened": "datetime64[us]",
        "never": "float64",
        "buys": "category",
    }
    assert released["person"].is_unique
    assert released["person"].str.fullmatch(r"CUST-\d{8}[A-Z]").all()
    assert released["joined"].between("2020-01-01", "2023-12-31").all()
    assert (released["joined"] == released["joined"].dt.normalize()).all()
    seen = released["seen"].dropna()
    assert seen.between("2024-01-01", "2024-01-31 23:59").all()
    assert (seen == seen.dt.floor("min")).all()
    assert 0.1 < released["seen"].isna().mean() < 0.3
    assert released["size"].cat.ordered
    assert list(released["size"].cat.categories) == ["small", "medium", "large"]
    assert (released["wing"] == 3).all()
    assert (released["rate"] == 0).all()
    assert (released["opened"] == pd.Timestamp("2019-05-01")).all()
    assert released["never"].isna().mean() > 0.9
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Dropped, and read by no step: passport." in card
    assert "2020-01-01 to 2023-12-31" in card
    assert r"small \< medium \< large" in card
    report = json.loads((folder / "quality_report.json").read_text(encoding="utf-8"))
    labels = {column["name"]: column["labels"] for column in report["marginals"]["columns"]}
    assert set(labels) == set(SCHEMA) - {"person", "passport"}
    assert labels["joined"][0].startswith("2020-01-01")
    assert "1577836800" not in (folder / "quality_report.html").read_text(encoding="utf-8")


def test_dates_keep_their_relation_and_their_counts_can_be_asked_for_by_date(tmp_path: Path) -> None:
    run = start(tmp_path)
    folder = folder_of(run_all(run))
    released = pd.read_parquet(folder / "data")
    days = (released["joined"] - pd.Timestamp("2020-01-01")).dt.days
    assert days.corr(released["age"].astype(float)) > 0.6
    measured = Measurements.read(folder / "measurements.parquet")
    true = table()["joined"].between("2021-01-01", "2021-12-31").mean()
    found = measured.share({"joined": ("2021-01-01", dt.date(2022, 1, 1))}, 0.999)
    assert found.low <= true + 0.1
    assert found.high >= true - 0.1
    assert found.high - found.low < 0.6
    with pytest.raises(ValueError, match="date"):
        measured.count({"joined": (1, 2)})
    with pytest.raises(ValueError, match="numbers"):
        measured.mean("joined")


def test_no_planted_identifier_or_date_is_seen_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Identifiers that are declared are not even read: only the unit's is, to bound what one unit contributes."""
    caplog.set_level("DEBUG")
    run = start(tmp_path)
    facts = run_all(run)
    output = "".join(capfd.readouterr()) + caplog.text + json.dumps(facts, default=str)
    planted = (PLANTED_ID, "-PERSON", PLANTED_DAY)
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file() and path.name != "people.parquet":
            assert not [value for value in planted if value.encode() in path.read_bytes()], path
    assert not [value for value in planted if value in output]
    released = pd.read_parquet(folder_of(facts) / "data")
    assert not set(released["person"]) & set(table()["person"])
    assert not released.astype(str).isin(planted).any().any()


def test_identifiers_are_in_no_snapshot(tmp_path: Path) -> None:
    run = start(tmp_path)
    for step in steps.STEPS[:3]:
        step(run)
    frame = run.workspace.read_frame("private/snapshot.parquet")
    assert not {"person", "passport"} & set(frame.columns)
    assert PLANTED_ID not in frame.astype(str).to_numpy()


def test_the_same_seed_makes_the_same_identifiers_whatever_the_people_are_called(tmp_path: Path) -> None:
    run = start(tmp_path)
    released = pd.read_parquet(folder_of(run_all(run)) / "data")
    seed = run.workspace.read_json("public/sampling_seed.json")
    again = run.schema.with_identifiers(released.drop(columns="person"), 0, seed)
    assert (again["person"] == released["person"]).all()


@pytest.mark.parametrize(
    ("column", "change", "problem"),
    [
        ("joined", lambda cells: cells.where(cells.index != 7, pd.Timestamp("2031-01-01")), "outside of"),
        ("joined", lambda cells: cells + pd.Timedelta(hours=1), "no multiple"),
        ("joined", lambda cells: cells.astype(str), "stored as"),
        ("joined", lambda cells: cells.dt.tz_localize("UTC"), "stored as"),
        ("person", lambda cells: cells.where(cells.index != 7, "CUST-12"), "pattern"),
        ("person", lambda cells: cells.where(cells.index != 7, cells[8]), "twice"),
        ("size", lambda cells: cells.cat.as_unordered(), "another order"),
        ("seen", lambda cells: cells.fillna(pd.Timestamp("2024-01-01 00:00:30")), "no multiple"),
    ],
)
def test_a_part_that_does_not_keep_to_its_columns_is_found(
    tmp_path_factory: pytest.TempPathFactory, column: str, change: Any, problem: str
) -> None:
    frame, columns = made_part()
    frame[column] = change(frame[column])
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    (found,) = part_problems(buffer, columns)[1]
    assert re.search(problem, found), found


def made_part() -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Rows of the schema drawn evenly, as a release stores them, and its stated columns."""
    from synth.contract import contract_from_document
    from synth.release.data import column_documents, stored_as
    from synth.schema import Schema
    from tests.conftest import contract_document

    contract = contract_from_document({**contract_document(Path()), "schema": SCHEMA, "expectations": []})
    schema, generator = Schema.from_contract(contract), np.random.default_rng(0)
    codes = np.column_stack(
        [generator.integers(0, c.size if c.nullable else c.cells, 40) for c in schema.columns]
    ).astype(np.int32)
    frame = schema.with_identifiers(schema.decode(codes, generator), 0, 5)
    frame = frame.astype({c.name: stored_as(c) for c in schema.columns if stored_as(c) != "category"})
    columns = column_documents(schema, contract)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    assert part_problems(buffer, columns) == (40, [])
    return frame, columns


@pytest.mark.parametrize(
    ("kwargs", "kind", "message"),
    [
        ({"column": "joined", "regex": "2020"}, "expect_column_values_to_match_regex", "holds dates"),
        ({"column": "joined", "value": 3}, "expect_column_value_lengths_to_equal", "holds dates"),
        ({"column": "joined", "min_value": 3}, "expect_column_values_to_be_between", "ISO 8601"),
        ({"column": "joined", "value_set": ["soon"]}, "expect_column_values_to_be_in_set", "ISO 8601"),
        ({"column": "passport"}, "expect_column_values_to_not_be_null", "no step reads"),
    ],
)
def test_expectations_that_say_nothing_of_dates_or_identifiers_are_refused_by_name(
    tmp_path: Path, kwargs: dict[str, Any], kind: str, message: str
) -> None:
    with pytest.raises(ContractError, match=rf"expectations\.0\.kwargs.*{message}"):
        Deployment(tmp_path).contract(schema=SCHEMA, expectations=[{"type": kind, "kwargs": kwargs}])


def test_dates_keep_declared_rules_and_further_rows_of_a_day_have_identifiers_too(tmp_path: Path) -> None:
    rule = {"kind": "inequality", "holds": ["joined", "<", "seen"]}
    day = {"kind": "inequality", "holds": ["joined", ">=", "2020-02-01"]}
    run = start(tmp_path, constraints=[rule, day], rows=600)
    folder = folder_of(run_all(run))
    verification = verify_release(str(folder))
    assert verification.ok, verification.problems
    released = pd.read_parquet(folder / "data")
    assert (released["joined"] >= "2020-02-01").all()
    out = tmp_path / "sample.parquet"
    write_further_rows(
        run, out, rows=50, where=["joined between 2021-03-01 and 2021-03-02", "seen > 2024-01-20"], seed=1
    )
    sample = pd.read_parquet(out)
    assert set(sample["joined"]) == {pd.Timestamp("2021-03-01"), pd.Timestamp("2021-03-02")}
    assert (sample["seen"] > "2024-01-20").all()
    assert sample["person"].is_unique
    with pytest.raises(SamplingRefused, match="'person' has 2,600,000,000 different identifiers"):
        write_further_rows(run, tmp_path / "more.parquet", rows=2_600_000_001)


@pytest.mark.parametrize(
    "rule", [{"kind": "non_negative", "columns": ["passport"]}, {"kind": "non_negative", "columns": ["joined"]}]
)
def test_rules_of_numbers_are_none_of_identifiers_and_dates(tmp_path: Path, rule: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match=r"constraints\.0"):
        Deployment(tmp_path).contract(schema=SCHEMA, expectations=[], constraints=[rule])
