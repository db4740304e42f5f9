"""What a release by independent columns, MST or AIM says of itself, in files that ``sluice run``'s steps wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from synth.release.verify import verify_release
from tests.conftest import AIM, INDEPENDENT_COLUMNS, MST, Deployment, needs_mbi, run_all

OTHERS = ("DP-SGD", "DPDSyn", "label_correction", "mixture", "opacus", "regression that is fitted")


@pytest.mark.parametrize(
    ("changes", "name", "said", "chooses"),
    [
        pytest.param(INDEPENDENT_COLUMNS, "independent", "independently of all others", False, id="independent"),
        pytest.param(MST, "mst", "spanning tree", True, id="mst", marks=needs_mbi),
        pytest.param(AIM, "aim", "fixed number of rounds", True, id="aim", marks=needs_mbi),
    ],
)
def test_a_release_names_its_method_and_no_other(
    deployment: Deployment, changes: dict[str, Any], name: str, said: str, chooses: bool
) -> None:
    facts = run_all(deployment.run(**changes))
    folder = Path(facts["publish"]["uri"].removeprefix("file://"))
    assert verify_release(str(folder)).ok
    statement = json.loads((folder / "privacy_statement.json").read_text(encoding="utf-8"))
    assert statement["method"]["name"] == name
    assert said in statement["method"]["description"]
    texts = {
        path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.suffix in (".md", ".json")
    }
    found = {file: [word for word in OTHERS if word in text] for file, text in texts.items()}
    assert {file: words for file, words in found.items() if words} == {}
    assert ("exponential mechanism" in texts["privacy_statement.md"]) == chooses
    measured = pd.read_parquet(folder / "measurements.parquet")
    assert set(measured["mechanism"].astype(str)) == {"marginals"}
    assert set(measured["column"].astype(str)) == {"age", "income", "region", "member", "buys"}
    tables = statement["method"]["facts"]["measured_tables"]
    assert len(tables) == {"independent": 0, "mst": 4, "aim": 4}[name]


def test_an_auto_release_says_why_its_method_was_chosen(deployment: Deployment) -> None:
    facts = run_all(deployment.run(method={"name": "auto"}))
    folder = Path(facts["publish"]["uri"].removeprefix("file://"))
    statement = json.loads((folder / "privacy_statement.json").read_text(encoding="utf-8"))
    assert (statement["method"]["name"], statement["method"]["structure"]) == ("dpdsyn", "mixture")
    assert "stand out of the noise" in statement["method"]["chosen_because"]
