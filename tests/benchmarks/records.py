"""The demo's panel with at most 1, 2, 3 and 5 records a person: what more records cost in noise and gain in use.

A quarter of the people is kept out of the source and is what releases are tried on, with all of their rows. The table
is public, so that its contract may follow what is seen here; a private one would have to be decided on its design.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import accuracy_score, roc_auc_score

from synth import steps
from synth.contract import Contract, contract_from_document, load_contract, load_policy
from synth.ledger import Ledger
from synth.methods.tabular.dpdsyn import DpdsynModel
from synth.officer import register
from synth.quality.learners import features, train_learners
from synth.quality.pairs import _grouped, _groups, _pair_shares
from synth.run import Run
from synth.schema import Schema
from synth.settings import Settings
from tests.benchmarks.common import report

RECORDS = (1, 2, 3, 5)
RELEASES = 5
_TEST_SHARE = 0.25


def main() -> None:
    """Five releases for each number of records; print, write."""
    from dags import playground

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        playground.enter(Path(folder))
        table = pd.read_csv(Path(folder) / "data" / "rand_hie.csv")
        people = np.random.default_rng(7).permutation(table["zper"].unique())
        tried_on = table["zper"].isin(people[: int(_TEST_SHARE * len(people))])
        table[~tried_on].to_csv(Path(folder) / "data" / "rand_hie.csv", index=False)
        base = load_contract(playground.CONTRACT)
        for records in RECORDS:
            for release in range(RELEASES):
                with _run(base, records, f"{records}-{release}", Path(folder)) as run:
                    rows.append({"max_records": records, "release": release, **_tried(run, table[tried_on])})
    report("records", "RAND HIE panel: at most k records a person, tried on the rows of other people", rows)
    print(pd.DataFrame(rows).groupby("max_records").agg(["mean", "std"]).drop(columns="release").round(4).T.to_string())


@contextmanager
def _run(base: Contract, records: int, run_id: str, folder: Path) -> Iterator[Run]:
    """A published run, under a ledger of its own."""
    from dags import playground

    document = base.document()
    document["privacy"]["max_records"] = records
    document["quality"] = {}
    home = folder / run_id
    settings = Settings(f"sqlite:///{home / 'ledger.db'}", home / "runs", home / "keys")
    with Ledger.open(settings.ledger_url) as ledger:
        register(ledger, settings, load_policy(playground.POLICY), by="officer")
    os.environ["SLUICE_DEMO_BUCKET"] = str(home / "bucket")
    with Run(contract_from_document(document), run_id, settings) as run:
        for step in steps.STEPS:
            step(run)
        yield run


def _tried(run: Run, others: pd.DataFrame) -> dict[str, Any]:
    schema = run.schema
    test = schema.parse(pa.Table.from_pandas(others, preserve_index=False))
    codes = schema.encode(test)
    labels = codes[:, schema.target_index]
    model = run.method.restore(run.workspace.read_tensors("dp/model.safetensors"), run.contract, schema)
    assert isinstance(model, DpdsynModel)
    frame = next(model.frames(run.contract.rows, 1))
    parsed = schema.parse(pa.Table.from_pandas(frame, preserve_index=False))
    released = schema.encode(parsed)
    boosting, logistic = train_learners(schema, parsed, released, schema.target)
    noisy = run.workspace.read_arrays("dp/marginals.npz")["counts"]
    counted = float(np.mean([column.sum() for column in schema.split_by_column(noisy)]))
    return {
        "records_counted": counted,
        "sigma_per_record": run.plan.counts("marginals").sigma / counted,
        "noise_multiplier": run.plan["label_model"].event.noise_multiplier,  # type: ignore[union-attr]
        "label_model_accuracy": accuracy_score(labels, model.predict(codes)),
        "label_model_auc": roc_auc_score(labels, model.probabilities(codes)[:, 1]),
        "boosting_auc": roc_auc_score(labels, boosting.predict_proba(features(schema, test, schema.target))[:, 1]),  # type: ignore[attr-defined]
        "logistic_auc": roc_auc_score(labels, logistic.predict_proba(features(schema, test, schema.target))[:, 1]),  # type: ignore[attr-defined]
        "one_way_distance": float(np.mean(_one_way(schema, codes, released))),
        "two_way_distance": float(np.mean(_two_way(schema, codes, released, model))),
    }


def _one_way(schema: Schema, real: Any, released: Any) -> list[float]:
    """Total variation distance of each column's codes."""
    return [
        0.5 * np.abs(_shares(real[:, i], column.size) - _shares(released[:, i], column.size)).sum()
        for i, column in enumerate(schema.columns)
    ]


def _shares(codes: Any, size: int) -> Any:
    return np.bincount(codes, minlength=size) / len(codes)


def _two_way(schema: Schema, real: Any, released: Any, model: DpdsynModel) -> list[float]:
    """Of each pair of columns, their codes grouped as the gate does."""
    groups = [_groups(distribution) for distribution in model.distributions]
    pairs = (_pair_shares(_grouped(codes, groups), groups) for codes in (real, released))
    return [0.5 * float(np.abs(a - b).sum()) for a, b in zip(*pairs, strict=True)]


if __name__ == "__main__":
    main()
