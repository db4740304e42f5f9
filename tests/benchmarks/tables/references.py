"""What a release stands between: the real training rows above, rows without any dependence below."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tests.benchmarks.tables.data import BenchTable
from tests.benchmarks.tables.scores import Fidelity, Scores, label_scores, utility


def references(table: BenchTable, fidelity: Fidelity) -> Iterator[tuple[str, Scores]]:
    """Scores of the real training rows, of each column shuffled by itself, and of the label that most rows have."""
    yield "real rows", {**utility(table, table.train), **fidelity.of(table.train)}
    shuffled = _shuffled(table.train)
    yield "independent columns", {**utility(table, shuffled), **fidelity.of(shuffled)}
    yield "majority", _majority(table)


def _shuffled(rows: pd.DataFrame) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame({name: generator.permutation(column.to_numpy()) for name, column in rows.items()})


def _majority(table: BenchTable) -> Scores:
    target = table.schema[table.schema.target]
    train, test = (target.encode(rows[target.name].to_numpy()) for rows in (table.train, table.test))
    label = int(np.bincount(train[train != target.null_code]).argmax())
    known = test[test != target.null_code]
    scores = label_scores(known, np.ones((len(known), 1)), [label])
    return {f"{model}_{name}": value for model in ("hgb", "logistic", "mlp") for name, value in scores.items()}
