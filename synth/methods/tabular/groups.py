"""Groups of codes: neighbouring or rare codes of a column, taken together where pairs of columns are measured.

A table of two columns with a thousand cells each would drown in noise. Which codes go together is decided by released
marginals and public facts alone, so it costs nothing; inside its group a code is drawn by the released marginal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from synth.methods.tabular.marginals import Probabilities
from synth.schema import Codes, ColumnDomain, Schema

_FINEST = 1 / 48  # share of the rows that a group is to have at least
_COARSEST = 0.5
_MOST_IN_ALL = 4000  # groups of all columns that are planned for: time and memory of a fit grow with their square
NO_GROUP = -1  # of null where the contract allows none


@dataclass(frozen=True)
class Groups:
    """Which group each code of each column is in.

    :ivar of_codes: one array a column, shape (size,); null is a group of its own, the last, or ``NO_GROUP``.
    """

    of_codes: tuple[npt.NDArray[np.int32], ...]

    @classmethod
    def from_marginals(cls, schema: Schema, distributions: Sequence[Probabilities], least: float) -> Groups:
        """Groups with a share of about ``least`` or more; every class of a target of classes stays by itself."""
        found = []
        for column, distribution in zip(schema.columns, distributions, strict=True):
            cells = distribution[:-1]
            if column.name in schema.targets and not column.is_numeric:
                groups = np.arange(len(cells))
            else:
                groups = _neighbours(cells, least) if column.in_order else _rare_together(cells, least)
            null = groups.max() + 1 if column.nullable else NO_GROUP
            found.append(np.append(groups, null).astype(np.int32))
        return cls(tuple(found))

    @classmethod
    def each_code(cls, schema: Schema) -> Groups:
        """Every code by itself."""
        codes = [np.arange(column.size, dtype=np.int32) for column in schema.columns]
        return cls(tuple(
            each if column.nullable else np.append(each[:-1], np.int32(NO_GROUP))
            for column, each in zip(schema.columns, codes, strict=True)
        ))  # fmt: skip

    @cached_property
    def sizes(self) -> list[int]:
        """Groups of each column."""
        return [int(groups.max()) + 1 for groups in self.of_codes]

    @cached_property
    def counts(self) -> list[npt.NDArray[np.int64]]:
        """How many codes are in each group, one array a column."""
        return [np.bincount(groups[groups >= 0]) for groups in self.of_codes]

    def of(self, codes: Codes) -> Codes:
        """Groups of rows of codes, shape (rows, columns)."""
        return np.column_stack([groups[codes[:, i]] for i, groups in enumerate(self.of_codes)])

    def shares(self, distributions: Sequence[Probabilities]) -> list[Probabilities]:
        """The share of each group, one array a column."""
        return [
            np.bincount(groups[groups >= 0], distribution[groups >= 0], size).astype(np.float64)
            for groups, distribution, size in zip(self.of_codes, distributions, self.sizes, strict=True)
        ]

    def given(
        self, distributions: Sequence[Probabilities], evidence: Mapping[int, Probabilities]
    ) -> tuple[dict[int, Probabilities], list[Probabilities]]:
        """Evidence on codes as evidence on groups, and distributions by which codes are drawn inside their group.

        :param evidence: by column, for each code how likely it meets a condition; shape (size,).
        :returns: by column for each group how likely its codes meet the condition, as :meth:`drawn` draws them; and
            the distributions with the codes weighed by it.
        """
        of_groups: dict[int, Probabilities] = {}
        weighed = list(distributions)
        for column, each in evidence.items():
            groups, size = self.of_codes[column], self.sizes[column]
            member = groups >= 0
            place, mass = groups[member], distributions[column][member]
            whole = np.bincount(place, mass, size)
            inside = np.where(
                whole[place] > 0, mass / np.where(whole > 0, whole, 1)[place], 1 / self.counts[column][place]
            )
            of_groups[column] = np.bincount(place, inside * each[member], size).astype(np.float64)
            weighed[column] = np.zeros(len(groups))
            weighed[column][member] = inside * each[member]
        return of_groups, weighed

    def drawn(self, grouped: Codes, distributions: Sequence[Probabilities], generator: np.random.Generator) -> Codes:
        """A code for each group of each row, by the marginal inside the group, with low variance."""
        columns = []
        for i, (groups, distribution) in enumerate(zip(self.of_codes, distributions, strict=True)):
            order = np.argsort(groups, kind="stable")
            order = order[groups[order] >= 0]
            members = groups[order]
            mass = distribution[order]
            whole = np.bincount(members, mass, self.sizes[i])
            counts = np.bincount(members, minlength=self.sizes[i])
            even = whole[members] <= 0  # a group that the marginal gives nothing
            mass = np.where(even, 1 / counts[members], mass / np.maximum(whole[members], 1e-300))
            # Group g owns the interval [g, g + 1), and each of its codes a piece as long as its mass.
            ends = np.cumsum(mass)
            points = grouped[:, i] + _even_points(grouped[:, i], self.sizes[i], generator)
            place = np.minimum(np.searchsorted(ends, points * (1 - 1e-12), side="right"), len(order) - 1)
            columns.append(_inside(order, members, place, grouped[:, i]))
        return np.column_stack(columns).astype(np.int32)


def smallest_share(sigma: float, rows: float) -> float:
    """The share of the rows that a group needs to stand out of the noise of its tables. Public numbers only."""
    return float(min(_COARSEST, max(_FINEST, 4 * np.sqrt(2) * sigma / rows)))


def share_that_fits(schema: Schema, least: float) -> float:
    """``least``, or as much more as it takes for a wide table's groups to be few enough in all.

    Fits take about half of the groups that can be at most: two thousand are some 600 MB and a minute or two.
    """
    while least < _COARSEST and _most_in_all(schema, least) > _MOST_IN_ALL:
        least = min(_COARSEST, 1.05 * least)
    return least


def most_groups_of(schema: Schema, least: float) -> list[int]:
    """How many groups each column can have at most; every class of a target is one."""
    return [
        column.size if column.name in schema.targets and not column.is_numeric else most_groups(column, least)
        for column in schema.columns
    ]


def most_groups(column: ColumnDomain, least: float) -> int:
    """How many groups a column whose codes are joined can have at most: each but the first and the last takes half of
    ``least`` or more, and null is one more."""
    return min(column.cells, int(2 / least) + 2) + column.nullable


def _most_in_all(schema: Schema, least: float) -> int:
    return sum(most_groups_of(schema, least))


def _neighbours(cells: Probabilities, least: float) -> npt.NDArray[np.int64]:
    """Neighbours together until they have ``least``; a cell that has it alone stays alone."""
    groups = np.zeros(len(cells), np.int64)
    group, share = 0, 0.0
    for i, cell in enumerate(cells):
        if cell >= least and share > 0:
            group += share >= least / 2 or group == 0  # what is too little joins the spike
            share = 0.0
        groups[i] = group
        share += cell
        if share >= least:
            group, share = group + 1, 0.0
    if 0 < share < least / 2 and group > 0:
        groups[groups == group] = group - 1
    return np.unique(groups, return_inverse=True)[1]


def _rare_together(cells: Probabilities, least: float) -> npt.NDArray[np.int64]:
    frequent = np.flatnonzero(cells >= least)
    groups = np.full(len(cells), len(frequent))
    groups[frequent] = np.arange(len(frequent))
    return np.unique(groups, return_inverse=True)[1]


def _even_points(groups: Codes, size: int, generator: np.random.Generator) -> Probabilities:
    """For each row a point in [0, 1): those of one group stand evenly, in random order."""
    order = generator.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    counts = np.bincount(groups, minlength=size)
    starts = np.cumsum(counts) - counts
    points = np.empty(len(groups))
    points[order] = (np.arange(len(groups)) - starts[groups[order]] + generator.random(size)[groups[order]]) / (
        np.maximum(counts, 1)[groups[order]]
    )
    return points


def _inside(
    order: npt.NDArray[np.int64], members: npt.NDArray[np.int32], place: npt.NDArray[np.int64], groups: Codes
) -> npt.NDArray[np.int64]:
    """The codes at ``place``, moved back into their group where rounding carried a point over its edge."""
    first = np.searchsorted(members, groups, side="left")
    last = np.searchsorted(members, groups, side="right") - 1
    return order[np.clip(place, first, last)]
