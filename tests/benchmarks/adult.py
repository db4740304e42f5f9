"""Adult, the whole way at ε = 1: what the release teaches, tried on the real test file.

Trained on the release (TSTR) against trained on real rows, against the label model direct, against the majority
floor, with seconds. The test file is used by this benchmark alone, never by the release.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import accuracy_score, roc_auc_score

from synth import steps
from synth.contract import load_contract
from synth.quality.learners import features, train_learners
from synth.run import Run
from synth.schema import Schema
from tests.benchmarks.common import CONTRACTS, DataSet, adult_is_there, deployment, report

RELEASES = 3
LEARNERS = ("gradient boosting", "logistic regression")


def main() -> None:
    """Three releases, each with its own noise and split; print, write."""
    if not adult_is_there():
        return
    data = DataSet("adult", CONTRACTS / "adult.yaml", CONTRACTS / "adult_policy.yaml")
    folder = Path(os.environ["SLUICE_DATA"]) / "tabular"
    schema = Schema.from_contract(load_contract(data.contract))
    test = schema.parse(pa.Table.from_pandas(pd.read_parquet(folder / "adult_test.parquet")))
    labels = schema.encode(test)[:, schema.target_index]
    rows: list[dict[str, Any]] = []
    for release in range(RELEASES):
        with deployment(data), Run(load_contract(data.contract), f"release-{release}") as run:
            started = time.perf_counter()
            published = [step(run) for step in steps.STEPS][-1]
            seconds = time.perf_counter() - started
            codes = schema.encode(test)
            arrays = run.workspace.read_tensors("dp/model.safetensors")
            model: Any = run.method.restore(arrays, run.contract, schema)
            rows.append(_row("label model direct", release, labels, model.probabilities(codes), published, seconds))
            released = pd.read_parquet(Path(published["uri"].removeprefix("file://")) / "data")
            parsed = schema.parse(pa.Table.from_pandas(released))
            rows += _learners("release", release, schema, parsed, test, labels, published, seconds)
    real = schema.parse(pa.Table.from_pandas(pd.read_parquet(folder / "adult_train.parquet")))
    rows += _learners("real rows (no privacy)", None, schema, real, test, labels, {}, None)
    majority = np.eye(2)[np.full(len(labels), np.bincount(labels).argmax())]
    rows.append(_row("majority floor", None, labels, majority, {}, None))
    report("adult", "Adult: trained on ..., tried on the real test file", rows)
    _summary(rows)


def _learners(
    source: str,
    release: int | None,
    schema: Schema,
    parsed: pd.DataFrame,
    test: pd.DataFrame,
    labels: np.ndarray,
    published: dict[str, Any],
    seconds: float | None,
) -> list[dict[str, Any]]:
    fitted: Any = train_learners(schema, parsed, schema.encode(parsed), schema.target)
    inputs = features(schema, test, schema.target)
    return [
        _row(f"{source}, {name}", release, labels, learner.predict_proba(inputs), published, seconds)
        for name, learner in zip(LEARNERS, fitted, strict=True)
    ]


def _row(
    what: str,
    release: int | None,
    labels: np.ndarray,
    probabilities: np.ndarray,
    published: dict[str, Any],
    seconds: float | None,
) -> dict[str, Any]:
    return {
        "trained_on": what,
        "release": release,
        "epsilon": published.get("epsilon"),
        "accuracy": float(accuracy_score(labels, probabilities.argmax(axis=1))),
        "auc": float(roc_auc_score(labels, probabilities[:, 1])),
        "whole_run_s": seconds,
    }


def _summary(rows: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(rows).groupby("trained_on", sort=False)[["accuracy", "auc"]].agg(["mean", "std"])
    print(frame.round(4).to_string())


if __name__ == "__main__":
    main()
