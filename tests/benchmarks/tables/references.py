"""What a release stands between: the real training rows above, rows without any dependence below."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tests.benchmarks.tables.data import BenchTable
from tests.benchmarks.tables.scores import Fidelity, Scores, label_scores, utility

REAL, FLOOR, MAJORITY = "real rows", "independent columns", "majority"


def real_rows(table: BenchTable, fidelity: Fidelity) -> Scores:
    """The non-private ceiling: models of the real training rows."""
    return {**utility(table, table.train), **fidelity.of(table.train)}


def independent_columns(table: BenchTable, fidelity: Fidelity) -> Scores:
    """The floor: each column of the real rows shuffled by itself."""
    generator = np.random.default_rng(0)
    shuffled = pd.DataFrame({name: generator.permutation(own.to_numpy()) for name, own in table.train.items()})
    return {**utility(table, shuffled), **fidelity.of(shuffled)}


def majority(table: BenchTable, fidelity: Fidelity) -> Scores:
    """The label that most rows have, for every row."""
    target = table.schema[table.schema.target]
    train, test = (target.encode(rows[target.name].to_numpy()) for rows in (table.train, table.test))
    label = int(np.bincount(train[train != target.null_code]).argmax())
    known = test[test != target.null_code]
    scores = label_scores(known, np.ones((len(known), 1)), [label])
    return {f"{model}_{name}": value for model in ("hgb", "logistic", "mlp") for name, value in scores.items()}


REFERENCES = {REAL: real_rows, FLOOR: independent_columns, MAJORITY: majority}
