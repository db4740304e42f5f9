"""What ``measurements.parquet`` of a release says of the rows that it measured: counts, shares and means in intervals.

A release's rows come from a model. Its noisy counts are what the model was made from, so whoever wants a number with an
honest error takes it from them. Reads with pandas and needs nothing private::

    measured = Measurements.read("measurements.parquet")
    measured.share({"sex": "Female", "income": ">50K"})

*About what.* The value in the rows that were counted: the training branch, at most ``max_records`` rows of a unit, each
cell moved into its declared domain. Not the holdout, and not a population that those rows are a sample of.

*Coverage.* At least ``confidence``, for one interval at a time; for several at once give each its part of what may be
missed. A weighted sum of independent discrete Gaussians has tails no heavier than the Gaussian's exponent (Canonne,
Kamath, Steinke, 2020), so nothing is approximated: 95 % are 2.72 standard deviations here, where a normal law would
have 1.96. A share and a mean are the values that the noise cannot refute (Fieller, 1954).

*Cells.* Where inside its cell a value lies was not measured. A mean, and a range that cuts a cell, are bounded by both
ends of the cell: that part of an interval is no noise, and no release of the same grid makes it smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

MEASUREMENTS = "measurements.parquet"
MARGINALS, PAIRS = "marginals", "pairs"
# What a cell holds; of dates the bounds are seconds since 1970-01-01 in UTC.
RANGE, DATES, CATEGORY, OTHERS, NULL = "range", "dates", "category", "others", "null"
NO_CELL = -1

_Mask = npt.NDArray[np.bool_]
_Ends = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value of the measured rows.

    :ivar low: lower end.
    :ivar high: upper end.
    :ivar estimate_low: the value without allowance for noise, if values lay at the ends of cells that make it least.
    :ivar estimate_high: the same with the ends that make it largest; the two differ by the cells' widths alone.
    :ivar confidence: that ``low`` to ``high`` holds the value, at least.
    """

    low: float
    high: float
    estimate_low: float
    estimate_high: float
    confidence: float


@dataclass(frozen=True)
class _Sum:
    """Noisy cells added up: their sum, how many they are, and the noise of one."""

    value: float
    cells: int
    noise_scale: float


class Measurements:
    """The noisy counts of one release.

    :param frame: as ``pandas.read_parquet`` reads the file.

    Each *where* is a condition on one column, or on two if the release measured pairs: a mapping from column to a
    category, a truth value, one number, None for null, or a range (low, high) of which the upper end is no part. Dates
    are given as ISO 8601 text, ``datetime`` or pandas' ``Timestamp``, in UTC.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        marginals = frame[frame["mechanism"] == MARGINALS]
        pairs = frame[frame["mechanism"] == PAIRS]
        self._columns = dict(iter(marginals.groupby(marginals["column"].astype(str), sort=False)))
        names = [pairs["column"].astype(str), pairs["column_2"].astype(str)]
        self._pairs = dict(iter(pairs.groupby(names, sort=False))) if len(pairs) else {}
        self._scale = float(marginals["noise_scale"].iloc[0])
        # Every column's cells add up to the same number of rows, with as much noise as there are cells.
        self._precision = sum(1 / len(part) for part in self._columns.values())

    @classmethod
    def read(cls, file: str | Path | IO[bytes]) -> Measurements:
        """From the file in the release folder."""
        return cls(pd.read_parquet(file))

    @property
    def columns(self) -> tuple[str, ...]:
        """The measured columns."""
        return tuple(self._columns)

    def rows(self, confidence: float = 0.95) -> Interval:
        """How many rows were measured."""
        rows, spread = self._rows(), _factor(confidence) * self._scale / math.sqrt(self._precision)
        return Interval(max(0.0, rows - spread), max(0.0, rows + spread), rows, rows, confidence)

    def count(self, where: Mapping[str, Any], confidence: float = 0.95) -> Interval:
        """How many rows meet a condition."""
        least, most = self._sums(where)
        factor = _factor(confidence)
        low = least.value - factor * least.noise_scale * math.sqrt(least.cells)
        high = most.value + factor * most.noise_scale * math.sqrt(most.cells)
        return Interval(max(0.0, low), max(0.0, high), least.value, most.value, confidence)

    def share(self, where: Mapping[str, Any], confidence: float = 0.95) -> Interval:
        """The share of all rows that meet a condition, those with null among all."""
        least, most = self._sums(where)
        low, high = self._share(least, where, confidence)[0], self._share(most, where, confidence)[1]
        rows = max(1.0, self._rows())
        return Interval(
            low, high, min(max(least.value / rows, 0.0), 1.0), min(max(most.value / rows, 0.0), 1.0), confidence
        )

    def mean(self, column: str, confidence: float = 0.95) -> Interval:
        """The mean of a column of numbers over the rows in which it is not null."""
        part = self._column(column)
        part = part[part["kind"] == RANGE]
        if part.empty:
            raise ValueError(f"Expected a column of numbers, given {column!r}; ask for shares of its cells.")
        counts = part["count"].to_numpy(np.float64)
        bounds = float(part["lower"].min()), float(part["upper"].max())
        ends, estimates = [], []
        for end in ("lower", "upper"):
            values = part[end].to_numpy(np.float64)
            found = _not_refuted(
                counts @ values,
                counts.sum(),
                (values @ values, values.sum(), len(values)),
                _factor(confidence) * self._scale,
            )
            ends.append(tuple(float(np.clip(value, *bounds)) for value in found or bounds))
            estimates.append(float(np.clip(counts @ values / max(1.0, counts.sum()), *bounds)))
        return Interval(ends[0][0], ends[1][1], estimates[0], estimates[1], confidence)

    def _rows(self) -> float:
        return float(sum(part["count"].mean() for part in self._columns.values()) / self._precision)

    def _share(self, part: _Sum, where: Mapping[str, Any], confidence: float) -> tuple[float, float]:
        """The shares that fit: sum - share x rows is noise, whose variance is a square polynomial of the share."""
        variance = self._scale**2 / self._precision
        shared = 0.0  # noise that the sum has in common with the number of rows
        if len(where) == 1:
            shared = variance * part.cells / len(self._column(next(iter(where))))
        terms = part.noise_scale**2 * part.cells, shared, variance
        found = _not_refuted(part.value, self._rows(), terms, _factor(confidence))
        low, high = found or (0.0, 1.0)
        return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)

    def _sums(self, where: Mapping[str, Any]) -> tuple[_Sum, _Sum]:
        """Of the cells that surely meet a condition, and of those that may."""
        for name in where:
            self._column(name)
        if len(where) == 1:
            ((name, wanted),) = where.items()
            part = self._column(name)
            least, most = _chosen(part, "", wanted, name, part)
        elif len(where) == 2:
            names = tuple(name for name in self._columns if name in where)
            if names not in self._pairs:
                raise ValueError("This release measured no pairs of columns; ask for one column.")
            part = self._pairs[names]
            first = _chosen(part, "", where[names[0]], names[0], self._column(names[0]))
            second = _chosen(part, "_2", where[names[1]], names[1], self._column(names[1]))
            least, most = first[0] & second[0], first[1] & second[1]
        else:
            raise ValueError(f"Expected a condition on one column or on two, given {len(where)}.")
        counts, scale = part["count"].to_numpy(np.float64), float(part["noise_scale"].iloc[0])
        least_sum, most_sum = (_Sum(float(counts[cells].sum()), int(cells.sum()), scale) for cells in (least, most))
        return least_sum, most_sum

    def _column(self, name: str) -> pd.DataFrame:
        if name not in self._columns:
            raise ValueError(f"Expected one of the columns {', '.join(self._columns)}, given {name!r}.")
        return self._columns[name]


def _chosen(part: pd.DataFrame, side: str, wanted: Any, name: str, marginal: pd.DataFrame) -> tuple[_Mask, _Mask]:
    """Cells of a table all of whose values meet a condition, and those of which some may."""
    kind = part[f"kind{side}"].astype(str).to_numpy()
    if wanted is None:
        cells = kind == NULL
        if not cells.any():
            raise ValueError(f"Rows with null in {name!r} are left out of pairs; ask for this column alone.")
        return cells, cells
    if marginal["kind"].isin([RANGE, DATES]).any():
        if marginal["kind"].eq(DATES).any():
            wanted = tuple(map(_seconds, wanted)) if isinstance(wanted, tuple | list) else _seconds(wanted)
        lower, upper = part[f"lower{side}"].to_numpy(np.float64), part[f"upper{side}"].to_numpy(np.float64)
        return _in_range(lower, upper, wanted)
    text = str(wanted).lower() if isinstance(wanted, bool | np.bool_) else str(wanted)
    known = marginal[marginal["label"].astype(object) == text]
    if known.empty:
        raise ValueError(f"Expected a declared category of {name!r}, given one that is not.")
    number = "cell" if part is marginal else "group"
    cells = part[f"cell{side}"].to_numpy() == known[number].iloc[0]
    return cells & (kind == CATEGORY), cells


def _in_range(lower: _Ends, upper: _Ends, wanted: Any) -> tuple[_Mask, _Mask]:
    """Cells of numbers inside a range, and those that it meets; both false where an end is NaN."""
    open_above = (upper > lower) & np.isin(upper, lower)  # where the next cell starts, a value is in that one
    if not isinstance(wanted, tuple | list):
        reaches = (upper > wanted) | ((upper == wanted) & ~open_above)
        return (lower == wanted) & (upper == wanted), (lower <= wanted) & reaches
    low, high = wanted
    below = (upper < high) | ((upper == high) & open_above)
    above = (upper > low) | ((upper == low) & ~open_above)
    return (lower >= low) & below, (lower < high) & above


def _seconds(given: Any) -> float:
    """Since 1970-01-01 in UTC."""
    stamp = pd.to_datetime(given, errors="coerce") if isinstance(given, str | date) else pd.NaT
    if not isinstance(stamp, pd.Timestamp):
        raise ValueError(f"Expected a date such as '2026-07-01', given {given!r}.")
    stamp = stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo is not None else stamp
    return (stamp - pd.Timestamp(0)).total_seconds()


def _factor(confidence: float) -> float:
    """Standard deviations of a two-sided interval by the sub-Gaussian bound."""
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1, given {confidence}.")
    return math.sqrt(2 * math.log(2 / (1 - confidence)))


def _not_refuted(
    numerator: float, denominator: float, variance: tuple[float, float, float], factor: float
) -> tuple[float, float] | None:
    """The ratios r for which numerator - r denominator is within ``factor`` standard deviations of its noise.

    :param variance: (a, b, c) of the noise's variance a - 2 b r + c r².
    :returns: None where the denominator could as well be zero, so that no ratio is refuted.
    """
    a, b, c = (factor**2 * term for term in variance)
    square, half, constant = denominator**2 - c, numerator * denominator - b, numerator**2 - a
    if denominator <= 0 or square <= 0:
        return None
    root = math.sqrt(max(0.0, half**2 - square * constant))
    return (half - root) / square, (half + root) / square
