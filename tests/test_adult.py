"""Adult, the whole way at ε = 1, on the real table in the folder that SLUICE_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from synth import steps
from synth.contract import load_contract
from synth.quality.learners import features, train_learners
from synth.release.verify import verify_release
from synth.run import Run
from synth.schema import Schema
from tests.benchmarks.common import CONTRACTS, DataSet, deployment

FOLDER = Path(os.environ.get("SLUICE_DATA", "")) / "tabular"
MAJORITY = 0.764  # of the test file's labels
REAL_ROWS = 0.871  # accuracy of gradient boosting trained on the real training file, as measured by make bench-adult


@pytest.mark.skipif(
    "SLUICE_DATA" not in os.environ or not (FOLDER / "adult_train.parquet").exists(),
    reason="SKIPPED LOUDLY: SLUICE_DATA does not name a folder that holds tabular/adult_*.parquet",
)
def test_a_release_of_adult_teaches_nearly_what_the_real_rows_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three releases of the benchmark gave 0.851 to 0.854; below 0.835 something broke."""
    monkeypatch.setenv("SLUICE_DATA", str(FOLDER.parent.resolve()))
    data = DataSet("adult", CONTRACTS / "adult.yaml", CONTRACTS / "adult_policy.yaml")
    with deployment(data), Run(load_contract(data.contract), "test") as run:
        published = [step(run) for step in steps.STEPS][-1]
        assert published["epsilon"] <= 1.0
        assert verify_release(published["uri"]).ok
        schema = Schema.from_contract(run.contract)
        released = pd.read_parquet(Path(published["uri"].removeprefix("file://")) / "data")
    parsed = schema.parse(pa.Table.from_pandas(released))
    test = schema.parse(pa.Table.from_pandas(pd.read_parquet(FOLDER / "adult_test.parquet")))
    boosting, logistic = train_learners(schema, parsed, schema.encode(parsed), schema.target)
    labels = schema.encode(test)[:, schema.target_index]
    accuracy = [
        (learner.predict(features(schema, test, schema.target)) == labels).mean() for learner in (boosting, logistic)
    ]
    assert 0.835 < accuracy[0] < REAL_ROWS
    assert 0.82 < accuracy[1] < REAL_ROWS
    assert min(accuracy) > MAJORITY + 0.05
