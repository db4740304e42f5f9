"""Each declared constraint as a rule on frames: which rows break it, and what can simply be computed.

The same rules keep constraints in drawn rows and look for broken ones in published rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.constraints.values import Mask, Numbers, Texts, numbers, with_numbers, with_texts, without
from synth.contract.constraint_faults import domain_of
from synth.contract.constraints import (
    Combinations,
    Constraint,
    Functional,
    Inequality,
    NonNegative,
    Rounding,
    StructuralNull,
    text_of,
)
from synth.contract.edges import Edge, edges_of
from synth.contract.spacing import bounds_of, down, is_ordered, number_of, step_of, up

_CLOSE = 1e-9  # relative: sums and multiples in floating point
Columns = Mapping[str, Any]


class Rule(Protocol):
    """One constraint."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it is about."""
        ...

    def broken(self, frame: pd.DataFrame) -> Mask:
        """The rows that break it. Shape (rows,)."""
        ...


def rule_of(constraint: Constraint, columns: Columns) -> Rule:
    """The rule of a constraint.

    :param columns: as the contract declares them, or anything with the same attributes, by name.
    """
    if isinstance(constraint, Inequality | NonNegative):
        return OrderRule(edges_of(constraint, columns))
    if isinstance(constraint, Combinations):
        return CombinationRule.of(constraint, columns)
    if isinstance(constraint, Functional):
        return FunctionRule(constraint, columns[constraint.column], columns)
    if isinstance(constraint, StructuralNull):
        return NullRule(constraint)
    return MultipleRule(constraint, columns[constraint.column])


@dataclass(frozen=True)
class OrderRule:
    """Inequalities; the edges of one constraint."""

    edges: tuple[Edge, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Sides and conditions."""
        sides = [name for edge in self.edges for name in edge.columns]
        return tuple(dict.fromkeys([*sides, *(edge.where[0] for edge in self.edges if edge.where)]))

    def broken(self, frame: pd.DataFrame) -> Mask:
        """The rows with the lower side above the higher."""
        broken = np.zeros(len(frame), np.bool_)
        for edge in self.edges:
            low, high = side(edge.low, frame), side(edge.high, frame)
            broken |= applies(edge, frame) & ((low >= high) if edge.strict else (low > high))
        return broken


def side(given: str | float, frame: pd.DataFrame) -> Numbers:
    """One side of an edge as numbers."""
    return numbers(frame[given]) if isinstance(given, str) else np.full(len(frame), float(given))


def applies(edge: Edge, frame: pd.DataFrame) -> Mask:
    """The rows that an edge is about."""
    if edge.where is None:
        return np.ones(len(frame), np.bool_)
    return Texts.of(frame[edge.where[0]]).among([text_of(value) for value in edge.where[1]])


@dataclass(frozen=True)
class CombinationRule:
    """Which values occur together.

    :ivar domains: the texts of each column.
    :ivar allowed: their places in those, one combination a row; shape (combinations, columns).
    """

    columns: tuple[str, ...]
    domains: tuple[tuple[str, ...], ...]
    allowed: npt.NDArray[np.int64]

    @classmethod
    def of(cls, constraint: Combinations, columns: Columns) -> CombinationRule:
        """All that is allowed, or all that is not forbidden."""
        domains = tuple(tuple(domain_of(columns[name]) or ()) for name in constraint.columns)
        listed = [tuple(text_of(value) for value in row) for row in constraint.tuples]
        rows = dict.fromkeys(listed)
        if constraint.forbidden is not None:
            rows = dict.fromkeys(row for row in product(*domains) if row not in rows)
        places = [[domain.index(text) for text, domain in zip(row, domains, strict=True)] for row in rows]
        return cls(constraint.columns, domains, np.array(places, np.int64))

    @cached_property
    def _keys(self) -> npt.NDArray[np.int64]:
        return np.sort(self._key(self.allowed))

    def _key(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        key = np.zeros(len(places), np.int64)
        for column, domain in enumerate(self.domains):
            key = key * len(domain) + places[:, column]
        return key

    def places(self, frame: pd.DataFrame) -> npt.NDArray[np.int64]:
        """The places of each row's values in the domains, -1 for null. Shape (rows, columns)."""
        found = [
            Texts.of(frame[name]).places_in(domain) for name, domain in zip(self.columns, self.domains, strict=True)
        ]
        return np.column_stack(found)

    def broken(self, frame: pd.DataFrame) -> Mask:
        """The rows whose values do not occur together."""
        places = self.places(frame)
        present = np.asarray((places >= 0).all(axis=1))
        keys = self._key(np.maximum(places, 0))
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return present & (self._keys[found] != keys)


@dataclass(frozen=True)
class FunctionRule:
    """A column that follows from others."""

    constraint: Functional
    output: Any
    all_columns: Columns

    @property
    def columns(self) -> tuple[str, ...]:
        """What follows first, then what it follows from."""
        return self.constraint.columns

    def broken(self, frame: pd.DataFrame) -> Mask:
        """The rows where something else stands, or where what would follow is outside of the domain."""
        given = frame[self.constraint.column]
        if is_ordered(self.output):
            wanted, there = self._numbers(frame), numbers(given)
            low, high = bounds_of(self.output)
            off = np.abs(wanted - there) > _CLOSE * np.maximum(1, np.abs(wanted))
            return (off & ~np.isnan(wanted) & ~np.isnan(there)) | (wanted < low) | (wanted > high)
        domain = domain_of(self.output) or []
        wanted_places, places = self._places(frame, domain), Texts.of(given).places_in(domain)
        return np.asarray((wanted_places >= 0) & (places >= 0) & (wanted_places != places))

    def computed(self, frame: pd.DataFrame) -> pd.Series:
        """The column as it follows; kept in the domain, where rows that leave it are broken still."""
        series = frame[self.constraint.column]
        if is_ordered(self.output):
            wanted = np.clip(self._numbers(frame), *bounds_of(self.output))
            return with_numbers(series, wanted, getattr(self.output, "decimals", None))
        domain = domain_of(self.output) or []
        return with_texts(series, self._places(frame, domain), domain)

    def _numbers(self, frame: pd.DataFrame) -> Numbers:
        if self.constraint.mapping is None:
            total = np.full(len(frame), self.constraint.constant)
            for name, factor in (self.constraint.formula or {}).items():
                total = total + factor * numbers(frame[name])
            step = step_of(self.output)
            if step is None:
                return total
            return np.asarray(np.round(total, getattr(self.output, "decimals", None) or 0))
        texts = Texts.of(frame[self.constraint.of or ""])
        values = [self.constraint.mapping.get(text) for text in texts.distinct]
        table: Numbers = np.array([*(np.nan if value is None else number_of(value) for value in values), np.nan])
        return np.asarray(table[texts.positions])

    def _places(self, frame: pd.DataFrame, domain: Sequence[str]) -> npt.NDArray[np.int64]:
        texts = Texts.of(frame[self.constraint.of or ""])
        values = [(self.constraint.mapping or {}).get(text) for text in texts.distinct]
        table = np.array([*(-1 if value is None else domain.index(text_of(value)) for value in values), -1], np.int64)
        return np.asarray(table[texts.positions])


@dataclass(frozen=True)
class NullRule:
    """A column that is null exactly where another has some values."""

    constraint: StructuralNull

    @property
    def columns(self) -> tuple[str, ...]:
        """The column, then the one that decides."""
        return self.constraint.columns

    def wanted(self, frame: pd.DataFrame) -> Mask:
        """The rows in which the column is to be null."""
        ((name, values),) = self.constraint.exactly_where.items()
        return Texts.of(frame[name]).among([text_of(value) for value in values])

    def broken(self, frame: pd.DataFrame) -> Mask:
        """The rows with null where none belongs, or none where it does."""
        return self.wanted(frame) != frame[self.constraint.column].isna().to_numpy()

    def computed(self, frame: pd.DataFrame) -> pd.Series:
        """The column with null wherever it belongs."""
        return without(frame[self.constraint.column], self.wanted(frame))


@dataclass(frozen=True)
class MultipleRule:
    """A column of multiples of a number."""

    constraint: Rounding
    output: Any

    @property
    def columns(self) -> tuple[str, ...]:
        """The column."""
        return self.constraint.columns

    def broken(self, frame: pd.DataFrame) -> Mask:
        """The rows whose value is no multiple."""
        places = numbers(frame[self.constraint.column]) / self.constraint.multiple_of
        return np.asarray(np.abs(places - np.round(places)) > _CLOSE * np.maximum(1, np.abs(places)))

    def computed(self, frame: pd.DataFrame) -> pd.Series:
        """The column with the nearest multiple inside its bounds."""
        step, (low, high) = self.constraint.multiple_of, bounds_of(self.output)
        series = frame[self.constraint.column]
        nearest = np.round(numbers(series) / step) * step
        return with_numbers(series, np.clip(nearest, up(low, step), down(high, step)), decimals_of(self.output, step))


def decimals_of(column: Any, step: float | None) -> int | None:
    """Decimals that take the rest of floating point off a multiple."""
    decimals: int | None = getattr(column, "decimals", None)
    if decimals is None and step is not None:
        return next((places for places in range(13) if abs(round(step, places) - step) < _CLOSE * step), None)
    return decimals
