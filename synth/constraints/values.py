"""Columns of native values as numbers or categories, whatever pandas stores them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.contract.constraints import text_of

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """A column as positions in a list of distinct texts, -1 for null.

    :ivar positions: shape (rows,).
    """

    positions: npt.NDArray[np.int64]
    distinct: tuple[str, ...]

    @classmethod
    def of(cls, series: pd.Series) -> Texts:
        """Categories, truth values or whole numbers as texts."""
        if isinstance(series.dtype, pd.CategoricalDtype):
            return cls(series.cat.codes.to_numpy().astype(np.int64), tuple(text_of(c) for c in series.cat.categories))
        positions, values = pd.factorize(series, use_na_sentinel=True)
        return cls(positions.astype(np.int64), tuple(_whole(value) for value in values))

    def places_in(self, known: Sequence[str]) -> npt.NDArray[np.int64]:
        """For each row the place of its text in a list; -1 for null and what is not listed."""
        place = {text: i for i, text in enumerate(known)}
        table = np.array([*(place.get(text, -1) for text in self.distinct), -1], np.int64)
        return np.asarray(table[self.positions])

    def among(self, texts: Sequence[str]) -> Mask:
        """Whether each row's text is one of these; ``null`` stands for null."""
        wanted = np.array([*(text in texts for text in self.distinct), "null" in texts], np.bool_)
        return np.asarray(wanted[self.positions])


def _whole(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return text_of(bool(value) if isinstance(value, np.bool_) else value)


def numbers(series: pd.Series) -> Numbers:
    """Numbers with NaN for null; moments as seconds since 1970, in UTC. Shape (rows,)."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        plain = series.dt.tz_convert("UTC").dt.tz_localize(None) if series.dt.tz is not None else series
        units = plain.to_numpy(dtype="datetime64[us]").astype(np.int64)
        return np.where(series.isna(), np.nan, units / 1e6)
    if series.dtype == object:  # dates of the standard library
        return numbers(pd.to_datetime(series, utc=True))
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def with_numbers(series: pd.Series, values: Numbers, decimals: int | None = None) -> pd.Series:
    """The column with these numbers, in its own dtype; NaN becomes null."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        moments = pd.to_datetime(np.round(values * 1e6), unit="us", utc=True)
        moments = moments if series.dt.tz is not None else moments.tz_localize(None)
        return pd.Series(moments, index=series.index).astype(series.dtype)
    if pd.api.types.is_integer_dtype(series.dtype):
        whole = pd.Series(np.round(np.nan_to_num(values)).astype(np.int64), index=series.index).astype(series.dtype)
        missing = np.isnan(values)
        return whole.mask(missing) if missing.any() else whole
    rounded = values if decimals is None else np.round(values, decimals)
    return pd.Series(rounded, index=series.index).astype(series.dtype)


def with_texts(series: pd.Series, positions: npt.NDArray[np.int64], known: Sequence[str]) -> pd.Series:
    """The column with the categories, or truth values, of these texts, in its own dtype; -1 becomes null.

    :param positions: into ``known``, shape (rows,).
    """
    if isinstance(series.dtype, pd.CategoricalDtype):
        place = {text_of(category): i for i, category in enumerate(series.cat.categories)}
        table = np.array([*(place[text] for text in known), -1], np.int64)
        return pd.Series(pd.Categorical.from_codes(table[positions], dtype=series.dtype), index=series.index)
    if pd.api.types.is_bool_dtype(series.dtype):
        truths = pd.Series(np.array([*(text == "true" for text in known), False])[positions], index=series.index)
        truths = truths.astype(series.dtype)
        return truths.mask(positions < 0) if (positions < 0).any() else truths
    return with_numbers(series, np.array([*(float(text) for text in known), np.nan])[positions])


def differ(series: pd.Series, other: pd.Series) -> Mask:
    """Where two columns of one dtype hold different values; null is null."""
    if series is other:
        return np.zeros(len(series), np.bool_)
    same = (series == other).fillna(False).to_numpy(dtype=np.bool_)
    return ~(same | (series.isna() & other.isna()).to_numpy())


def without(series: pd.Series, missing: Mask) -> pd.Series:
    """The column with null in some rows, in its own dtype."""
    return series.mask(missing) if missing.any() else series


def put(frame: pd.DataFrame, rows: npt.NDArray[np.int64], part: pd.DataFrame) -> pd.DataFrame:
    """The frame with some rows replaced; every column keeps its dtype.

    :param rows: positions, as many as ``part`` has rows.
    """
    if not len(rows):
        return frame
    order = np.arange(len(frame))
    order[rows] = len(frame) + np.arange(len(part))
    return pd.concat([frame, part], ignore_index=True).take(order).reset_index(drop=True)
