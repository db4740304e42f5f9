"""The targets' part of the plan: for each target one mechanism, by which its label model becomes more exact.

- ``label_correction``, of two classes or of a number: noisy sums of the label model's residuals, after its fit
  (:mod:`synth.methods.tabular.label_correction`).
- ``label_tables``, of more classes: the target's table with every other column once more, with less noise, before the
  fit. A correction would need a sum for each class, with noise for all of them; a table costs what one sum does. The
  mixture is fitted to the mean of both measurements, by inverse variance, and trusts it as much more. These tables are
  pairs too, so part of what the contract gives to pairs goes to them.

With several targets names carry their number in the task's order, and each gets its share of what labels get. Without a
target that goes to the tables of pairs and the histograms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from synth.contract import Contract, MixtureShares
from synth.events import DiscreteGaussian
from synth.methods.tabular.label_correction import MOST, Residuals, summed_sizes
from synth.methods.tabular.marginals import Probabilities
from synth.plan import Demand, integer_queries
from synth.records import TRAIN
from synth.schema import Schema

_MOVED = 0.28  # of the pairs' share to the tables of targets of more than two classes


@dataclass(frozen=True)
class LabelPart:
    """One target's mechanism.

    :ivar mechanism: its name in the plan.
    :ivar target: the column's name.
    :ivar hidden: places of the columns that its label model does not see: the target's, then those of later targets.
    :ivar classes: how many codes of the target are not null; groups of a number may be fewer.
    :ivar by_tables: whether tables are measured rather than residuals added up.
    :ivar share: of what the contract gives to labels.
    """

    mechanism: str
    target: str
    hidden: tuple[int, ...]
    classes: int
    by_tables: bool
    share: float

    @property
    def place(self) -> int:
        """The target's place among the columns."""
        return self.hidden[0]

    def demand(self, schema: Schema, most: Sequence[int], records: int, share: float) -> Demand:
        """The mechanism.

        :param most: groups that each column can have at most.
        :param share: of the release's budget.
        """
        columns = len(schema.columns)
        if self.by_tables:
            return Demand(
                self.mechanism,
                (TRAIN,),
                share,
                integer_queries(DiscreteGaussian(1.0, records, columns - 1)),
                f"the two-way tables of {self.target} with every other column once more",
                {"target": self.target, "cells": most[self.place] * (sum(most) - most[self.place])},
            )
        sizes = summed_sizes(most, self.hidden)
        return Demand(
            self.mechanism,
            (TRAIN,),
            share,
            integer_queries(DiscreteGaussian(1.0, MOST * records, len(sizes))),
            f"sums of the residuals of {self.target}'s label model, for every group of every column that it sees",
            {"target": self.target, "most": MOST, "cells": sum(sizes)},
        )


@dataclass(frozen=True)
class Divided:
    """Shares of the release's budget: of histograms, of the tables of pairs, and of each target's mechanism."""

    marginals: float
    pairs: float
    labels: tuple[float, ...]


def divided(shares: MixtureShares, parts: Sequence[LabelPart]) -> Divided:
    """The contract's shares, divided between the targets; public facts only."""
    if not parts:
        more = 1 + shares.label_correction / (shares.marginals + shares.pairs)
        return Divided(shares.marginals * more, shares.pairs * more, ())
    moved = [_MOVED * shares.pairs * part.share if part.by_tables else 0.0 for part in parts]
    labels = [shares.label_correction * part.share + more for part, more in zip(parts, moved, strict=True)]
    return Divided(shares.marginals, shares.pairs - sum(moved), tuple(labels))


def label_parts(contract: Contract, schema: Schema) -> tuple[LabelPart, ...]:
    """The targets' mechanisms, in the task's order."""
    wanted, places = contract.task.wanted, schema.target_places
    parts = []
    for position, target in enumerate(wanted):
        by_tables = target.kind == "multiclass"
        name = "label_tables" if by_tables else "label_correction"
        mechanism = name if len(wanted) == 1 else f"{name}_{position + 1}"
        cells, share = schema[target.target].cells, target.share or 0.0
        parts.append(LabelPart(mechanism, target.target, places[position:], cells, by_tables, share))
    return tuple(parts)


def joined_cells(tables: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """All cells of tables one after the other."""
    return np.concatenate([table.ravel() for table in tables])


def split_cells(counts: npt.NDArray[np.int64], shapes: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.int64]]:
    """The inverse of :func:`joined_cells`."""
    parts = np.split(counts, np.cumsum([a * b for a, b in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def pairs_with(place: int, columns: int) -> list[tuple[int, int]]:
    """The pairs that one column is in, in the order of ``itertools.combinations``."""
    return [pair for pair in combinations(range(columns), 2) if place in pair]


@dataclass(frozen=True)
class PairTables:
    """Noisy tables of all pairs in the order of ``itertools.combinations``, each with the scale of its noise."""

    columns: int
    tables: tuple[npt.NDArray[np.float64], ...]
    sigmas: tuple[float, ...]

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], sizes: Sequence[int], sigma: float) -> PairTables:
        """From all cells one after the other.

        :param sizes: how many groups each column has.
        """
        tables = split_cells(counts, list(combinations(sizes, 2)))
        return cls(len(sizes), tuple(table.astype(np.float64) for table in tables), (sigma,) * len(tables))

    def with_more(self, place: int, tables: Sequence[npt.NDArray[np.int64]], sigma: float) -> PairTables:
        """With one column's tables measured again: means by inverse variance."""
        more = dict(zip(pairs_with(place, self.columns), tables, strict=True))
        both = []
        for pair, table, own in zip(combinations(range(self.columns), 2), self.tables, self.sigmas, strict=True):
            if pair in more:
                part = own**2 / (own**2 + sigma**2)
                table, own = (1 - part) * table + part * more[pair], own * sigma / math.hypot(own, sigma)
            both.append((table, own))
        return PairTables(self.columns, tuple(table for table, _ in both), tuple(own for _, own in both))


def residuals_of(
    schema: Schema, part: LabelPart, groups: npt.NDArray[np.int32], distribution: Probabilities, size: int
) -> Residuals:
    """How the residuals of a part are taken.

    :param groups: of each code of the target.
    :param distribution: of the target's codes, as released.
    :param size: how many of its groups are not null.
    """
    column = schema[part.target]
    if not column.is_numeric:
        return Residuals.of_two_classes()
    return Residuals.of_number(*group_means(column.representatives, groups, distribution, size))


def group_means(
    representatives: npt.NDArray[np.float64], groups: npt.NDArray[np.int32], distribution: Probabilities, size: int
) -> tuple[npt.NDArray[np.float64], Probabilities]:
    """The mean number in each group by the released distribution, and the group's share. Both of shape (size,)."""
    cells = slice(0, len(representatives) - 1)
    members, mass = groups[cells], np.maximum(distribution[cells], 1e-12)
    share = np.bincount(members, mass, size).astype(np.float64)
    return np.bincount(members, mass * representatives[cells], size) / share, share
