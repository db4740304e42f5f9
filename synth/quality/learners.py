"""Two models that a consumer would train: gradient boosting and logistic or ridge regression, from scikit-learn.

They see parsed values: numbers clamped into their domain (dates are numbers too), categories as codes, of which those
that are ordered are taken for numbers, null as NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.schema import Codes, ColumnDomain, Schema

_MOST_ROWS = 50_000  # a public cap on training rows: accuracy of both has flattened by then
_WORTH_THREADS = 500_000  # cells of the training table
_MOST_CATEGORIES = 254  # of a categorical feature in scikit-learn's histogram boosting


class Learner(Protocol):
    """A fitted model: of a class's code, or of a number."""

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[Any]: ...


class Constant:
    """What remains where the release holds one label only."""

    def __init__(self, label: float) -> None:
        self._label = label

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """The one label for every row."""
        return np.full(len(features), self._label)


def features(schema: Schema, parsed: pd.DataFrame, target: str) -> npt.NDArray[np.float64]:
    """Features of parsed rows, shape (rows, columns without the target); each row's depend on that row alone."""
    columns = []
    for column in schema.without(target):
        values = parsed[column.name].to_numpy()
        if column.is_numeric:
            columns.append(numbers(column, values))
        else:
            columns.append(column.representatives[column.encode(values)])
    return np.column_stack(columns)


def numbers(column: ColumnDomain, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Parsed values of a numeric column moved into its domain; NaN for null."""
    return np.clip(values.astype(np.float64), column.lower[0], column.upper[-1])


def train_learners(schema: Schema, parsed: pd.DataFrame, codes: Codes, target: str) -> tuple[Learner, Learner]:
    """Gradient boosting and a linear model (logistic or ridge regression), trained on rows of the release.

    Boosting of a number is for the absolute error, which is what the gate measures.

    :param parsed: released rows; at most 50,000 are used.
    :param codes: their codes, which hold the labels.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits

    column, place = schema[target], schema.names.index(target)
    parsed, codes = parsed.iloc[:_MOST_ROWS], codes[:_MOST_ROWS]
    labels = numbers(column, parsed[target].to_numpy()) if column.is_numeric else codes[:, place]
    known = codes[:, place] != column.null_code
    inputs, labels = features(schema, parsed, target)[known], labels[known]
    inputs[:, np.isnan(inputs).all(axis=0)] = 0.0  # boosting cannot bin a column that the release leaves empty
    if len(np.unique(labels)) < 2:
        constant = Constant(labels[0] if len(labels) else column.representatives[0])
        return constant, constant
    others = schema.without(target)
    native = [i for i, other in enumerate(others) if not other.in_order and other.cells <= _MOST_CATEGORIES]
    if column.is_numeric:
        boosting: Any = HistGradientBoostingRegressor(
            loss="absolute_error", categorical_features=native, random_state=0
        )
        linear = _linear(others, Ridge())
    else:
        boosting = HistGradientBoostingClassifier(categorical_features=native, random_state=0)
        linear = _linear(others, LogisticRegression(max_iter=300))
    # On small tables threads wait for each other longer than they work, many times longer where cores are shared.
    threads = 1 if inputs.size < _WORTH_THREADS else None
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")
        return boosting.fit(inputs, labels), linear.fit(inputs, labels)


def _linear(columns: Sequence[ColumnDomain], model: Any) -> Any:
    """A linear model on one-hot categories and standardised numbers."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categorical = [i for i, column in enumerate(columns) if not column.in_order]
    numeric = [i for i, column in enumerate(columns) if column.in_order]
    return make_pipeline(
        ColumnTransformer(
            [
                ("categories", OneHotEncoder(handle_unknown="ignore"), categorical),
                ("numbers", make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numeric),
            ]
        ),
        model,
    )
