"""What is wrong with a contract's constraints, from the contract alone: before any data, in milliseconds.

Contradictions that take several kinds of constraints together show when made-up rows cannot be brought to keep all of
them: see :func:`synth.constraints.witness.require_witness`, which the first step runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from synth.contract.constraints import (
    MOST_COMBINATIONS,
    Combinations,
    Constraint,
    Functional,
    Inequality,
    NonNegative,
    Rounding,
    StructuralNull,
    Value,
    text_of,
)
from synth.contract.edges import Edge, edges_of, in_order, limits, steps_of
from synth.contract.spacing import bounds_of, down, holds_dates, is_ordered, number_of, step_of, up

Found = tuple[str, str, str]  # path, what was given, problem
_Columns = Mapping[str, Any]


def constraint_faults(constraints: Sequence[Constraint], columns: _Columns) -> Iterator[Found]:
    """Every fault; none if each constraint fits the columns and they do not contradict each other."""
    fit = []
    for position, constraint in enumerate(constraints):
        path = f"constraints.{position}"
        unknown = [name for name in _named(constraint, columns) if name not in columns]
        found = [(path, repr(name), f"is not a column of the schema: {', '.join(columns)}") for name in unknown]
        if not found:
            found = [
                (f"{path}{at}", given, problem) for at, given, problem in _OF_KIND[constraint.kind](constraint, columns)
            ]
            found += [(f"{path}{at}", given, problem) for at, given, problem in _condition(constraint, columns)]
        yield from found
        fit += [] if found else [(position, constraint)]
    yield from _repeated(fit)
    yield from _circular(fit)
    yield from _crossed(fit, columns)


def _named(constraint: Constraint, columns: _Columns) -> list[str]:
    """The columns that a constraint names, known or not."""
    names = list(constraint.columns)
    if isinstance(constraint, Inequality):
        names = [name for name in names if name in columns or number_of(name) is None]
    return [*names, *(getattr(constraint, "where", None) or {})]


def _inequality(constraint: Inequality, columns: _Columns) -> Iterator[Found]:
    left, sign, right = constraint.holds
    sides = [side for side in (left, right) if isinstance(side, str) and side in columns]
    if not sides:
        yield ".holds", "", "compares two constants; name a column on one side"
        return
    if left == right:
        yield ".holds", repr(left), "compares a column with itself"
    for side in sides:
        column = columns[side]
        if not is_ordered(column):
            yield ".holds", repr(side), f"is of type {column.type}; accepted: columns of numbers or dates"
            return
        if "=" not in sign and step_of(column) is None:
            yield ".holds", repr(side), f"has no next number for {sign}; give the column decimals, or use {sign}="
    constants = [side for side in (left, right) if side not in columns]
    dates = {holds_dates(columns[side]) for side in sides} | {isinstance(constant, str) for constant in constants}
    if len(dates) > 1:
        yield ".holds", "", "compares a date with a number"


def _non_negative(constraint: NonNegative, columns: _Columns) -> Iterator[Found]:
    for name in constraint.columns:
        if not is_ordered(columns[name]) or holds_dates(columns[name]):
            yield ".columns", repr(name), f"is of type {columns[name].type}; accepted: columns of numbers"


def _combinations(constraint: Combinations, columns: _Columns) -> Iterator[Found]:
    field = ".allowed" if constraint.allowed is not None else ".forbidden"
    for name in constraint.columns:
        if domain_of(columns[name]) is None:
            yield ".columns", repr(name), f"is of type {columns[name].type}; accepted: categorical or boolean columns"
            return
    for place, name in enumerate(constraint.columns):
        for value in dict.fromkeys(row[place] for row in constraint.tuples):
            if not _in_domain(value, columns[name]):
                yield field, repr(value), f"is no category of {name!r}"
    possible = math.prod(len(domain_of(columns[name]) or ()) for name in constraint.columns)
    if constraint.forbidden is not None and possible > MOST_COMBINATIONS:
        yield field, "", f"leaves too many of {possible:,} combinations to list; declare what is allowed"
    elif constraint.forbidden is not None and len({tuple(map(text_of, r)) for r in constraint.tuples}) == possible:
        yield field, "", "forbids every combination; leave some"


def _functional(constraint: Functional, columns: _Columns) -> Iterator[Found]:
    output = columns[constraint.column]
    nullable = [name for name in constraint.sources if columns[name].nullable]
    if nullable and not output.nullable:
        yield (
            ".column", repr(constraint.column),
            f"follows from {nullable[0]!r}, which may be null: make {constraint.column!r} nullable too",
        )  # fmt: skip
    if constraint.mapping is not None:
        yield from _mapping(constraint, constraint.mapping, columns)
        return
    for name in constraint.columns:
        if not is_ordered(columns[name]) or holds_dates(columns[name]):
            yield ".formula", repr(name), f"is of type {columns[name].type}; accepted: columns of numbers"
            return
    low, high = (constraint.constant + total for total in _range(constraint, columns))
    first, last = bounds_of(output)
    if high < first or low > last:
        yield (
            ".formula", f"{low:g} to {high:g}",
            f"never falls between min and max of {constraint.column!r} ({first:g} to {last:g}); widen those bounds",
        )  # fmt: skip


def _range(constraint: Functional, columns: _Columns) -> tuple[float, float]:
    """The least and the most that a formula can add up to."""
    ends = [
        sorted(factor * bound for bound in bounds_of(columns[name]))
        for name, factor in (constraint.formula or {}).items()
    ]
    return sum(low for low, _ in ends), sum(high for _, high in ends)


def _mapping(constraint: Functional, mapping: Mapping[str, Value], columns: _Columns) -> Iterator[Found]:
    source, output = columns[constraint.of or ""], columns[constraint.column]
    domain = domain_of(source)
    if domain is None:
        yield ".of", repr(constraint.of), f"is of type {source.type}; accepted: a categorical or boolean column"
        return
    for key in mapping:
        if key not in domain:
            yield ".mapping", repr(key), f"is no category of {constraint.of!r}"
    if missing := [category for category in domain if category not in mapping]:
        yield (
            ".mapping",
            "",
            f"has nothing for the categories {', '.join(missing[:5])} of {constraint.of!r}; map them all",
        )
    for value in dict.fromkeys(mapping.values()):
        if not _in_domain(value, output):
            where = "null, which it may not be" if value is None else "no value that its domain has"
            yield ".mapping", repr(value), f"gives {constraint.column!r} {where}"


def _structural_null(constraint: StructuralNull, columns: _Columns) -> Iterator[Found]:
    if not columns[constraint.column].nullable:
        yield ".column", repr(constraint.column), "is not nullable: make it, or leave the constraint out"


def _rounding(constraint: Rounding, columns: _Columns) -> Iterator[Found]:
    column = columns[constraint.column]
    if not is_ordered(column) or holds_dates(column):
        yield ".column", repr(constraint.column), f"is of type {column.type}; accepted: columns of numbers"
        return
    step = step_of(column)
    places = constraint.multiple_of / step if step else 1.0
    if abs(places - round(places)) > 1e-6 or round(places) < 1:
        yield ".multiple_of", f"{constraint.multiple_of:g}", f"is no multiple of the column's own step, {step:g}"
    first, last = bounds_of(column)
    if up(first, constraint.multiple_of) > down(last, constraint.multiple_of):
        yield ".multiple_of", f"{constraint.multiple_of:g}", f"has no multiple between {first:g} and {last:g}"


_OF_KIND: dict[str, Callable[[Any, _Columns], Iterator[Found]]] = {
    "inequality": _inequality,
    "non_negative": _non_negative,
    "combinations": _combinations,
    "functional": _functional,
    "structural_null": _structural_null,
    "rounding": _rounding,
}


def domain_of(column: Any) -> list[str] | None:
    """A column's categories or truth values as texts; None where it has no such list."""
    if column.type == "boolean":
        return ["false", "true"]
    categories = getattr(column, "categories", None)
    return [text_of(category) for category in categories] if categories else None


def _in_domain(value: Value, column: Any) -> bool:
    if value is None:
        return bool(column.nullable)
    domain = domain_of(column)
    if domain is not None:
        return text_of(value) in domain and isinstance(value, bool) == (column.type == "boolean")
    if not is_ordered(column) or isinstance(value, bool):
        return False
    number, (first, last), step = number_of(value), bounds_of(column), step_of(column)
    return (
        number is not None and first <= number <= last and abs(up(number, step) - number) < 1e-9 * max(1, abs(number))
    )


def _condition(constraint: Constraint, columns: _Columns) -> Iterator[Found]:
    """Faults of the field that says in which rows a constraint is about something."""
    field = "exactly_where" if isinstance(constraint, StructuralNull) else "where"
    for name, values in (getattr(constraint, field, None) or {}).items():
        kind = columns[name].type
        compared = [constraint.column] if isinstance(constraint, StructuralNull) else constraint.columns
        if name in compared:
            yield f".{field}", repr(name), "is constrained itself; give a condition on another column"
        elif domain_of(columns[name]) is None and kind != "integer":
            yield f".{field}", repr(name), f"is of type {kind}; accepted: a categorical, boolean or integer column"
        else:
            for value in values:
                if not _in_domain(value, columns[name]):
                    yield f".{field}", repr(value), f"is not in the domain of {name!r}, so that never holds"


def _repeated(fit: Sequence[tuple[int, Constraint]]) -> Iterator[Found]:
    """At most one constraint computes a column, rounds it, or says when it is null; what is computed is not rounded."""
    computed: dict[tuple[str, str], int] = {}
    for position, constraint in fit:
        if isinstance(constraint, Functional | Rounding | StructuralNull):
            key = ("null" if isinstance(constraint, StructuralNull) else "value", constraint.column)
            if key in computed:
                yield (
                    f"constraints.{position}.column", repr(constraint.column),
                    f"is settled by constraints.{computed[key]} already; leave one of them out",
                )  # fmt: skip
            computed.setdefault(key, position)


def _circular(fit: Sequence[tuple[int, Constraint]]) -> Iterator[Found]:
    functional = [(position, c) for position, c in fit if isinstance(c, Functional)]
    sorter = TopologicalSorter({c.column: set(c.sources) for _, c in functional})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1]
        position = next(position for position, c in functional if c.column in circle)
        yield (
            f"constraints.{position}.column", "",
            f"columns follow from each other in a circle ({' from '.join(circle)}); leave one of these constraints out",
        )  # fmt: skip


def _crossed(fit: Sequence[tuple[int, Constraint]], columns: _Columns) -> Iterator[Found]:
    """Inequalities that go round in a circle, or that bounds and multiples leave no value for."""
    steps = steps_of([constraint for _, constraint in fit], columns)
    edges = [(position, edge) for position, constraint in fit for edge in edges_of(constraint, columns)]
    held: list[Edge] = []
    for position, edge in sorted(edges, key=lambda each: each[1].where is not None):
        path = f"constraints.{position}"
        try:
            in_order([*held, edge])
        except CycleError as error:
            circle = " <= ".join(error.args[1])
            yield path, circle, "goes round in a circle; two equal columns are one: declare one functional of the other"
            continue
        low_high = limits([*(e for e in held if e.where is None), edge], columns, steps)
        broken = [name for name, (low, high) in low_high.items() if low > high + 1e-9]
        if broken:
            first, last = bounds_of(columns[broken[0]])
            yield (
                path, "",
                f"leaves no value for {broken[0]!r} between its min and max ({_bound(first, columns[broken[0]])} to "
                f"{_bound(last, columns[broken[0]])}), with what else is declared; widen the bounds or leave it out",
            )  # fmt: skip
            continue
        held.append(edge)


def _bound(number: float, column: Any) -> str:
    return str(column.min if number == bounds_of(column)[0] else column.max) if holds_dates(column) else f"{number:g}"
