"""Keeping constraints in all drawn rows, and what that costs the rows.

1. What follows from other columns is computed; where that changes features, labels are drawn anew given them.
2. Rows that still break a rule are drawn again from the model, up to ``TRIES`` times: rejection from a finished model.
   Rejection alone would empty those strata in which rows break rules often (of people who left, say, whose dates have
   an order). So a row is replaced by one of its own stratum: with the same label, the same values of the columns that
   conditions are on, and null in the same columns that are compared. In the last tries any row that keeps the rules
   will do.
3. Those left are repaired to the nearest allowed values, and labelled anew; what that could not mend is replaced by
   rows that keep the rules.

So every row keeps every rule. All of it is post-processing of model and contract, by the block's own generator: the
same model, rows and seed give the same rows. Cost: a try draws a few rows for each that is still broken, at most as
many as were asked for, so all of it at most ``TRIES + 1`` times the model's own drawing, and a pass over the columns of
the rules for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from synth.constraints.repair import Rules
from synth.constraints.values import differ, put
from synth.constraints.witness import witnesses
from synth.errors import SamplingRefused
from synth.schema import Codes, Schema

TRIES = 8
_MATCHED = 6  # of them: the tries in which a row keeps its stratum
_FOR_EACH = 4  # rows that a try draws for each that is still broken


@dataclass(frozen=True)
class Source:
    """What rows are drawn from.

    :ivar draw: so many rows of codes.
    :ivar decode: their native values.
    :ivar relabel: the rows with the columns in ``labels`` drawn anew given the others.
    :ivar holds: further rows that are not wanted, by their native values; shape (rows,).
    """

    schema: Schema
    draw: Callable[[int, np.random.Generator], Codes]
    decode: Callable[[Codes, np.random.Generator], pd.DataFrame]
    relabel: Callable[[Codes, np.random.Generator], Codes] | None = None
    labels: tuple[str, ...] = ()
    holds: Callable[[pd.DataFrame], npt.NDArray[np.bool_]] | None = None


@dataclass(frozen=True)
class Rows:
    """Rows as native values, and their codes."""

    frame: pd.DataFrame
    codes: Codes

    def at(self, rows: npt.NDArray[np.int64]) -> Rows:
        """Some of them."""
        return Rows(self.frame.iloc[rows].reset_index(drop=True), self.codes[rows])

    def with_rows(self, rows: npt.NDArray[np.int64], others: Rows) -> Rows:
        """With some of them replaced."""
        codes = self.codes.copy()
        codes[rows] = others.codes
        return Rows(put(self.frame, rows, others.frame), codes)


@dataclass(frozen=True)
class Cost:
    """What keeping the rules did to rows; costs of blocks add up.

    :ivar broken: for each rule how many rows broke it as the model drew them.
    :ivar redrawn: for each rule how many rows it had drawn again, after what follows was computed.
    :ivar repaired: for each rule how many rows broke it when they were repaired.
    :ivar rows_redrawn: rows that were replaced by another draw; those repaired and replaced are not among them.
    :ivar rows_replaced: rows that repair could not mend, and that stand for another now.
    :ivar before: counts of each column's codes as the model drew them; one array a column.
    :ivar after: the same of the rows that are released.
    """

    rows: int
    broken: npt.NDArray[np.int64]
    redrawn: npt.NDArray[np.int64]
    repaired: npt.NDArray[np.int64]
    rows_redrawn: int
    rows_repaired: int
    rows_replaced: int
    before: tuple[npt.NDArray[np.int64], ...]
    after: tuple[npt.NDArray[np.int64], ...]

    def __add__(self, other: Cost) -> Cost:
        def summed(name: str) -> Any:
            mine, others = getattr(self, name), getattr(other, name)
            return tuple(a + b for a, b in zip(mine, others, strict=True)) if isinstance(mine, tuple) else mine + others

        return Cost(**{name: summed(name) for name in self.__dataclass_fields__})

    def document(self, rules: Rules, names: Sequence[str]) -> dict[str, Any]:
        """Plain values for report and card: shares of all rows, and total variation distances before to after."""
        moved = [
            float(np.abs(before - after).sum() / 2 / max(1, self.rows))
            for before, after in zip(self.before, self.after, strict=True)
        ]
        share = 1 / max(1, self.rows)
        return {
            "tries": TRIES,
            "rows_redrawn": self.rows_redrawn * share,
            "rows_repaired": self.rows_repaired * share,
            "rows_replaced": self.rows_replaced * share,
            "constraints": [
                {
                    "kind": constraint.kind,
                    "text": constraint.text,
                    "columns": list(rule.columns),
                    "broken_as_drawn": float(broken * share),
                    "redrawn": float(redrawn * share),
                    "repaired": float(repaired * share),
                }
                for constraint, rule, broken, redrawn, repaired in zip(
                    rules.constraints, rules.each, self.broken, self.redrawn, self.repaired, strict=True
                )
            ],
            "mean_distance": float(np.mean(moved)),
            "distances": dict(zip(names, moved, strict=True)),
        }


def _pairs(
    strata: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places in both, paired one to one within each stratum, as many as can be."""
    pairs = _ranked(strata).merge(_ranked(others), on=["stratum", "rank"])
    return pairs["place_x"].to_numpy(dtype=np.int64), pairs["place_y"].to_numpy(dtype=np.int64)


def _ranked(strata: npt.NDArray[np.int64]) -> pd.DataFrame:
    listed = pd.DataFrame({"stratum": strata, "place": np.arange(len(strata))})
    return listed.assign(rank=listed.groupby("stratum").cumcount())


def kept(source: Source, rules: Rules, count: int, generator: np.random.Generator) -> tuple[pd.DataFrame, Cost]:
    """So many rows, every one of which keeps every rule, and what that cost.

    :raises SamplingRefused: if the model has no row that keeps the rules and what else is wanted.
    """
    return _Keeping(source, rules, generator).rows(count)


@dataclass(frozen=True)
class _Keeping:
    source: Source
    rules: Rules
    generator: np.random.Generator

    def rows(self, count: int) -> tuple[pd.DataFrame, Cost]:
        drawn = self._drawn(count)
        broken = self.rules.broken(drawn.frame)
        rows = self._settled(drawn)
        first = self.rules.broken(rows.frame)
        bad = first.any(axis=0) | self._unwanted(rows.frame)
        rows, left = self._redrawn(rows, np.flatnonzero(bad))
        repaired = self.rules.broken(rows.frame)[:, left]
        rows, replaced = self._repaired(rows, left)
        return rows.frame, Cost(
            rows=count,
            broken=broken.sum(axis=1),
            redrawn=first.sum(axis=1),
            repaired=repaired.sum(axis=1),
            rows_redrawn=int(bad.sum()) - len(left),
            rows_repaired=len(left) - replaced,
            rows_replaced=replaced,
            before=self._counts(drawn.codes),
            after=self._counts(rows.codes),
        )

    def _counts(self, codes: Codes) -> tuple[npt.NDArray[np.int64], ...]:
        return tuple(np.bincount(codes[:, i], minlength=c.size) for i, c in enumerate(self.source.schema.columns))

    def _drawn(self, count: int) -> Rows:
        codes = self.source.draw(count, self.generator)
        return Rows(self.source.decode(codes, self.generator), codes)

    def _unwanted(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        return ~self.source.holds(frame) if self.source.holds is not None else np.zeros(len(frame), np.bool_)

    def _bad(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        return np.asarray(self.rules.broken(frame).any(axis=0) | self._unwanted(frame))

    def _settled(self, rows: Rows) -> Rows:
        """Step 1."""
        return self._relabelled(rows, self._changed(rows, self.rules.computed(rows.frame)))

    def _changed(self, rows: Rows, frame: pd.DataFrame) -> Rows:
        """The rows with other native values; codes follow where these differ."""
        codes = rows.codes.copy()
        for name in self.rules.touched:
            place, column = self.source.schema.names.index(name), self.source.schema[name]
            cells = np.flatnonzero(differ(rows.frame[name], frame[name]))
            if len(cells):
                codes[cells, place] = column.encode(column.parse(pa.Array.from_pandas(frame[name].iloc[cells])))
        return Rows(frame, codes)

    def _relabelled(self, before: Rows, rows: Rows) -> Rows:
        """With labels drawn anew where features have other codes than before."""
        schema, labels = self.source.schema, self.source.labels
        features = [i for i, name in enumerate(schema.names) if name not in labels]
        changed = np.flatnonzero((before.codes[:, features] != rows.codes[:, features]).any(axis=1))
        if self.source.relabel is None or not labels or not len(changed):
            return rows
        codes = self.source.relabel(rows.codes[changed], self.generator)
        part = rows.at(changed)
        drawn = {
            name: schema[name].decode(codes[:, schema.names.index(name)], self.generator).astype(part.frame[name].dtype)
            for name in labels
        }
        part = Rows(part.frame.assign(**drawn), codes)
        return rows.with_rows(changed, self._changed(part, self.rules.computed(part.frame)))

    def _redrawn(self, rows: Rows, left: npt.NDArray[np.int64]) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Step 2; also the rows for which no try served."""
        for number in range(TRIES):
            if not len(left):
                break
            tried = self._settled(self._drawn(min(len(rows.frame), _FOR_EACH * len(left))))
            good = np.flatnonzero(~self._bad(tried.frame))
            matched = number < _MATCHED
            places, others = _pairs(self._strata(rows.codes[left], matched), self._strata(tried.codes[good], matched))
            rows = rows.with_rows(left[places], tried.at(good[others]))
            left = np.delete(left, places)
        return rows, left

    def _strata(self, codes: Codes, matched: bool) -> npt.NDArray[np.int64]:
        """A number for each row, equal for rows of one stratum; where strata do not matter the same for all."""
        schema, strata = self.source.schema, np.zeros(len(codes), np.int64)
        if not matched:
            return strata
        kept_codes = {*self.rules.conditions, *self.source.labels}
        for place, column in enumerate(schema.columns):
            if column.name in kept_codes:
                strata = strata * column.size + codes[:, place]
            elif column.name in self.rules.compared:
                strata = strata * 2 + (codes[:, place] == column.null_code)
        return strata

    def _repaired(self, rows: Rows, left: npt.NDArray[np.int64]) -> tuple[Rows, int]:
        """Step 3; also how many rows were replaced."""
        if not len(left):
            return rows, 0
        sound = np.setdiff1d(np.arange(len(rows.frame)), left)
        pool, part = rows.frame.iloc[sound], rows.at(left)
        if self.rules:
            mended = self._changed(part, self.rules.repaired(part.frame, pool, self.generator))
            part = self._relabelled(part, mended)
            if self.rules.broken(part.frame).any():  # a label that was drawn may break a rule about labels
                part = self._changed(part, self.rules.repaired(part.frame, pool, self.generator))
        lost = np.flatnonzero(self._bad(part.frame))
        rows = rows.with_rows(left, part)
        if not len(lost):
            return rows, 0
        return self._replaced(rows, left[lost]), len(lost)

    def _replaced(self, rows: Rows, lost: npt.NDArray[np.int64]) -> Rows:
        """With other rows of the block, or of none is sound with made-up ones, in the place of some."""
        sound = np.setdiff1d(np.arange(len(rows.frame)), lost)
        if len(sound):
            return rows.with_rows(lost, rows.at(self.generator.choice(sound, len(lost))))
        found = witnesses(self.rules, self.source.schema)
        found = found[~self._unwanted(found)]
        if not len(found):
            raise SamplingRefused(
                "no row that the model draws keeps all constraints and meets the condition; ask for a wider condition"
            )
        frame = found.iloc[self.generator.integers(0, len(found), len(lost))].reset_index(drop=True)
        schema = self.source.schema
        return rows.with_rows(lost, Rows(frame, schema.encode(schema.parse(pa.Table.from_pandas(frame)))))
