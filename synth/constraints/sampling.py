"""Rows that were asked for: of any model, under conditions, in balanced shares, keeping constraints.

A model that knows how is conditioned exactly; what it cannot take into account (labels, say) is met by drawing and
keeping what fits, up to a public number of tries. Both leave the model's own conditional distribution. Post-processing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.constraints.conditions import Condition, Evidence
from synth.constraints.keeping import Cost, Source, kept
from synth.constraints.repair import Rules
from synth.contract.constraints import text_of
from synth.errors import SamplingRefused
from synth.schema import Codes, Schema

TRIED_PER_ROW = 200  # rows drawn for one that fits, at most
_LEAST_TRIED = 200_000
_BATCH = 65_536
_PROBE = 4_096


class Drawable(Protocol):
    """A model that rows of codes can be drawn from."""

    schema: Schema

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns that :meth:`relabelled` draws; none if it draws none."""
        ...

    def draw(self, rows: int, generator: np.random.Generator) -> Codes:
        """So many rows of codes."""
        ...

    def relabelled(self, codes: Codes, generator: np.random.Generator) -> Codes:
        """The same rows with labels drawn anew given the other columns."""
        ...

    def given(self, evidence: Evidence) -> Given:
        """The model, conditioned on as much of the evidence as it can be."""
        ...


@dataclass(frozen=True)
class Given:
    """A conditioned model.

    :ivar rest: evidence that it does not take into account.
    :ivar share: how likely a row of the unconditioned model meets what it does; 0 if none can.
    """

    model: Drawable
    rest: Evidence
    share: float = 1.0


@dataclass(frozen=True)
class Wanted:
    """What rows have to be like, beyond being drawn from the model.

    :ivar rules: constraints that every row keeps.
    :ivar where: conditions that every row meets.
    :ivar balance: a column whose categories, those that ``where`` leaves, get equal shares.
    """

    rules: Rules = field(default_factory=Rules)
    where: Condition = field(default_factory=Condition)
    balance: str | None = None

    def conditions(self, schema: Schema) -> list[Condition]:
        """One for each share of the rows.

        :raises SamplingRefused: if the column cannot be balanced.
        """
        if self.balance is None:
            return [self.where]
        if self.balance not in schema.names:
            raise SamplingRefused(f"--balance {self.balance!r} is no column; accepted: {', '.join(schema.names)}")
        domain = schema[self.balance]
        if domain.is_numeric:
            raise SamplingRefused(f"--balance {self.balance!r} holds numbers; accepted: categorical or boolean columns")
        allowed = self.where.evidence(schema).get(schema.names.index(self.balance), np.ones(domain.size))
        known = [text_of(bool(c)) if domain.kind == "boolean" else text_of(c) for c in domain.categories]
        return [
            self.where & Condition.equal(self.balance, text)
            for text, share in zip(known, allowed, strict=False)
            if share > 0
        ]


AS_MODELLED = Wanted()


class Sampler:
    """Draws blocks of wanted rows; holds what is the same for all of them.

    :raises SamplingRefused: if the model gives a condition no probability.
    """

    def __init__(self, model: Drawable, wanted: Wanted) -> None:
        self._rules = wanted.rules
        self._parts = [_Part.of(model, condition) for condition in wanted.conditions(model.schema)]

    def rows(self, count: int, generator: np.random.Generator) -> tuple[pd.DataFrame, Cost | None]:
        """So many rows; and what keeping the rules cost, where there are any.

        :raises SamplingRefused: if too few rows meet a condition.
        """
        shares = np.full(len(self._parts), count // len(self._parts))
        shares[: count % len(self._parts)] += 1
        if len(self._parts) > 1:
            shares = generator.permutation(shares)
        frames, cost = [], None
        for part, share in zip(self._parts, shares, strict=True):
            if not share:
                continue
            frame, added = part.rows(int(share), self._rules, generator)
            frames.append(frame)
            cost = added if cost is None or added is None else cost + added
        if len(frames) == 1:
            return frames[0], cost
        return pd.concat(frames, ignore_index=True).take(generator.permutation(count)).reset_index(drop=True), cost

    def shares(self, generator: np.random.Generator) -> dict[str, float]:
        """About how likely the model's rows meet each condition, from a few thousand draws."""
        return {" and ".join(part.condition.texts): part.probed(generator) for part in self._parts if part.condition}


@dataclass(frozen=True)
class _Part:
    """Rows under one condition."""

    condition: Condition
    given: Given
    schema: Schema

    @classmethod
    def of(cls, model: Drawable, condition: Condition) -> _Part:
        given = model.given(condition.evidence(model.schema)) if condition else Given(model, {})
        part = cls(condition, given, model.schema)
        if not given.share > 0:
            raise part._too_rare(0)
        return part

    def rows(self, count: int, rules: Rules, generator: np.random.Generator) -> tuple[pd.DataFrame, Cost | None]:
        model = self.given.model
        if not rules and not self.condition:
            return self.schema.decode(model.draw(count, generator), generator), None
        holds = (lambda frame: self.condition.holds(frame, self.schema)) if self.condition else None
        relabel = model.relabelled if model.labels else None
        source = Source(self.schema, self._draw, self._decoded, relabel, model.labels, holds)
        frame, cost = kept(source, rules, count, generator)
        return frame, cost if rules else None

    def probed(self, generator: np.random.Generator) -> float:
        """The condition's share among the rows of the unconditioned model."""
        return self.given.share * float(self._fits(self.given.model.draw(_PROBE, generator), generator).mean())

    def _decoded(self, codes: Codes, generator: np.random.Generator) -> pd.DataFrame:
        return self.condition.decoded(codes, self.schema, generator)

    def _draw(self, count: int, generator: np.random.Generator) -> Codes:
        if not self.given.rest:
            return self.given.model.draw(count, generator)
        found, have, tried = [], 0, 0
        while have < count:
            if tried > max(_LEAST_TRIED, TRIED_PER_ROW * count):
                raise self._too_rare(have / tried)
            rate = max(have / tried, 1 / TRIED_PER_ROW) if tried else 1.0
            batch = min(_BATCH, math.ceil((count - have) / rate) + 32)
            codes = self.given.model.draw(batch, generator)
            fitting = codes[self._fits(codes, generator)]
            found.append(fitting)
            have, tried = have + len(fitting), tried + batch
        return np.concatenate(found)[:count]

    def _fits(self, codes: Codes, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Whether each row is kept: with the share of its codes' values that meet the condition."""
        likely = np.ones(len(codes))
        for place, evidence in self.given.rest.items():
            likely *= evidence[codes[:, place]]
        return np.asarray(generator.random(len(codes)) < likely)

    def _too_rare(self, share: float) -> SamplingRefused:
        told = f"about {share * self.given.share:.1g}" if share else "too small to be drawn, or nothing"
        return SamplingRefused(
            f"too few of the model's rows have {' and '.join(self.condition.texts)}: their share is {told}, and at "
            f"most {TRIED_PER_ROW} rows are drawn for one that fits; ask for a wider condition"
        )
