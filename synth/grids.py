"""Public grids of numeric columns: the closed cells that a column's range is cut into, before any data is seen.

*Even* and *signed-log* grids have a given number of cells. A *decimal* grid has a cell for each number of at most two
significant digits and one for each gap between two of them: people write, pay and are paid round numbers, so many
columns have spikes there, which a cell of its own keeps. It follows the range over its decades, all of whole numbers
and the four largest of real ones, and its cells are so fine that what is drawn evenly inside one is hardly off; whoever
measures pairs joins them into coarser groups. A narrow range far from zero is cut by more digits, or else evenly. Dates
are cut by the calendar (:mod:`synth.calendar_grids`), more finely too where decimal grids are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from synth.calendar_grids import MOST_CELLS, calendar_cells
from synth.contract import Contract, DateColumn, DatetimeColumn, IndependentOptions, IntegerColumn, NumberColumn
from synth.contract.columns import RESOLUTIONS
from synth.contract.instants import DAY, seconds_of

Cells = tuple[Sequence[float], Sequence[float]]

_LOG_RANGE = 1_000  # a range this wide is cut on a signed-log grid unless the contract says otherwise
_EXACT_RANGE = 512  # whole numbers that a decimal grid keeps one by one
_DECADES = 4  # of real numbers, from the largest down to the smallest mark
_ENOUGH_MARKS = 32  # where two digits give fewer, in a narrow range far from zero, another digit is used
_MOST_DIGITS = 4


@dataclass(frozen=True)
class Grid:
    """How numeric columns are cut where the contract does not say.

    :ivar bins: cells of an even or a signed-log grid.
    :ivar decimal: whether ``scale: auto`` without ``bins`` is the decimal grid.
    """

    bins: int
    decimal: bool

    @classmethod
    def for_contract(cls, contract: Contract) -> Grid:
        """Few even cells where each is measured by itself in its pairs, the decimal grid where groups are."""
        bins = int(np.clip(contract.privacy.approximate_units // 150, 8, 64))
        return cls(bins, not isinstance(contract.method.options, IndependentOptions))

    def cells(self, column: IntegerColumn | NumberColumn | DateColumn | DatetimeColumn) -> Cells:
        """Lower and upper ends of a column's cells, in order. One cell where the column is a constant."""
        if isinstance(column, DateColumn | DatetimeColumn):
            step = RESOLUTIONS[column.resolution] if isinstance(column, DatetimeColumn) else DAY
            most = column.bins or (MOST_CELLS if self.decimal else self.bins)
            return calendar_cells(seconds_of(column.min), seconds_of(column.max), step, most)
        if column.min == column.max:
            return [float(column.min)], [float(column.max)]
        decimal = column.scale == "decimal" or (self.decimal and column.scale == "auto" and column.bins is None)
        marks = _marks(column) if decimal else []
        if isinstance(column, IntegerColumn):
            if decimal and column.max - column.min + 1 <= _EXACT_RANGE:
                return _each(column)
            return _between_integers(marks) if marks else _integers(column, column.bins or self.bins)
        return _between_numbers(marks) if marks else _numbers(column, column.bins or self.bins)


def _boundaries(column: IntegerColumn | NumberColumn, bins: int) -> npt.NDArray[np.float64]:
    """``bins + 1`` increasing boundaries from min to max, even or signed-log."""
    span = column.max - column.min
    if column.scale == "log" or (column.scale == "auto" and span > _LOG_RANGE):
        unit = max(abs(column.min), abs(column.max)) / 100
        steps = np.linspace(math.asinh(column.min / unit), math.asinh(column.max / unit), bins + 1)
        boundaries = unit * np.sinh(steps)
        boundaries[[0, -1]] = column.min, column.max
        return boundaries
    return np.linspace(column.min, column.max, bins + 1)


def _integers(column: IntegerColumn, bins: int) -> Cells:
    """Cells of whole numbers; zero, where spikes stand, is a cell of its own on a log grid."""
    if column.max - column.min + 1 <= bins:
        return _each(column)
    starts = {float(column.min)} | {float(math.ceil(b)) for b in _boundaries(column, bins)[1:-1]}
    if column.min <= 0 < column.max:
        starts |= {0.0, 1.0}
    lower = sorted(starts)
    return lower, [start - 1 for start in lower[1:]] + [float(column.max)]


def _each(column: IntegerColumn) -> Cells:
    values = [float(value) for value in range(column.min, column.max + 1)]
    return values, values


def _numbers(column: NumberColumn, bins: int) -> Cells:
    """Cells of real numbers; zero, where spikes stand, is a cell of its own."""
    boundaries = [float(boundary) for boundary in _boundaries(column, bins)]
    lower, upper = boundaries[:-1], boundaries[1:]
    if column.min <= 0 <= column.max and column.max > 0:
        after = math.nextafter(0.0, 1.0)
        starts = sorted({*lower, 0.0, after} if column.max > after else {*lower, 0.0})
        upper = [start if start != after else 0.0 for start in starts[1:]] + [column.max]
        lower = starts
    return lower, upper


def _between_integers(marks: Sequence[float]) -> Cells:
    lower, upper = [marks[0]], [marks[0]]
    for before, mark in pairwise(marks):
        if mark - before > 1:
            lower.append(before + 1)
            upper.append(mark - 1)
        lower.append(mark)
        upper.append(mark)
    return lower, upper


def _between_numbers(marks: Sequence[float]) -> Cells:
    """A cell of one number at each mark, and between two marks the open interval, closed at its upper end in name."""
    lower, upper = [marks[0]], [marks[0]]
    for before, mark in pairwise(marks):
        after = math.nextafter(before, math.inf)
        if after < mark:
            lower.append(after)
            upper.append(mark)
        lower.append(mark)
        upper.append(mark)
    return lower, upper


def _marks(column: IntegerColumn | NumberColumn) -> list[float]:
    """Both bounds, zero, and the numbers of few significant digits between: two, or as many as make enough of them.

    None at all where that takes more digits than people round to: a narrow range far from zero.
    """
    smallest, largest = sorted((abs(column.min), abs(column.max)))
    whole = isinstance(column, IntegerColumn)
    around_zero = column.min <= 0 <= column.max
    last = math.floor(math.log10(largest))
    first = 0 if whole else last - _DECADES + 1
    decades = range(first if around_zero else max(first, math.floor(math.log10(smallest))), last + 1)
    for digits in range(2, _MOST_DIGITS + 1):
        leading = range(10 ** (digits - 1), 10**digits)
        sizes = (float(f"{number}e{decade - digits + 1}") for decade in decades for number in leading)
        between = {value for size in sizes for value in (size, -size) if column.min <= value <= column.max}
        ends = {float(column.min), float(column.max)} | ({0.0} if around_zero else set())
        marks = sorted(ends | {value for value in between if not whole or value.is_integer()})
        if len(marks) >= _ENOUGH_MARKS:
            return marks
    return []
