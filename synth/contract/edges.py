"""Inequalities as edges between columns, and the bounds that follow from all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from synth.contract.constraints import Constraint, Inequality, NonNegative, Rounding, Value
from synth.contract.spacing import bounds_of, down, number_of, step_of, up


@dataclass(frozen=True)
class Edge:
    """``low <= high``, or ``<`` where strict; either side is a column's name or a number.

    :ivar where: the one column, and its values, that the edge is for; None for every row.
    """

    low: str | float
    high: str | float
    strict: bool
    where: tuple[str, tuple[Value, ...]] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns on its sides."""
        return tuple(side for side in (self.low, self.high) if isinstance(side, str))


def edges_of(constraint: Constraint, columns: Mapping[str, Any]) -> tuple[Edge, ...]:
    """What a constraint says about order; nothing if it is of another kind."""
    if isinstance(constraint, NonNegative):
        return tuple(Edge(0.0, column, False, _where(constraint)) for column in constraint.columns)
    if not isinstance(constraint, Inequality):
        return ()
    left, sign, right = constraint.holds
    sides = [side if side in columns else number_of(side) for side in (left, right)]
    if None in sides:
        raise ValueError("Expected each side of an inequality to be a column, a number or a date.")
    low, high = sides if sign.startswith("<") else reversed(sides)
    return (Edge(low, high, "=" not in sign, _where(constraint)),)  # type: ignore[arg-type]


def _where(constraint: Inequality | NonNegative) -> tuple[str, tuple[Value, ...]] | None:
    return next(iter(constraint.where.items())) if constraint.where else None


def steps_of(constraints: Sequence[Constraint], columns: Mapping[str, Any]) -> dict[str, float | None]:
    """For each ordered column the distance between neighbouring values, declared multiples taken into account."""
    multiples = {c.column: c.multiple_of for c in constraints if isinstance(c, Rounding)}
    return {name: multiples.get(name, step_of(column)) for name, column in columns.items() if _ordered(column)}


def _ordered(column: Any) -> bool:
    return getattr(column, "min", None) is not None and getattr(column, "max", None) is not None


def in_order(edges: Sequence[Edge]) -> list[Edge]:
    """The edges such that one into a column comes before those out of it.

    :raises CycleError: if columns are, in a circle, each below the next; its second argument names them.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for edge in edges:
        if len(edge.columns) == 2:
            sorter.add(edge.columns[1], edge.columns[0])
    place = {column: i for i, column in enumerate(sorter.static_order())}
    return sorted(edges, key=lambda edge: place.get(edge.low, -1) if isinstance(edge.low, str) else -1)


def limits(
    edges: Sequence[Edge], columns: Mapping[str, Any], steps: Mapping[str, float | None]
) -> dict[str, tuple[float, float]]:
    """The lowest and highest value that each column can have where all edges hold; crossed where none can."""
    low, high = {}, {}
    for name in {name for edge in edges for name in edge.columns} | set(steps):
        first, last = bounds_of(columns[name])
        low[name], high[name] = up(first, steps[name]), down(last, steps[name])
    ordered = in_order(edges)
    for edge in ordered:
        if isinstance(edge.high, str):
            below = low[edge.low] if isinstance(edge.low, str) else edge.low
            low[edge.high] = max(low[edge.high], up(below, steps[edge.high], edge.strict))
    for edge in reversed(ordered):
        if isinstance(edge.low, str):
            above = high[edge.high] if isinstance(edge.high, str) else edge.high
            high[edge.low] = min(high[edge.low], down(above, steps[edge.low], edge.strict))
    return {name: (low[name], high[name]) for name in low}
