"""Columns of the public domain, as a contract declares them.

Everything here is a public fact: bounds and categories come from what the owner knows about the data, never
from the data. A value outside of its column's domain is moved into it or becomes null, row by row.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from synth.contract.id_patterns import IdPattern
from synth.contract.instants import DAY, FIRST, LAST, instant, seconds_of, seconds_of_text

LARGEST_EXACT_INTEGER = 2**53
LARGEST_NUMBER = 1e300  # sums of two have to be finite


class Frozen(BaseModel):
    """An immutable part of a contract that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Column(Frozen):
    nullable: bool = Field(False, description="Whether released rows may hold null here.")
    description: str = Field("", description="What the column means; printed on the card.")


class _Numeric(_Column):
    bins: Annotated[int, Field(ge=2, le=512)] | None = Field(
        None, description="Cells of the public grid; by default chosen from approximate_units."
    )
    scale: Literal["auto", "linear", "log", "decimal"] = Field(
        "auto",
        description="Spacing of the grid; decimal has a cell for each number of two digits and each gap. auto takes "
        "log where the range passes 1,000; with structure mixture, and no bins, decimal.",
    )

    @model_validator(mode="after")
    def _decimal_has_its_own_cells(self) -> Self:
        if self.scale == "decimal" and self.bins is not None:
            raise ValueError("scale: decimal has cells of its own; leave bins out, or choose linear or log")
        return self


class IntegerColumn(_Numeric):
    """Whole numbers between two public bounds."""

    type: Literal["integer"]
    min: Annotated[int, Field(ge=-LARGEST_EXACT_INTEGER, le=LARGEST_EXACT_INTEGER)]
    max: Annotated[int, Field(ge=-LARGEST_EXACT_INTEGER, le=LARGEST_EXACT_INTEGER)]

    @model_validator(mode="after")
    def _ordered(self) -> IntegerColumn:
        if self.min > self.max:
            raise ValueError(f"min={self.min} must not be above max={self.max}")
        return self


class NumberColumn(_Numeric):
    """Real numbers between two public bounds."""

    type: Literal["number"]
    min: Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
    max: Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
    decimals: Annotated[int, Field(ge=0, le=12)] | None = Field(
        None, description="Decimals that released values are rounded to."
    )

    @model_validator(mode="after")
    def _ordered(self) -> NumberColumn:
        if self.min > self.max:
            raise ValueError(f"min={self.min} must not be above max={self.max}")
        return self


def _seconds(given: Any) -> int:
    """Of a bound as YAML, JSON or Python gives it; a number would be taken for seconds by some and days by others."""
    seconds = seconds_of_text(given) if isinstance(given, str) else None
    if isinstance(given, date):
        seconds = seconds_of(given)
    if seconds is None or not FIRST <= seconds <= LAST:
        raise ValueError("accepted: an ISO 8601 date such as 2026-07-01, or with a time 2026-07-01T09:30:00")
    return seconds


def _day(given: Any) -> date:
    seconds = _seconds(given)
    if seconds % DAY:
        raise ValueError("holds a time of day; give the day alone, or declare type: datetime")
    return instant(seconds).date()


def _instant(given: Any) -> datetime:
    return instant(_seconds(given))


_AS_TEXT = WithJsonSchema({"type": "string", "description": "ISO 8601."})
Day = Annotated[date, BeforeValidator(_day), _AS_TEXT]
Instant = Annotated[datetime, BeforeValidator(_instant), _AS_TEXT]

RESOLUTIONS = {"day": DAY, "hour": 3600, "minute": 60, "second": 1}  # in seconds


class _Calendar(_Column):
    bins: Annotated[int, Field(ge=2, le=512)] | None = Field(
        None, description="At most so many cells of the calendar; by default 512, fewer with structure independent."
    )


class DateColumn(_Calendar):
    """Days between two public ones. A cell with a time of day is the day that it has in UTC."""

    type: Literal["date"]
    min: Day
    max: Day

    @model_validator(mode="after")
    def _ordered(self) -> DateColumn:
        if self.min > self.max:
            raise ValueError(f"min={self.min} must not be after max={self.max}")
        return self


class DatetimeColumn(_Calendar):
    """Instants between two public ones, in UTC; a cell without a zone is taken as UTC."""

    type: Literal["datetime", "timestamp"]
    min: Instant
    max: Instant = Field(description="A day alone means its end.")
    resolution: Literal["day", "hour", "minute", "second"] = Field(
        "second", description="What released values are whole multiples of; finer parts of a cell are cut off."
    )

    @model_validator(mode="before")
    @classmethod
    def _last_of_the_day(cls, given: Any) -> Any:
        """With ``max: 2026-12-31`` what happened on that day lies inside."""
        if not isinstance(given, dict):
            return given
        last, step = given.get("max"), RESOLUTIONS.get(str(given.get("resolution", "second")))
        if isinstance(last, str) and len(last.strip()) <= len("2026-12-31"):
            seconds = seconds_of_text(last)
            last = None if seconds is None else instant(seconds).date()
        if step is None or not isinstance(last, date) or isinstance(last, datetime):
            return given
        return {**given, "max": instant(seconds_of(last) + DAY - step)}

    @model_validator(mode="after")
    def _ordered(self) -> DatetimeColumn:
        if self.min > self.max:
            raise ValueError(f"min={self.min.isoformat()} must not be after max={self.max.isoformat()}")
        for name, bound in (("min", self.min), ("max", self.max)):
            if seconds_of(bound) % RESOLUTIONS[self.resolution]:
                raise ValueError(f"{name}={bound.isoformat()} is no whole {self.resolution}; give one, in UTC")
        return self


class CategoricalColumn(_Column):
    """One of the declared categories: all text or all whole numbers."""

    type: Literal["categorical"]
    categories: Annotated[list[int] | list[str], Field(min_length=1, max_length=10_000)]
    ordered: bool = Field(
        False,
        description="Whether the categories are given from the lowest to the highest; neighbours then go together.",
    )

    @field_validator("categories", mode="before")
    @classmethod
    def _one_kind(cls, categories: Any) -> Any:
        if not isinstance(categories, list | tuple):
            return categories
        if any(isinstance(category, bool) for category in categories):
            raise ValueError("YAML reads an unquoted yes, no, on, off, true or false as a truth value: quote it")
        if not (all(isinstance(c, str) for c in categories) or all(isinstance(c, int) for c in categories)):
            raise ValueError("accepted: all text or all whole numbers; quote those that are meant as text")
        if any(isinstance(c, int) and abs(c) > LARGEST_EXACT_INTEGER for c in categories):
            raise ValueError(f"a whole number beyond {LARGEST_EXACT_INTEGER} is not exact; give text")
        return categories

    @model_validator(mode="after")
    def _distinct(self) -> CategoricalColumn:
        texts = [str(category).strip() for category in self.categories]
        if "" in texts:
            raise ValueError("a category is empty; declare the column nullable instead")
        repeated = sorted({text for text in texts if texts.count(text) > 1})
        if repeated:
            raise ValueError(f"categories given more than once: {', '.join(repeated)}")
        if self.ordered and isinstance(self.categories[0], int) and self.categories != sorted(self.categories):
            raise ValueError("whole numbers are released in their own order: give them ascending, or as text")
        return self


class BooleanColumn(_Column):
    """True or false."""

    type: Literal["boolean"]


class OpenCategoricalColumn(_Column):
    """Text whose categories nobody can declare: the common ones are selected under privacy, the rest is one level."""

    type: Literal["open_categorical"]
    max_categories: Annotated[int, Field(ge=1, le=10_000)] = Field(
        description="How many categories are kept at most; noise is planned for so many."
    )
    other: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        "(other)", description="The level of every value that is not selected."
    )
    max_length: Annotated[int, Field(ge=1, le=1_000)] = Field(
        100, description="Characters; a longer value belongs to the level of the others."
    )
    selection_delta: Annotated[float, Field(gt=0, lt=0.01)] | None = Field(
        None,
        description="What the selection takes of privacy.delta for this column, each time it runs; by default all open "
        "columns share a tenth evenly.",
    )

    @model_validator(mode="after")
    def _other_is_a_text_that_can_be_shown(self) -> Self:
        if self.other != self.other.strip() or not self.other.isprintable():
            raise ValueError("other must be printable, without blanks around it")
        return self


class IdentifierColumn(Frozen):
    """Names of people or things, which are never read: left out of the release, or made up anew by a pattern."""

    type: Literal["identifier"]
    action: Literal["drop"] | None = Field(None, description="What is done without a pattern.")
    pattern: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None,
        description="Made-up ids, each once in a release: # is a digit, @ a letter A to Z, a backslash makes what "
        "follows literal, everything else stands for itself. Such as CUST-########.",
    )
    description: str = Field("", description="What the column means; printed on the card.")

    @model_validator(mode="after")
    def _one_or_the_other(self) -> IdentifierColumn:
        if self.action is not None and self.pattern is not None:
            raise ValueError("action: drop and pattern exclude each other; keep one of them")
        return self

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            IdPattern.of(pattern)
        return pattern


MeasuredColumn = (
    IntegerColumn
    | NumberColumn
    | CategoricalColumn
    | BooleanColumn
    | DateColumn
    | DatetimeColumn
    | OpenCategoricalColumn
)
Column = Annotated[MeasuredColumn | IdentifierColumn, Field(discriminator="type")]

LATER_COLUMN_TYPES = ("image",)
# No type of a column, and what to do instead.
REFUSED_COLUMN_TYPES = {
    "text": "free text is not released: what people write can name anybody, and no count of it with noise says what it "
    "said; leave the column out, or declare identifier (dropped, or made up anew) or categorical (with its values)",
}
