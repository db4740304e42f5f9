"""Records of units, as values: what a mechanism works on once it has opened them.

A unit, with all of its records, is in one of two branches: *train* or *holdout*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.schema import Codes

TRAIN, HOLDOUT = "train", "holdout"

Owners = npt.NDArray[np.int64]


def withheld(records: object) -> str:
    """What a private value shows of itself."""
    return f"<private {type(records).__name__}>"


@dataclass(frozen=True, repr=False)
class Ownership:
    """Private. Which unit each row belongs to; the rows of a unit stand together.

    :ivar owners: shape (rows,): 0 for the rows of the first unit, 1 for those of the next.
    """

    owners: Owners
    __repr__ = withheld

    @property
    def units(self) -> int:
        """How many units there are."""
        return int(self.owners[-1]) + 1 if len(self.owners) else 0

    @cached_property
    def _starts(self) -> Owners:
        """Where the rows of each unit start, and where the last end. Shape (units + 1,)."""
        return np.searchsorted(self.owners, np.arange(self.units + 1))

    def row_counts(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many rows each of some units has."""
        return self._starts[units + 1] - self._starts[units]

    def rows_of(self, units: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Owners]:
        """The rows of some units, and for each row the position of its unit among them."""
        counts = self.row_counts(units)
        positions = np.repeat(np.arange(len(units)), counts)
        before = np.cumsum(counts) - counts
        return np.arange(counts.sum()) - before[positions] + self._starts[units][positions], positions


@dataclass(frozen=True, repr=False)
class Records:
    """Private. Parsed rows, shape (rows, columns), and the unit of each as in :class:`Ownership`."""

    parsed: pd.DataFrame
    owners: Owners
    __repr__ = withheld

    def encoded(self, encode: Callable[[pd.DataFrame], Codes]) -> CodedRecords:
        """The same records as codes."""
        return CodedRecords(encode(self.parsed), self.owners)


@dataclass(frozen=True, repr=False)
class CodedRecords:
    """Private. Codes, shape (rows, columns), and the unit of each row as in :class:`Ownership`."""

    codes: Codes
    owners: Owners
    __repr__ = withheld

    def where(self, kept: npt.NDArray[np.bool_]) -> CodedRecords:
        """Some of the rows; a unit of which no row is kept is gone. ``kept`` must look at each unit alone."""
        return CodedRecords(self.codes[kept], numbered(self.owners[kept]))


def numbered(owners: Owners) -> Owners:
    """Units of rows that stand together, numbered from 0 in their order."""
    if not len(owners):
        return owners.astype(np.int64)
    return np.concatenate([[0], np.cumsum(owners[1:] != owners[:-1])]).astype(np.int64)
