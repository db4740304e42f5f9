"""Columns of the public domain, as a contract declares them.

Everything here is a public fact: bounds and categories come from what the owner knows about the data, never
from the data. A value outside of its column's domain is moved into it or becomes null, row by row.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LARGEST_EXACT_INTEGER = 2**53


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
        if self.min >= self.max:
            raise ValueError(f"min={self.min} must be below max={self.max}")
        return self


class NumberColumn(_Numeric):
    """Real numbers between two public bounds."""

    type: Literal["number"]
    min: float
    max: float
    decimals: Annotated[int, Field(ge=0, le=12)] | None = Field(
        None, description="Decimals that released values are rounded to."
    )

    @model_validator(mode="after")
    def _ordered(self) -> NumberColumn:
        if self.min >= self.max:
            raise ValueError(f"min={self.min} must be below max={self.max}")
        return self


class CategoricalColumn(_Column):
    """One of the declared categories: all text or all whole numbers."""

    type: Literal["categorical"]
    categories: Annotated[list[int] | list[str], Field(min_length=1, max_length=10_000)]

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


Column = Annotated[
    IntegerColumn | NumberColumn | CategoricalColumn | BooleanColumn | OpenCategoricalColumn,
    Field(discriminator="type"),
]

LATER_COLUMN_TYPES = ("date", "datetime", "timestamp", "text", "identifier", "image")
