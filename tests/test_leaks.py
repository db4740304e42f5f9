"""What never leaves, and what never shows: planted values, private rows, one row in a task's state."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth import steps
from synth.errors import (
    NotReserved,
    ReservationReleased,
    TamperedArtifact,
)
from tests.conftest import MIXTURE, Deployment, people, run_all, starts

PLANTED = ("leopold.bloom@eccles.example", "PLANTED-CATEGORY", "77777.77", "424242424242")
_INT8 = pa.dictionary(pa.int8(), pa.string())


def planted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with values that must never be seen again: in every column, domain or not."""
    nasty = table.astype(object)
    nasty.loc[3, ["age", "region"]] = PLANTED[0], PLANTED[1]
    nasty.loc[4, "income"] = PLANTED[0]
    nasty.loc[5, "income"] = float(PLANTED[2])
    nasty.loc[6, "person"] = PLANTED[3]
    nasty.loc[7, ["age", "income", "member"]] = "inf", "-Infinity", "NaN"
    nasty.loc[8, "buys"] = PLANTED[1]
    return nasty


def all_bytes(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_no_row_is_read_before_the_budget_is_reserved(deployment: Deployment) -> None:
    run = deployment.run()
    steps.preflight(run)
    for step in (steps.validate, steps.train, steps.check):
        with pytest.raises((NotReserved, TamperedArtifact)):
            step(run)
    assert not run.workspace.exists("private/snapshot.parquet")


def test_private_rows_are_gone_once_the_run_is_settled(deployment: Deployment) -> None:
    run = deployment.run()
    run_all(run)
    assert list((run.workspace.root / "private").iterdir()) == []


@pytest.mark.parametrize(("kind", "method"), [("csv", {}), ("parquet", MIXTURE)], ids=["csv", "parquet and mixture"])
def test_planted_values_are_never_seen_again(
    deployment: Deployment,
    kind: str,
    method: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the ledger, the release, what the steps return, what is printed or logged; the snapshot is erased."""
    caplog.set_level(logging.DEBUG)
    table = planted(people())
    deployment.write(table)
    changes: dict[str, Any] = {}
    if kind == "parquet":
        table.astype(str).to_parquet(deployment.folder / "people.parquet")
        deployment.folder.joinpath("people.csv").unlink()
        deployment.folder.joinpath("ledger.db").unlink()
        deployment.register(name="parquet_policy", sources=[str(deployment.folder / "people.parquet")])
        changes = {"source": {"uri": str(deployment.folder / "people.parquet")}}
    run = deployment.run(**method, **changes)
    facts = run_all(run)
    source = deployment.folder / f"people.{kind}"
    seen = [(path, content) for path, content in all_bytes(deployment.folder) if path != source]
    assert any(path.name == "ledger.db" for path, _ in seen)
    output = "".join(capfd.readouterr()) + caplog.text + json.dumps(facts, default=str)
    for value in PLANTED:
        assert value not in output
        holders = [str(path.relative_to(deployment.folder)) for path, content in seen if value.encode() in content]
        assert holders == []
    released = pd.read_parquet(Path(facts["publish"]["uri"].removeprefix("file://")) / "data")
    assert not released.astype(str).isin(PLANTED).any().any()


@pytest.mark.parametrize("method", [{}, MIXTURE], ids=["independent", "mixture"])
def test_neighbouring_inputs_give_the_same_states(deployment: Deployment, method: dict[str, Any]) -> None:
    """One person more, with the worst row imaginable, moves no step's outcome; nor does its time explode."""
    ordinary = people()
    worst = pd.DataFrame(
        [
            {
                "person": PLANTED[3],
                "age": PLANTED[0],
                "income": "9" * 100_000 + "x",
                "region": "\x00'\x1f",
                "member": "nan",
                "buys": "\ufffd",
            }
        ]
    )
    states = []
    for run_id, table in (("without", ordinary), ("with", pd.concat([ordinary.astype(object), worst]))):
        deployment.write(table)
        facts = run_all(deployment.run(run_id, **method))
        states.append({name: sorted(values) for name, values in facts.items()})
    assert states[0] == states[1]


@pytest.mark.parametrize("method", [{}, MIXTURE], ids=["independent", "mixture"])
@pytest.mark.parametrize(("without", "extra"), [(0, 1), (1, 1)], ids=["nobody and somebody", "one and two"])
def test_hardly_anybody_gives_the_same_states(tmp_path: Path, without: int, extra: int, method: dict[str, Any]) -> None:
    """Empty branches, too, are measured rather than betrayed by a failure."""
    deployment = Deployment(tmp_path)
    outcomes = []
    for rows in (without, without + extra):
        deployment.write(people(2000).iloc[:rows])
        deployment.register()
        run = deployment.run(f"{rows}", expectations=[], quality={}, **method)
        outcomes.append(sorted(run_all(run)))
        assert starts(run) == {mechanism.name: 1 for mechanism in run.plan.mechanisms}
    assert outcomes[0] == outcomes[1]


def test_one_category_more_in_a_parquet_dictionary_changes_nothing_for_others(tmp_path: Path) -> None:
    """Chunks with dictionaries of their own overflow their index type when they are joined at 128 values."""
    outcomes = []
    for number, last in enumerate(("c5", "NEW")):
        deployment = Deployment(tmp_path)
        table = people(1500).assign(region=[f"c{i % 127}" for i in range(1500)])
        table.loc[1499, "region"] = last
        columns = {name: pa.array(table[name]) for name in table}
        halves = [pa.array(table["region"][:1000]), pa.array(table["region"][1000:])]
        columns["region"] = pa.chunked_array([half.dictionary_encode().cast(_INT8) for half in halves], _INT8)
        with pq.ParquetWriter(tmp_path / f"people{number}.parquet", pa.table(columns).schema) as writer:
            for start in (0, 1000):
                writer.write_table(pa.table(columns).slice(start, 1000 if start == 0 else 500))
        source = str(tmp_path / f"people{number}.parquet")
        deployment.register(name=f"policy{number}", sources=[source])
        run = deployment.run(f"{number}", source={"uri": source}, expectations=[], quality={})
        outcomes.append(sorted(run_all(run)))
    assert outcomes[0] == outcomes[1]


def test_after_settling_the_source_is_not_read_again(deployment: Deployment) -> None:
    run = deployment.run()
    steps.preflight(run)
    steps.allocate(run)
    steps.settle(run)
    (deployment.folder / "people.csv").unlink()
    for step in (steps.validate, steps.train):
        with pytest.raises((ReservationReleased, TamperedArtifact)):
            step(deployment.run())
    assert list((run.workspace.root / "private").iterdir()) == []


def test_rows_are_not_kept_while_a_person_decides(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(approval={"mode": "human", "approvers": ["ada"]})
    run = deployment.run(approval={"mode": "human"})
    for step in steps.STEPS[:6]:
        step(run)
    assert list((run.workspace.root / "private").iterdir()) == []


def test_many_rows_of_one_person_count_once(deployment: Deployment) -> None:
    """A person who fills half of the table is one unit in every count."""
    flood = pd.concat([people(), pd.concat([people().iloc[[0]]] * 3000)])
    deployment.write(flood)
    run = deployment.run()
    run_all(run)
    units = run.workspace.read_arrays("dp/validation.npz")["counts"][0]
    sigma = run.plan.counts("validation").sigma
    assert abs(units - len(people())) < 6 * sigma
