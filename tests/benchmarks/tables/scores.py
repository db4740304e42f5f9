"""How a release is scored against real rows, whichever method made it.

*Utility*: models trained on the release alone, tried on the real test file, for the contract's target and for two
targets that it does not name. *Fidelity*: total variation distance to the real training file, the mean over all
columns, all pairs and 100 random triples; numeric columns with more than 32 values are cut at 32 quantiles of the
training file, so that what counts is where rows lie and not how a method cuts its columns. Everything here looks at
real rows for free: none of it may reach a release.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from synth.quality.learners import features
from synth.schema import Codes, Schema
from tests.benchmarks.tables.data import BenchTable

_QUANTILES = 32
_TRIPLES = 100
_DENSE = 4_000_000  # cells up to which a table is counted without sorting

Scores = dict[str, float | None]


def utility(table: BenchTable, release: pd.DataFrame) -> Scores:
    """What three kinds of model learn from a release, and boosting for the second targets."""
    scores: Scores = {}
    for name in ("hgb", "logistic", "mlp"):
        scores |= {f"{name}_{score}": value for score, value in _tried(name, table.schema, release, table.test).items()}
    for number, target in enumerate(table.second_targets, start=1):
        schema = replace(table.schema, targets=(target,))
        scores[f"second{number}_auc"] = _tried("hgb", schema, release, table.test)["auc"]
    return scores


def label_scores(labels: Codes, probabilities: npt.NDArray[np.float64], classes: Sequence[int]) -> Scores:
    """Accuracy, balanced accuracy, macro F1 and AUC (one against the rest where there are more than two classes).

    :param probabilities: shape (rows, len(classes)); a class that a model never saw has none.
    """
    known = np.unique(labels)
    full = np.zeros((len(labels), int(max(known.max(), *classes)) + 1))
    full[:, list(classes)] = probabilities
    predicted = full.argmax(axis=1)
    auc: float | None = None
    if len(known) == 2:
        auc = float(roc_auc_score(labels == known[1], full[:, known[1]]))
    elif len(known) > 2:
        auc = float(np.mean([roc_auc_score(labels == label, full[:, label]) for label in known]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is never predicted
        return {
            "accuracy": float(accuracy_score(labels, predicted)),
            "auc": auc,
            "balanced_accuracy": float(balanced_accuracy_score(labels, predicted)),
            "macro_f1": float(f1_score(labels, predicted, average="macro")),
        }


def _tried(name: str, schema: Schema, release: pd.DataFrame, test: pd.DataFrame) -> Scores:
    inputs, labels = _labelled(schema, release)
    inputs[:, np.isnan(inputs).all(axis=0)] = 0.0  # boosting cannot bin a column that a release leaves empty
    tried_on, true = _labelled(schema, test)
    classes = np.unique(labels)
    if len(classes) < 2:
        return label_scores(true, np.ones((len(true), 1)), [int(c) for c in classes] or [0])
    # One thread: on tables of this size more of them wait for each other longer than they work.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # fifteen epochs are not convergence
        model = _model(name, schema).fit(inputs, labels)
        return label_scores(true, model.predict_proba(tried_on), [int(c) for c in model.classes_])


def _labelled(schema: Schema, parsed: pd.DataFrame) -> tuple[npt.NDArray[np.float64], Codes]:
    """Features and labels of the rows that have a label."""
    target = schema[schema.target]
    labels = target.encode(parsed[target.name].to_numpy())
    known = labels != target.null_code
    return features(schema, parsed, schema.target)[known], labels[known]


def _model(name: str, schema: Schema) -> Any:
    categorical = [i for i, column in enumerate(schema.without(schema.target)) if not column.is_numeric]
    if name == "hgb":
        return HistGradientBoostingClassifier(
            max_iter=200, categorical_features=categorical, early_stopping=False, random_state=0
        )
    numeric = [i for i, column in enumerate(schema.without(schema.target)) if column.is_numeric]
    inputs = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categorical),
            ("numbers", make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numeric),
        ],
        sparse_threshold=0,
    )
    if name == "logistic":
        return make_pipeline(inputs, LogisticRegression(C=1.0, max_iter=300))
    return make_pipeline(inputs, MLPClassifier((64, 32), max_iter=15, random_state=0))


class Fidelity:
    """Distances of releases to the real training file of one table."""

    def __init__(self, table: BenchTable) -> None:
        self._schema = table.schema
        self._edges = {column.name: _edges(table.train[column.name]) for column in self._schema.columns
                       if column.is_numeric}  # fmt: skip
        self._real = self._native(table.train)
        self._real_codes = self._schema.encode(table.train)
        triples = list(combinations(range(len(self._schema.columns)), 3))
        chosen = np.random.default_rng(0).choice(len(triples), min(_TRIPLES, len(triples)), replace=False)
        self._triples = [triples[i] for i in chosen]

    def of(self, release: pd.DataFrame) -> Scores:
        """One-, two- and three-way distance of native values, and the last two of the shared codes."""
        native = self._native(release)
        codes = self._schema.encode(release)
        columns = len(self._schema.columns)
        pairs = list(combinations(range(columns), 2))
        return {
            "tvd1": _mean_distance(self._real, native, [(i,) for i in range(columns)]),
            "tvd2": _mean_distance(self._real, native, pairs),
            "tvd3": _mean_distance(self._real, native, self._triples),
            "tvd2_codes": _mean_distance(self._real_codes, codes, pairs),
            "tvd3_codes": _mean_distance(self._real_codes, codes, self._triples),
        }

    def _native(self, parsed: pd.DataFrame) -> Codes:
        coded = []
        for column in self._schema.columns:
            values = parsed[column.name].to_numpy()
            if column.is_numeric:
                edges = self._edges[column.name]
                cells = np.searchsorted(edges, values, side="right")
                coded.append(np.where(np.isnan(values), len(edges) + 1, cells))
            else:
                coded.append(column.encode(values))
        return np.column_stack(coded).astype(np.int32)


def _edges(values: pd.Series) -> npt.NDArray[np.float64]:
    """Where a numeric column is cut: at each of a few values, or at quantiles."""
    known = values.dropna().to_numpy(np.float64)
    distinct = np.unique(known)
    if len(distinct) <= _QUANTILES:
        return distinct
    return np.unique(np.quantile(known, np.linspace(0, 1, _QUANTILES + 1)[1:-1]))


def _mean_distance(real: Codes, release: Codes, sets: Sequence[tuple[int, ...]]) -> float:
    sizes = np.maximum(real.max(axis=0), release.max(axis=0)).astype(np.int64) + 1
    return float(np.mean([_distance(real, release, sizes, columns) for columns in sets]))


def _distance(real: Codes, release: Codes, sizes: npt.NDArray[np.int64], columns: tuple[int, ...]) -> float:
    cells = int(np.prod([sizes[i] for i in columns]))
    both = []
    for codes in (real, release):
        joint = np.zeros(len(codes), np.int64)
        for i in columns:
            joint = joint * sizes[i] + codes[:, i]
        both.append(joint)
    if cells > _DENSE:
        _, inverse = np.unique(np.concatenate(both), return_inverse=True)
        both = [inverse[: len(real)], inverse[len(real) :]]
        cells = int(inverse.max()) + 1
    a, b = (np.bincount(joint, minlength=cells) / len(joint) for joint in both)
    return 0.5 * float(np.abs(a - b).sum())
