"""Constraints of every kind from contract to bucket: kept in all rows, their cost told, a broken one noticed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth import steps
from synth.assembly import synthetic_frames
from synth.errors import ContractError
from synth.release.data import part_problems
from synth.release.verify import verify_release
from tests.conftest import MIXTURE, Deployment, run_all
from tests.constraints.households import CONSTRAINTS, all_kept, households, sections


@pytest.fixture
def constrained(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.write(households(1500))
    made.register()
    return made


def folder_of(facts: dict[str, Any]) -> Path:
    return Path(facts["publish"]["uri"].removeprefix("file://"))


@pytest.mark.parametrize("changes", [{}, MIXTURE], ids=["independent", "mixture"])
def test_every_published_row_keeps_every_constraint_and_the_cost_is_told(
    constrained: Deployment, changes: dict[str, Any]
) -> None:
    facts = run_all(constrained.run(**sections(**changes)))
    folder = folder_of(facts)
    verification = verify_release(facts["publish"]["uri"])
    assert verification.ok, verification.problems
    released = pd.read_parquet(folder / "data")
    assert len(released) == 1200
    assert all_kept(released)
    report = json.loads((folder / "quality_report.json").read_text())
    cost = report["constraints"]["cost"]
    assert [c["kind"] for c in cost["constraints"]] == [c["kind"] for c in CONSTRAINTS]
    assert all(c["broken_as_drawn"] > 0 for c in cost["constraints"] if c["kind"] != "non_negative")
    assert 0 < cost["rows_redrawn"] <= 1
    assert 0 < cost["mean_distance"] < 0.5
    assert cost["distances"].keys() == set(released.columns)
    assert "Declared constraints" in (folder / "quality_report.html").read_text()
    card = (folder / "README.md").read_text()
    assert "## Constraints" in card
    assert "joined \\< ended" in card
    statement = json.loads((folder / "privacy_statement.json").read_text())
    assert [c["kind"] for c in statement["public_information"]["constraints"]] == [c["kind"] for c in CONSTRAINTS]
    assert "joined \\< ended" in (folder / "privacy_statement.md").read_text()


BREAKS = {
    0: {"joined": 2025, "ended": 2000},
    1: {"member": False, "tax": 1900.0, "net": 50.0, "total": 1950.0},
    2: {"region": "south", "land": "lake"},
    3: {"status": "left", "member": True},
    4: {"level": 3, "region": "north"},
    5: {"total": 6999.0, "net": 50.0, "tax": 1.0},
    6: {"status": "active", "ended": 2020},
    7: {"status": "left", "tax": -5.0},
    8: {"net": 51.0},
}


@pytest.mark.parametrize("broken", range(len(CONSTRAINTS)), ids=[c["kind"] for c in CONSTRAINTS])
def test_one_row_that_breaks_a_constraint_is_noticed_by_verify(broken: int) -> None:
    contract = Deployment(Path("/nowhere")).contract(**sections())
    rows = households(60).drop(columns="person")
    rows["level"] = rows["level"].astype("int64")
    columns = _columns(contract)
    constraints = [constraint.model_dump(mode="json") for constraint in contract.constraints]
    assert part_problems(_parquet(rows), columns, constraints) == (60, [])
    place = 7
    for name, value in BREAKS[broken].items():
        rows.loc[place, name] = value
    found = part_problems(_parquet(rows), columns, constraints)[1]
    assert f"breaks a declared constraint: {contract.constraints[broken].text}" in found
    assert part_problems(_parquet(rows), columns)[1] == []


def _columns(contract: Any) -> list[dict[str, Any]]:
    from synth.release.data import column_document
    from synth.schema import Schema

    return [column_document(column, contract) for column in Schema.from_contract(contract).columns]


def _parquet(rows: pd.DataFrame) -> io.BytesIO:
    buffer = io.BytesIO()
    rows.astype({"region": "category", "land": "category", "status": "category", "buys": "category"}).to_parquet(
        buffer, index=False
    )
    buffer.seek(0)
    return buffer


def test_the_same_seed_gives_the_same_constrained_rows(constrained: Deployment) -> None:
    frames = []
    for name in ("one", "two"):
        run = constrained.run(name, **sections())
        run.unsafe_seed = 3
        for step in steps.STEPS[:5]:
            step(run)
        frames.append(pd.concat(synthetic_frames(run)))
    pd.testing.assert_frame_equal(*frames)


def test_constraints_that_cannot_hold_together_are_refused_before_anything_is_reserved(
    constrained: Deployment,
) -> None:
    """Level follows from region, and the two never occur together as they follow."""
    impossible = {
        "kind": "combinations",
        "columns": ["region", "level"],
        "allowed": [["north", 2], ["south", 3], ["east", 1]],
    }
    run = constrained.run(**sections(constraints=[CONSTRAINTS[4], impossible]))
    with pytest.raises(ContractError, match=r"constraints\.0: no row of the declared domain"):
        steps.preflight(run)
    assert run.ledger.entries("people_policy", run.name) == []


def test_a_contract_without_constraints_says_so_and_draws_as_before(constrained: Deployment) -> None:
    run = constrained.run(**sections(constraints=[]))
    facts = run_all(run)
    report = json.loads((folder_of(facts) / "quality_report.json").read_text())
    assert report["constraints"]["cost"] is None
    assert "## Constraints" not in (folder_of(facts) / "README.md").read_text()
    assert not all_kept(pd.read_parquet(folder_of(facts) / "data"))
    assert np.isfinite(facts["publish"]["epsilon"])
