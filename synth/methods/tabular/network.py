"""A chain of conditional tables: each column given some that come before it. Draws rows, conditions, adds up tables.

Every model of a table that has no cycles beyond its cliques can be put so: columns in an order, each with parents among
the earlier ones, such that the parents of a column are parents and children of each other (the order of a chordal
graph). Then no table larger than a clique is ever made, one column's values can be drawn for all rows at once, and
marginals of any few columns follow exactly. Plain numpy; the same arrays give the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.methods.tabular.marginals import Probabilities
from synth.schema import Codes

_LEAST = 1e-300
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Network:
    """A distribution of rows of codes.

    :ivar columns: all columns, in the order in which they are drawn.
    :ivar parents: for each of these the earlier columns that it depends on.
    :ivar tables: for each its distribution given its parents, axes in that order, itself last.
    """

    columns: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[Probabilities, ...]

    @classmethod
    def of_independent(cls, distributions: Sequence[Probabilities]) -> Network:
        """Columns that do not depend on each other."""
        count = len(distributions)
        return cls(tuple(range(count)), ((),) * count, tuple(distributions))

    def rows(self, count: int, generator: np.random.Generator) -> Codes:
        """Drawn rows, shape (count, columns), with low variance: rows alike in their parents share them out evenly."""
        drawn = np.zeros((count, len(self.columns)), np.int32)
        for column, parents, table in zip(self.columns, self.parents, self.tables, strict=True):
            cases = _places(drawn, parents, table.shape)
            drawn[:, column] = _shared_out(table.reshape(-1, table.shape[-1]), cases, generator)
        return generator.permutation(drawn)

    def conditional(self, column: int, codes: Codes) -> Probabilities:
        """The distribution of one column given the others' codes in each row. Shape (rows, codes).

        A code below 0 in another column says nothing: tables that would need it are left out.
        """
        size = self.tables[self.columns.index(column)].shape[-1]
        logs = np.zeros((len(codes), size))
        for child, parents, table in zip(self.columns, self.parents, self.tables, strict=True):
            axes = (*parents, child)
            if column not in axes:
                continue
            others = tuple(i for i in axes if i != column)
            moved = np.moveaxis(table, axes.index(column), -1)
            known = np.logical_and.reduce([codes[:, i] >= 0 for i in others], initial=True)
            known = np.broadcast_to(known, len(codes))
            cases = _places(codes[known], others, moved.shape)
            logs[known] += np.log(np.maximum(moved.reshape(-1, size), _LEAST))[cases]
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def given(self, evidence: Mapping[int, Probabilities]) -> tuple[Network, float]:
        """The network conditioned on evidence, and how likely its rows meet that.

        From the last column to the first: how likely a column meets its evidence goes into the table of its last
        parent, of which its other parents are parents too.

        :param evidence: by column, for each code how likely it meets the condition; shape (codes,).
        """
        waiting: list[tuple[tuple[int, ...], Probabilities]] = []
        tables, share = list(self.tables), 1.0
        for place in range(len(self.columns) - 1, -1, -1):
            column, parents = self.columns[place], self.parents[place]
            axes = (*parents, column)
            likely = self.tables[place] * evidence.get(column, 1.0)
            for others, mass in [each for each in waiting if column in each[0]]:
                operands: Any = (likely, axes, mass, others, axes)
                likely = np.einsum(*operands)
            waiting = [each for each in waiting if column not in each[0]]
            mass = likely.sum(axis=-1)
            tables[place] = np.where(
                mass[..., None] > 0, likely / np.where(mass > 0, mass, 1)[..., None], tables[place]
            )
            if parents:
                waiting.append((parents, mass))
            else:
                share *= float(mass)
        return Network(self.columns, self.parents, tuple(tables)), share

    def marginals(self, wanted: Sequence[tuple[int, ...]]) -> list[Probabilities]:
        """The joint distribution of each set of columns, axes in the order given.

        Of a set the column that is drawn last is replaced by its parents until all are in one table. For pairs no
        intermediate is larger than one column by a clique.
        """
        known: dict[frozenset[int], tuple[tuple[int, ...], Probabilities]] = {}
        found = []
        for columns in wanted:
            axes, table = self._marginal(frozenset(columns), known)
            found.append(np.transpose(table, [axes.index(column) for column in columns]))
        return found

    def _marginal(
        self, columns: frozenset[int], known: dict[frozenset[int], tuple[tuple[int, ...], Probabilities]]
    ) -> tuple[tuple[int, ...], Probabilities]:
        if not columns:
            return (), np.ones(())
        if columns not in known:
            last = max(columns, key=self._place.__getitem__)
            place, own = self._place[last], tuple(sorted(columns))
            parents = self.parents[place]
            axes, rest = self._marginal((columns - {last}) | set(parents), known)
            operands: Any = (rest, axes, self.tables[place], (*parents, last), own)
            known[columns] = own, np.einsum(*operands, optimize=True)
        return known[columns]

    @cached_property
    def _place(self) -> dict[int, int]:
        return {column: place for place, column in enumerate(self.columns)}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The network as arrays that :meth:`from_arrays` takes."""
        return {
            "columns": np.array(self.columns, np.int64),
            "parents": np.array([parent for parents in self.parents for parent in parents], np.int64),
            "parent_counts": np.array([len(parents) for parents in self.parents], np.int64),
            "tables": np.concatenate([table.ravel() for table in self.tables]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], sizes: Sequence[int]) -> Network:
        """The inverse of :meth:`arrays`.

        :param sizes: codes of each column.
        """
        columns = tuple(int(column) for column in arrays["columns"])
        ends = np.concatenate([[0], np.cumsum(arrays["parent_counts"])])
        listed = [int(parent) for parent in arrays["parents"]]
        parents = tuple(tuple(listed[start:end]) for start, end in pairwise(ends))
        shapes = [[sizes[i] for i in (*above, column)] for above, column in zip(parents, columns, strict=True)]
        cells = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        tables = np.split(np.asarray(arrays["tables"], np.float64), cells)
        return cls(columns, parents, tuple(table.reshape(shape) for table, shape in zip(tables, shapes, strict=True)))


def _places(codes: Codes, columns: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """The place of each row's codes among all combinations; ``shape`` begins with the columns' sizes."""
    places = np.zeros(len(codes), np.int64)
    for column, size in zip(columns, shape, strict=False):
        places = places * size + codes[:, column]
    return places


def _shared_out(
    tables: Probabilities, cases: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """A code for each row from its case's distribution: rows of one case stand evenly on it, in random order."""
    present, cases = np.unique(cases, return_inverse=True)
    order = generator.permutation(len(cases))
    order = order[np.argsort(cases[order], kind="stable")]
    counts = np.bincount(cases, minlength=len(present))
    first = np.cumsum(counts) - counts
    points = np.empty(len(cases))
    ranked = cases[order]
    points[order] = (np.arange(len(cases)) - first[ranked] + generator.random(len(present))[ranked]) / counts[ranked]
    # Case k owns the interval [k, k + 1): one search for all rows.
    cumulative = np.cumsum(tables[present], axis=1)
    ends = (cumulative / cumulative[:, -1:] + np.arange(len(present))[:, None]).ravel()
    size = tables.shape[1]
    codes = np.searchsorted(ends, cases + points * (1 - _ROUNDING), side="right") - cases * size
    last = size - 1 - np.argmax(tables[present][:, ::-1] > 0, axis=1)  # rounding must not reach a code without mass
    return np.clip(codes, 0, last[cases])
