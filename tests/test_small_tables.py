"""German Credit, 800 rows of 21 columns, the whole way at ε = 1, on the real table in the folder SLUICE_DATA names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from synth.cli.plans import advice
from synth.release.verify import verify_release
from tests.conftest import Deployment, run_all

FOLDER = Path(os.environ.get("SLUICE_DATA", "")) / "tabular"
BOUNDS = {
    "duration": (1, 72),
    "credit_amount": (0, 20_000),
    "installment_rate": (1, 4),
    "residence_since": (1, 4),
    "age": (18, 90),
    "existing_credits": (1, 4),
    "people_liable": (1, 2),
}


def columns() -> dict[str, Any]:
    """From what the table's publication documents, and plausible bounds."""
    found: dict[str, Any] = {}
    for column in json.loads((FOLDER / "german_credit.schema.json").read_text(encoding="utf-8"))["columns"]:
        name, documented = column["name"], column.get("documented_domain")
        if name in BOUNDS:
            found[name] = {"type": "integer", "min": BOUNDS[name][0], "max": BOUNDS[name][1]}
        else:
            categories: list[Any] = list(documented)
            found[name] = {"type": "categorical", "categories": categories}
    found["credit_risk"]["categories"] = [1, 2]
    return found


@pytest.mark.skipif(
    "SLUICE_DATA" not in os.environ or not (FOLDER / "german_credit_train.parquet").exists(),
    reason="SKIPPED LOUDLY: SLUICE_DATA does not name a folder that holds tabular/german_credit_*",
)
def test_eight_hundred_rows_go_through_and_the_plan_says_what_would_be_needed(tmp_path: Path) -> None:
    source = str(FOLDER / "german_credit_train.parquet")
    deployment = Deployment(tmp_path)
    deployment.register(sources=[source], unit="row")
    run = deployment.run(
        source={"uri": source},
        privacy={"unit": "row", "epsilon": 1.0, "delta": 1e-5, "approximate_units": 800},
        schema=columns(),
        task={"target": "credit_risk", "kind": "binary"},
        expectations=[],
        quality={},
        method={"options": {"structure": "mixture"}},
        rows=800,
    )
    facts = run_all(run)
    assert facts["publish"]["epsilon"] <= 1.0
    assert verify_release(facts["publish"]["uri"]).ok
    released = pd.read_parquet(Path(facts["publish"]["uri"].removeprefix("file://")) / "data")
    assert len(released) == 800
    # Shares of single columns are what such a table still has at this ε.
    assert (released["credit_risk"] == 1).mean() == pytest.approx(0.7, abs=0.2)
    said = advice(run.contract, run.plan)
    assert "With about 800 units at ε=1" in said
    assert "would stand out with about" in said
