"""Two models that a consumer would train: gradient boosting and logistic regression, from scikit-learn.

They see parsed values: numbers clamped into their domain (dates are numbers too), categories as codes, of which those
that are ordered are taken for numbers, null as NaN.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.schema import Codes, Schema

_MOST_ROWS = 50_000  # a public cap on training rows: accuracy of both has flattened by then
_WORTH_THREADS = 500_000  # cells of the training table
_MOST_CATEGORIES = 254  # of a categorical feature in scikit-learn's histogram boosting


class Learner(Protocol):
    """A fitted classifier."""

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[Any]: ...


class Constant:
    """What remains where the release holds one label only."""

    def __init__(self, label: int) -> None:
        self._label = label

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """The one label for every row."""
        return np.full(len(features), self._label)


def features(schema: Schema, parsed: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Features of parsed rows, shape (rows, columns without the target); each row's depend on that row alone."""
    columns = []
    for column in schema.features:
        values = parsed[column.name].to_numpy()
        if column.is_numeric:
            columns.append(np.clip(values.astype(np.float64), column.lower[0], column.upper[-1]))
        else:
            columns.append(column.representatives[column.encode(values)])
    return np.column_stack(columns)


def train_learners(schema: Schema, parsed: pd.DataFrame, codes: Codes) -> tuple[Learner, Learner]:
    """Gradient boosting and logistic regression, trained on rows of the release.

    :param parsed: released rows; at most 50,000 are used.
    :param codes: their codes, which hold the labels.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from threadpoolctl import threadpool_limits

    inputs = features(schema, parsed.iloc[:_MOST_ROWS])
    inputs[:, np.isnan(inputs).all(axis=0)] = 0.0  # boosting cannot bin a column that the release leaves empty
    labels = codes[:_MOST_ROWS, schema.target_index]
    if len(np.unique(labels)) < 2:
        constant = Constant(int(labels[0]))
        return constant, constant
    categorical = [i for i, column in enumerate(schema.features) if not column.in_order]
    numeric = [i for i, column in enumerate(schema.features) if column.in_order]
    native = [i for i in categorical if schema.features[i].cells <= _MOST_CATEGORIES]
    boosting = HistGradientBoostingClassifier(categorical_features=native, random_state=0)
    logistic = make_pipeline(
        ColumnTransformer(
            [
                ("categories", OneHotEncoder(handle_unknown="ignore"), categorical),
                ("numbers", make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numeric),
            ]
        ),
        LogisticRegression(max_iter=300),
    )
    # On small tables threads wait for each other longer than they work, many times longer where cores are shared.
    threads = 1 if inputs.size < _WORTH_THREADS else None
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")
        return boosting.fit(inputs, labels), logistic.fit(inputs, labels)
