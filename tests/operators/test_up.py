"""What ``make up`` adds to the shipped contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from dags import playground, up
from synth.contract import load_contract, load_policy


def test_the_contract_to_try_approval_with_differs_from_the_shipped_one_in_who_approves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_DEMO_DATA", str(tmp_path))
    monkeypatch.setenv("SLUICE_DEMO_BUCKET", str(tmp_path))
    shipped = load_contract(playground.CONTRACT).document()
    asking = load_contract(up.write_contract_that_asks(tmp_path / "contracts")).document()
    assert asking["approval"]["mode"] == "human"
    assert asking["dataset"]["name"] != shipped["dataset"]["name"]
    same = {"dataset": {**shipped["dataset"], "name": asking["dataset"]["name"]}, "approval": asking["approval"]}
    assert asking == shipped | same
    assert "olga" in load_policy(playground.POLICY).approval.approvers
