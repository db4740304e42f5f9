"""Bringing rows to keep all rules at once: the nearest allowed values, column by column.

It is the last resort for rows that drawing again did not mend, so it is plain rather than faithful. Values that are
missing come from rows that keep the rules; of combinations that are equally near, the ones that are frequent there are
frequent here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.constraints.rules import (
    Columns,
    CombinationRule,
    FunctionRule,
    MultipleRule,
    NullRule,
    OrderRule,
    Rule,
    applies,
    decimals_of,
    rule_of,
)
from synth.constraints.values import Mask, Numbers, numbers, put, with_numbers, with_texts
from synth.contract.constraint_faults import domain_of
from synth.contract.constraints import Constraint
from synth.contract.edges import Edge, in_order, steps_of
from synth.contract.spacing import bounds_of, down, is_ordered, up

_ROUNDS = 4  # one repair may break another rule


@dataclass(frozen=True)
class Rules:
    """All constraints of a contract.

    :ivar columns: as the contract declares them, by name.
    """

    constraints: tuple[Constraint, ...] = ()
    columns: Columns | None = None

    def __bool__(self) -> bool:
        return bool(self.constraints)

    @cached_property
    def each(self) -> tuple[Rule, ...]:
        """The rule of each constraint, in their order."""
        return tuple(rule_of(constraint, self.columns or {}) for constraint in self.constraints)

    @cached_property
    def touched(self) -> tuple[str, ...]:
        """Columns that keeping the rules may change."""
        return tuple(dict.fromkeys(name for rule in self.each for name in rule.columns))

    @cached_property
    def conditions(self) -> frozenset[str]:
        """Columns whose values decide in which rows a rule is about something."""
        of_orders = [rule for rule in self.each if isinstance(rule, OrderRule)]
        of_nulls = [rule for rule in self.each if isinstance(rule, NullRule)]
        edges = [edge for rule in of_orders for edge in rule.edges]
        return frozenset([*(e.where[0] for e in edges if e.where), *(rule.columns[1] for rule in of_nulls)])

    @cached_property
    def compared(self) -> frozenset[str]:
        """Columns that inequalities compare."""
        return frozenset(name for edge in self._edges for name in edge.columns)

    def broken(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """For each rule the rows that break it. Shape (rules, rows)."""
        if not self.each:
            return np.zeros((0, len(frame)), np.bool_)
        return np.stack([rule.broken(frame) for rule in self.each])

    def computed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with everything in it that follows from other columns: multiples, functions, structural nulls."""
        for rule in self._computable:
            frame = frame.assign(**{rule.constraint.column: rule.computed(frame)})
        return frame

    @cached_property
    def _computable(self) -> list[MultipleRule | FunctionRule | NullRule]:
        """In the order in which they follow from each other."""
        multiples = [rule for rule in self.each if isinstance(rule, MultipleRule)]
        nulls = [rule for rule in self.each if isinstance(rule, NullRule)]
        functions = {rule.constraint.column: rule for rule in self.each if isinstance(rule, FunctionRule)}
        order = TopologicalSorter({name: rule.constraint.sources for name, rule in functions.items()}).static_order()
        early = [rule for rule in nulls if rule.constraint.column not in functions]
        following = [functions[name] for name in order if name in functions]
        return [*multiples, *early, *following, *nulls]

    def repaired(self, frame: pd.DataFrame, pool: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
        """The rows brought to keep the rules; a few may still break one where rules stand in each other's way.

        :param pool: rows of the same model that keep them.
        """
        for _ in range(_ROUNDS):
            for rule in self.each:
                if isinstance(rule, NullRule):
                    frame = self._filled(frame, rule, pool, generator)
                elif isinstance(rule, CombinationRule):
                    frame = _nearest_combinations(frame, rule, pool, generator)
            frame = self.computed(self._ordered(frame, generator))
            if not self.broken(frame).any():
                break
        return frame

    def _filled(
        self, frame: pd.DataFrame, rule: NullRule, pool: pd.DataFrame, generator: np.random.Generator
    ) -> pd.DataFrame:
        """With a value wherever null does not belong: of rows of the pool, or else the first of the domain."""
        name = rule.constraint.column
        series, column = frame[name], (self.columns or {})[name]
        empty = np.flatnonzero(series.isna().to_numpy() & ~rule.wanted(frame))
        if not len(empty):
            return frame
        known = pool[name].dropna()
        if len(known):
            given = known.iloc[generator.integers(0, len(known), len(empty))]
        elif is_ordered(column):
            given = with_numbers(series.iloc[empty], np.full(len(empty), bounds_of(column)[0]))
        else:
            given = with_texts(series.iloc[empty], np.zeros(len(empty), np.int64), domain_of(column) or [])
        return frame.assign(**{name: put(series.to_frame(), empty, given.astype(series.dtype).to_frame())[name].array})

    @cached_property
    def _edges(self) -> list[Edge]:
        return in_order([edge for rule in self.each if isinstance(rule, OrderRule) for edge in rule.edges])

    def _ordered(self, frame: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
        """With numbers in order: bounds are carried along the inequalities, then values moved between them.

        In every second row, at random, from below upwards, in the others from above downwards.
        """
        if not self._edges or not self.columns:
            return frame
        steps = steps_of(self.constraints, self.columns)
        follows = {rule.constraint.column for rule in self.each if isinstance(rule, FunctionRule)}
        names = list(dict.fromkeys(name for edge in self._edges for name in edge.columns))
        values = {name: numbers(frame[name]) for name in names}
        active = [applies(edge, frame) for edge in self._edges]
        low, high = {}, {}
        for name in names:
            first, last = bounds_of(self.columns[name])
            fixed = np.isnan(values[name]) | (name in follows)  # null moves nothing
            low[name] = np.where(fixed, values[name], up(first, steps[name]))
            high[name] = np.where(fixed, values[name], down(last, steps[name]))
        self._carry(low, high, active, steps, follows)
        moved = {name: np.clip(values[name], low[name], high[name]) for name in names}
        rising, falling = dict(moved), dict(moved)
        self._carry(rising, {}, active, steps, follows)
        self._carry({}, falling, active, steps, follows)
        upwards = generator.random(len(frame)) < 0.5
        changed = {}
        for name in names:
            if name not in follows:
                wanted = np.where(upwards, rising[name], falling[name])
                wanted = np.where(wanted == values[name], values[name], wanted)
                changed[name] = with_numbers(frame[name], wanted, decimals_of(self.columns[name], steps[name]))
        return frame.assign(**changed)

    def _carry(
        self,
        low: dict[str, Numbers],
        high: dict[str, Numbers],
        active: Sequence[Mask],
        steps: dict[str, float | None],
        fixed: set[str],
    ) -> None:
        """Raise what is to be above something, and lower what is to be below, in place; null moves nothing."""
        for edge, where in zip(self._edges, active, strict=True):
            if low and isinstance(edge.high, str) and edge.high not in fixed:
                below = low[edge.low] if isinstance(edge.low, str) else edge.low
                least = up(below, steps[edge.high], edge.strict)
                low[edge.high] = np.where(where & (least > low[edge.high]), least, low[edge.high])
        for edge, where in zip(reversed(self._edges), reversed(active), strict=True):
            if high and isinstance(edge.low, str) and edge.low not in fixed:
                above = high[edge.high] if isinstance(edge.high, str) else edge.high
                most = down(above, steps[edge.low], edge.strict)
                high[edge.low] = np.where(where & (most < high[edge.low]), most, high[edge.low])


def _nearest_combinations(
    frame: pd.DataFrame, rule: CombinationRule, pool: pd.DataFrame, generator: np.random.Generator
) -> pd.DataFrame:
    """With a combination that is allowed and differs in as few columns as can be."""
    rows = np.flatnonzero(rule.broken(frame))
    if not len(rows):
        return frame
    places = rule.places(frame)
    frequent = _counts(rule, pool) + 0.5
    distinct, of_row = np.unique(places[rows], axis=0, return_inverse=True)
    for i, combination in enumerate(distinct):
        agreeing = (rule.allowed == combination).sum(axis=1)
        nearest = np.flatnonzero(agreeing == agreeing.max())
        mine = rows[of_row.ravel() == i]
        share = frequent[nearest] / frequent[nearest].sum()
        places[mine] = rule.allowed[generator.choice(nearest, len(mine), p=share)]
    changed = {
        name: with_texts(frame[name], places[:, column], rule.domains[column])
        for column, name in enumerate(rule.columns)
    }
    return frame.assign(**changed)


def _counts(rule: CombinationRule, pool: pd.DataFrame) -> Numbers:
    """How often each allowed combination is in the pool."""
    if not len(pool):
        return np.zeros(len(rule.allowed))
    together = np.vstack([rule.allowed, rule.places(pool)])
    same, counts = np.unique(together, axis=0, return_inverse=True, return_counts=True)[1:]
    return np.asarray(counts[same.ravel()[: len(rule.allowed)]] - 1.0)
