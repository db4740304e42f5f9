"""Conditions on single columns that drawn rows are to meet, and what they say about each code.

A condition is evidence: for each code of its column the share of the code's values that meet it. A model that can be
conditioned on evidence draws from exactly its own conditional distribution; from any other, rows are drawn until
enough of them meet the condition. Both are post-processing and cost no privacy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from synth.constraints.values import Mask, Texts
from synth.contract.constraints import text_of
from synth.contract.spacing import down, up
from synth.errors import SamplingRefused
from synth.schema import Codes, ColumnDomain, Schema

Evidence = Mapping[int, npt.NDArray[np.float64]]

_FORMS = "COLUMN = VALUE, !=, <, <=, >, >=, COLUMN in A, B, COLUMN between A and B, COLUMN is null, COLUMN is not null"
_AFTER_COLUMN = re.compile(r"\s*(?:(<=|>=|!=|=|<|>)|\b(in|between|is)\b)\s*(.+?)\s*", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Atom:
    """A condition on one column.

    :ivar texts: of categories and truth values; ``null`` stands for null. None where numbers are meant.
    :ivar low: in the space of the column's cells, as its values are parsed.
    """

    column: str
    texts: tuple[str, ...] | None = None
    low: float = -np.inf
    high: float = np.inf

    def evidence(self, domain: ColumnDomain) -> npt.NDArray[np.float64]:
        """For each code the share of its values that meet the condition, null last. Shape (size,)."""
        if self.texts is not None:
            known = [text_of(bool(c)) if domain.kind == "boolean" else text_of(c) for c in domain.categories]
            if not known:  # numbers, of which null or not is asked
                known = ["not null"] * domain.cells
            return np.array([float(text in self.texts) for text in [*known, "null"]])
        return np.append(self._share_of_cells(domain), 0.0)

    def _share_of_cells(self, domain: ColumnDomain) -> npt.NDArray[np.float64]:
        lower, upper = np.asarray(domain.lower), np.asarray(domain.upper)
        if domain.step:
            least, most = self._multiples(domain.step)
            inside = np.minimum(upper, most) - np.maximum(lower, least) + domain.step
            return np.clip(inside, 0, None) / (upper - lower + domain.step)
        low, high = self._ends(domain)
        inside = np.clip(np.minimum(upper, high) - np.maximum(lower, low), 0, None)
        points = (upper == lower) & (lower >= low) & (lower <= high)
        return np.where(points, 1.0, inside / np.where(upper > lower, upper - lower, 1))

    def _multiples(self, step: int) -> tuple[float, float]:
        """The least and the most of what a column of whole numbers or of dates can hold."""
        return float(np.ceil(self.low / step) * step), float(np.floor(self.high / step) * step)

    def _ends(self, domain: ColumnDomain) -> tuple[float, float]:
        """What a number may be before it is rounded to the column's decimals."""
        if domain.decimals is None:
            return self.low, self.high
        step = 10.0**-domain.decimals
        low, high = max(self.low, domain.lower[0]), min(self.high, domain.upper[-1])
        return up(low, step) - step / 2, down(high, step) + step / 2

    def narrowed(self, domain: ColumnDomain) -> ColumnDomain:
        """The domain with cut cells: only numbers that meet the condition are drawn in those that some of do."""
        if self.texts is not None:
            return domain
        low, high = self._multiples(domain.step) if domain.step else self._ends(domain)
        lower, upper = np.maximum(domain.lower, low), np.minimum(domain.upper, high)
        cut = lower <= upper
        lower, upper = np.where(cut, lower, domain.lower), np.where(cut, upper, domain.upper)
        return replace(domain, lower=tuple(map(float, lower)), upper=tuple(map(float, upper)))

    def holds(self, series: pd.Series, domain: ColumnDomain) -> Mask:
        """Which native values meet the condition. Shape (rows,)."""
        if self.texts is not None and not domain.is_numeric:
            return Texts.of(series).among(self.texts)
        missing = series.isna().to_numpy()
        if self.texts is not None:
            return missing if "null" in self.texts else ~missing
        values = domain.parse(pa.Array.from_pandas(series)).astype(np.float64)
        return np.asarray(~missing & (values >= self.low) & (values <= self.high))


@dataclass(frozen=True)
class Condition:
    """Atoms that all hold; none for every row."""

    atoms: tuple[Atom, ...] = ()
    texts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.atoms)

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.atoms + other.atoms, self.texts + other.texts)

    @classmethod
    def parse(cls, texts: Sequence[str], schema: Schema) -> Condition:
        """Conditions as they are written on the command line.

        :raises SamplingRefused: saying what is accepted.
        """
        return cls(tuple(_atom(text, schema) for text in texts), tuple(texts))

    @classmethod
    def equal(cls, column: str, text: str) -> Condition:
        """One category or truth value."""
        return cls((Atom(column, (text,)),), (f"{column} = {text}",))

    def evidence(self, schema: Schema) -> dict[int, npt.NDArray[np.float64]]:
        """By the places of the columns."""
        found: dict[int, npt.NDArray[np.float64]] = {}
        for atom in self._joined(schema):
            place = schema.names.index(atom.column)
            found[place] = found.get(place, 1.0) * atom.evidence(schema[atom.column])
        return found

    def decoded(self, codes: Codes, schema: Schema, generator: np.random.Generator) -> pd.DataFrame:
        """Native values of codes, uniform inside the part of a cell that meets the conditions."""
        domains = {column.name: column for column in schema.columns}
        for atom in self._joined(schema):
            domains[atom.column] = atom.narrowed(domains[atom.column])
        narrowed = replace(schema, columns=tuple(domains[name] for name in schema.names))
        return narrowed.decode(codes, generator)

    def holds(self, frame: pd.DataFrame, schema: Schema) -> Mask:
        """Which rows meet all. Shape (rows,)."""
        met = np.ones(len(frame), np.bool_)
        for atom in self.atoms:
            met &= atom.holds(frame[atom.column], schema[atom.column])
        return met

    def _joined(self, schema: Schema) -> list[Atom]:
        """Intervals of one column as one, since shares of a cell do not multiply."""
        joined: dict[str, Atom] = {}
        others = []
        for atom in self.atoms:
            if atom.texts is not None:
                others.append(atom)
                continue
            have = joined.get(atom.column, atom)
            joined[atom.column] = replace(have, low=max(have.low, atom.low), high=min(have.high, atom.high))
        return [*others, *joined.values()]


@dataclass(frozen=True)
class _Written:
    """One condition, taken apart."""

    text: str
    domain: ColumnDomain
    sign: str
    rest: str

    def refused(self, problem: str) -> SamplingRefused:
        return SamplingRefused(f"--where {self.text!r}: {problem}")

    @cached_property
    def atom(self) -> Atom:
        if self.sign == "is":
            return self._null()
        return self._number() if self.domain.is_numeric else self._category()

    def _null(self) -> Atom:
        words = " ".join(self.rest.lower().split())
        if words not in ("null", "not null"):
            raise self.refused("accepted after is: null, not null")
        if words == "null":
            if not self.domain.nullable:
                raise self.refused(f"column {self.domain.name!r} is never null")
            return Atom(self.domain.name, ("null",))
        return Atom(self.domain.name, tuple(self._known()) if not self.domain.is_numeric else ("not null",))

    def _known(self) -> list[str]:
        return [text_of(bool(c)) if self.domain.kind == "boolean" else text_of(c) for c in self.domain.categories]

    def _category(self) -> Atom:
        known = self._known()
        if self.sign not in ("=", "!=", "in"):
            raise self.refused(f"column {self.domain.name!r} is {self.domain.kind}; accepted: =, !=, in")
        values = [self.rest] if self.sign != "in" or self.rest in known else _listed(self.rest)
        values = [value.lower() if self.domain.kind == "boolean" else value for value in values]
        for value in values:
            if value not in known:
                some = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
                raise self.refused(f"{value!r} is no category of {self.domain.name!r}; accepted: {some}")
        texts = [text for text in known if text not in values] if self.sign == "!=" else values
        return Atom(self.domain.name, tuple(texts))

    def _number(self) -> Atom:
        name = self.domain.name
        if self.sign in ("!=", "in"):
            raise self.refused(f"column {name!r} holds numbers or dates; accepted: =, <, <=, >, >=, between A and B")
        if self.sign == "between":
            ends = re.split(r"\s+and\s+", self.rest, flags=re.IGNORECASE)
            if len(ends) != 2:
                raise self.refused("accepted: between A and B")
            return Atom(name, None, self._value(ends[0]), self._value(ends[1]))
        value = self._value(self.rest)
        low = {"=": value, ">=": value, ">": np.nextafter(value, np.inf)}.get(self.sign, -np.inf)
        high = {"=": value, "<=": value, "<": np.nextafter(value, -np.inf)}.get(self.sign, np.inf)
        if self.sign in "<>" and self.domain.decimals is not None:
            step = 10.0**-self.domain.decimals
            low, high = (
                (up(value, step, strict=True), high) if self.sign == ">" else (low, down(value, step, strict=True))
            )
        return Atom(name, None, float(low), float(high))

    def _value(self, text: str) -> float:
        value = float(self.domain.parse(pa.array([text.strip().strip("'\"")]))[0])
        if np.isnan(value):
            raise self.refused(f"{text!r} is no value of column {self.domain.name!r}")
        return value


def _listed(rest: str) -> list[str]:
    """``(a, b)`` or ``a, b``; quotes keep a comma together."""
    inner = rest[1:-1] if rest.startswith("(") and rest.endswith(")") else rest
    found = re.findall(r"\s*(?:'([^']*)'|\"([^\"]*)\"|([^,]+))\s*(?:,|$)", inner)
    return ["".join(parts).strip() for parts in found]


def _atom(text: str, schema: Schema) -> Atom:
    stripped = text.strip()
    for column in sorted(schema.columns, key=lambda each: -len(each.name)):  # a name may begin with another
        if not stripped.startswith(column.name):
            continue
        match = _AFTER_COLUMN.fullmatch(stripped[len(column.name) :])
        if match is not None:
            rest = match[3]
            quoted = len(rest) > 1 and rest[0] == rest[-1] and rest[0] in "'\"" and rest.count(rest[0]) == 2
            return _Written(text, column, (match[1] or match[2]).lower(), rest[1:-1] if quoted else rest).atom
    raise SamplingRefused(
        f"--where {text!r} is not understood; accepted: {_FORMS}, of columns {', '.join(schema.names)}"
    )
