"""Constraints: rules between columns that every released row keeps, as a contract declares them.

They are public facts, like bounds and categories: learnt from the data, which combinations occur would tell who is
there. Keeping them is post-processing of drawn rows (:mod:`synth.constraints`) and costs no privacy. A constraint with
a null side holds, unless it is about null.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from synth.contract.columns import Frozen

MOST_CONSTRAINTS = 100
MOST_COMBINATIONS = 100_000


def _text_of_date(value: Any) -> Any:
    """YAML reads an unquoted date as one; the contract's document has text."""
    return value.isoformat() if isinstance(value, datetime.date) else value


Value = bool | int | float | str | None
Side = Annotated[int | float | str, BeforeValidator(_text_of_date)]
Comparison = Literal["<", "<=", ">", ">="]
ColumnName = Annotated[str, Field(min_length=1)]
Condition = Annotated[
    dict[ColumnName, Annotated[tuple[Value, ...], Field(min_length=1)]], Field(min_length=1, max_length=1)
]


def _words(condition: dict[str, tuple[Value, ...]] | None, before: str = " where ") -> str:
    """How a condition is shown to people; empty for none."""
    if not condition:
        return ""
    ((column, values),) = condition.items()
    return f"{before}{column} is {' or '.join(_shown(value) for value in values)}"


def _shown(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


class Inequality(Frozen):
    """One column stays on one side of another, or of a constant."""

    kind: Literal["inequality"]
    holds: tuple[Side, Comparison, Side] = Field(description='Such as [first, "<=", last] or [fee, ">=", 10].')
    where: Condition | None = Field(None, description="Only in rows where one column has one of these values.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Text on either side; one that names no column is a date."""
        return tuple(side for side in (self.holds[0], self.holds[2]) if isinstance(side, str))

    @property
    def text(self) -> str:
        """For people."""
        left, sign, right = self.holds
        return f"{_shown(left)} {sign} {_shown(right)}{_words(self.where)}"


class NonNegative(Frozen):
    """Columns are zero or more."""

    kind: Literal["non_negative"]
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    where: Condition | None = Field(None, description="Only in rows where one column has one of these values.")

    @property
    def text(self) -> str:
        """For people."""
        verb = "is" if len(self.columns) == 1 else "are"
        return f"{', '.join(self.columns)} {verb} 0 or more{_words(self.where)}"


def _tuples(given: Any) -> Any:
    """``{AT: [Graz, Linz]}`` is short for ``[[AT, Graz], [AT, Linz]]``."""
    if not isinstance(given, dict):
        return given
    return [
        [first, second]
        for first, seconds in given.items()
        for second in (seconds if isinstance(seconds, list | tuple) else [seconds])
    ]


_Tuples = Annotated[
    tuple[tuple[Value, ...], ...],
    Field(min_length=1, max_length=MOST_COMBINATIONS),
    BeforeValidator(_tuples),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "array"}, "minItems": 1}, {"type": "object"}]}),
]


class Combinations(Frozen):
    """Which values of two or more columns occur together."""

    kind: Literal["combinations"]
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=2)]
    allowed: _Tuples | None = Field(None, description="No others occur; of two columns also {FIRST: [SECOND, ...]}.")
    forbidden: _Tuples | None = Field(None, description="All others may occur.")

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.allowed is None) == (self.forbidden is None):
            raise ValueError("accepted: either allowed or forbidden")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns names a column twice")
        for row in self.tuples:
            if len(row) != len(self.columns):
                raise ValueError(f"a combination of {len(row)} values, but there are {len(self.columns)} columns")
            if None in row:
                raise ValueError("null is in no combination: a row with null in one of the columns is kept as it is")
        return self

    @property
    def tuples(self) -> tuple[tuple[Value, ...], ...]:
        """What is listed."""
        return (self.allowed if self.allowed is not None else self.forbidden) or ()

    @property
    def text(self) -> str:
        """For people."""
        which = "only" if self.allowed is not None else "never"
        return f"{' and '.join(self.columns)} together: {which} {len(self.tuples)} listed combinations"


def _text_keys(mapping: Any) -> Any:
    if not isinstance(mapping, dict):
        return mapping
    return {text_of(key): value for key, value in mapping.items()}


def text_of(value: Any) -> str:
    """A category or truth value as the text by which it is compared; null is ``null``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value).strip()


class Functional(Frozen):
    """One column follows from others: it is computed, not drawn."""

    kind: Literal["functional"]
    column: ColumnName
    of: ColumnName | None = Field(None, description="The column whose categories are mapped.")
    mapping: Annotated[dict[str, Value], Field(min_length=1), BeforeValidator(_text_keys)] | None = None
    formula: Annotated[dict[ColumnName, float], Field(min_length=1)] | None = Field(
        None, description="Columns of numbers and their factors, such as {net: 1, tax: 1}; rounded as the column is."
    )
    constant: float = Field(0.0, description="Added to the formula.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.mapping is None) == (self.formula is None) or (self.mapping is None) != (self.of is None):
            raise ValueError("accepted: either of with mapping, or formula")
        if self.mapping is not None and self.constant:
            raise ValueError("constant is added to a formula; a mapping has none")
        if self.column in self.sources:
            raise ValueError(f"column {self.column!r} cannot follow from itself")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """What the column follows from."""
        return tuple(self.formula) if self.formula is not None else (self.of or "",)

    @property
    def columns(self) -> tuple[str, ...]:
        """All that take part."""
        return (self.column, *self.sources)

    @property
    def text(self) -> str:
        """For people."""
        if self.formula is None:
            return f"{self.column} follows from {self.of}"
        terms = [name if factor == 1 else f"{factor:g} {name}" for name, factor in self.formula.items()]
        constant = [f"{self.constant:g}"] if self.constant else []
        return f"{self.column} = {' + '.join([*terms, *constant])}"


class StructuralNull(Frozen):
    """A column is null exactly where another has one of some values."""

    kind: Literal["structural_null"]
    column: ColumnName
    exactly_where: Condition

    @property
    def columns(self) -> tuple[str, ...]:
        """All that take part."""
        return (self.column, *self.exactly_where)

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.column} is null exactly where{_words(self.exactly_where, ' ')}"


class Rounding(Frozen):
    """A column's values are whole multiples of a number."""

    kind: Literal["rounding"]
    column: ColumnName
    multiple_of: Annotated[float, Field(gt=0)]

    @field_validator("multiple_of")
    @classmethod
    def _reasonable(cls, multiple: float) -> float:
        if not 1e-9 <= multiple <= 1e15:
            raise ValueError("accepted: 1e-9 to 1e15")
        return multiple

    @property
    def columns(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.column} is a multiple of {self.multiple_of:g}"


Constraint = Annotated[
    Inequality | NonNegative | Combinations | Functional | StructuralNull | Rounding, Field(discriminator="kind")
]
Constraints = Annotated[tuple[Constraint, ...], Field(max_length=MOST_CONSTRAINTS)]
