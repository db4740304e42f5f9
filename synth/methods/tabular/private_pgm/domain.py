"""The domain that a graphical model works on: groups of codes, which follow from the noisy histograms for free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from synth.contract import Contract
from synth.events import DiscreteGaussian, parts_of
from synth.guard import Sealed
from synth.methods.base import Arrays
from synth.methods.tabular.groups import Groups, most_groups_of, share_that_fits, smallest_share
from synth.methods.tabular.marginals import Probabilities
from synth.methods.tabular.one_way import OneWay
from synth.methods.tabular.private_pgm.graphical_model import MeasuredTable
from synth.plan import Demand, ReleasePlan, integer_queries, nominal_rho
from synth.records import TRAIN, CodedRecords
from synth.schema import Schema


@dataclass(frozen=True)
class Compressed:
    """Groups of codes, and what the histograms say of them.

    :ivar singles: the noisy count of each group, a table of one column each.
    """

    groups: Groups
    singles: tuple[MeasuredTable, ...]
    shares: tuple[Probabilities, ...]
    rows: float

    @classmethod
    def of(cls, schema: Schema, columns: OneWay, least: float) -> Compressed:
        """Groups with a share of about ``least`` or more."""
        return cls._of_groups(Groups.from_marginals(schema, columns.distributions, least), columns)

    @classmethod
    def restored(cls, schema: Schema, columns: OneWay, groups: npt.NDArray[np.int32]) -> Compressed:
        """By the groups that a mechanism committed: a retry may run on a machine that rounds otherwise."""
        return cls._of_groups(Groups(tuple(schema.split_by_column(groups))), columns)

    @classmethod
    def _of_groups(cls, groups: Groups, columns: OneWay) -> Compressed:
        # One number a table is what the fit takes: the root mean square over groups of different width.
        singles = tuple(
            MeasuredTable((i,), counts, columns.sigma * math.sqrt(float(np.mean(joined))))
            for i, (counts, joined) in enumerate(zip(columns.of_groups(groups), groups.counts, strict=True))
        )
        return cls(groups, singles, tuple(groups.shares(columns.distributions)), columns.rows)

    @property
    def sizes(self) -> list[int]:
        """Groups of each column."""
        return self.groups.sizes

    def sealed(self, records: Sealed[CodedRecords]) -> Sealed[CodedRecords]:
        """Private rows as groups."""
        return records.then(lambda opened: CodedRecords(self.groups.of(opened.codes), opened.owners))

    def product_counts(self, first: int, second: int) -> Probabilities:
        """About how many rows each pair of groups would have if columns did not depend on each other."""
        return np.outer(self.shares[first], self.shares[second]) * self.rows

    def arrays(self) -> Arrays:
        """What :meth:`restored` needs."""
        return {"groups": np.concatenate(self.groups.of_codes)}

    def split(self, counts: npt.NDArray[np.integer], tables: Sequence[tuple[int, ...]]) -> list[Probabilities]:
        """One array a table, from all tables' cells in one row."""
        shapes = [[self.sizes[i] for i in columns] for columns in tables]
        parts = np.split(counts.astype(np.float64), np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def planned_share(contract: Contract, schema: Schema, train_units: float, share: float, tables: int) -> float:
    """The share of the rows that a group is to have, from public facts: what the noise of a table will about be."""
    privacy = contract.privacy
    event = DiscreteGaussian(1.0, privacy.max_records, tables)
    sigma = event.scaled_to(nominal_rho(privacy.epsilon, privacy.delta) * share).sigma
    return share_that_fits(schema, smallest_share(sigma, train_units * (1 + privacy.max_records) / 2))


def share_of_groups(contract: Contract, plan: ReleasePlan, mechanism: str) -> float:
    """The planned share, or a larger one where the noise came out larger than was foreseen: at a policy's pace."""
    train_units = contract.privacy.approximate_units * (1 - plan.holdout_fraction)
    rows = train_units * (1 + contract.privacy.max_records) / 2
    sigma = max(part.sigma for part in parts_of(plan[mechanism].event) if isinstance(part, DiscreteGaussian))
    return max(float(plan[mechanism].parameters["smallest_share"]), smallest_share(sigma, rows))


def most_cells(schema: Schema, least: float, width: int) -> int:
    """How many cells the largest table of so many columns may have."""
    sizes = most_groups_of(schema, least)
    return max(math.prod(chosen) for chosen in combinations(sizes, min(width, len(sizes))))


def noisy_table_demand(
    name: str, contract: Contract, schema: Schema, train_units: float, share: float, tables: int
) -> Demand:
    """So many tables of pairs, not yet known which."""
    least = planned_share(contract, schema, train_units, share, tables)
    return Demand(
        name,
        (TRAIN,),
        share,
        integer_queries(DiscreteGaussian(1.0, contract.privacy.max_records, tables)),
        "the tables of the chosen pairs, codes joined into groups; a row counts in the tables of those columns in "
        "which it has a declared value",
        {"pairs": tables, "smallest_share": least, "cells": tables * most_cells(schema, least, 2)},
    )
