"""AIM (McKenna, Mullins, Sheldon, Miklau, 2022): again and again the table that the model gets most wrong is measured.

1. Measure every column; join codes into groups that stand out of the noise; fit a graphical model to the columns.
2. In each round score every table that the model could still hold: by how many rows it differs from the model's, less
   what its own noise would amount to, times its weight in the workload. Choose one by the exponential mechanism,
   measure it, and fit the model again.
3. Draw from the last model.

The workload is all pairs of columns, of which each counts as much; a table's weight is how many columns it shares with
them, so a pair weighs two and a single column one.

*Sensitivity of the scores.* The model is made of what was released before, its counts rounded to whole numbers; one row
changes one cell of a table by one, so a unit's at most k rows change a sum of absolute differences by at most k, and a
score by at most 2k.

*From the paper it differs* in that everything is planned before any data is seen: a fixed number of rounds, each with
the same noise, where the paper lowers the noise when a round has taught little, down to an end that it does not know
beforehand; and in the grid, groups of codes where the paper takes each code. docs/methods.md has what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from synth.contract import AimOptions, Contract
from synth.events import Composed, DiscreteGaussian, ExponentialSelection
from synth.guard import Sealed, Spend
from synth.mechanisms import exact_table, noisy_tables, require_bounded, selected
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular.network_model import NetworkModel
from synth.methods.tabular.one_way import marginals_demand, measure_columns
from synth.methods.tabular.private_pgm.domain import Compressed, most_cells, planned_share, share_of_groups
from synth.methods.tabular.private_pgm.graphical_model import (
    GraphicalModel,
    MeasuredTable,
    fitted,
    require_mbi,
    size_mb,
)
from synth.plan import Demand, ReleasePlan, choose_and_count
from synth.progress import Progress
from synth.records import TRAIN, CodedRecords
from synth.schema import Schema

_CHOOSING = 0.1  # of a round's budget, as in the paper
_HEAVIEST = 2
_ROUNDS_PER_COLUMN = 2
_ITERATIONS = 1000  # of the fit after a round; the last one has more


class Aim:
    """The synthesizer ``aim``."""

    name = "aim"

    def demands(self, contract: Contract, schema: Schema, train_units: float) -> Sequence[Demand]:
        """Histograms, and all rounds as one mechanism: what a round measures depends on the rounds before."""
        options, records = _options(contract), contract.privacy.max_records
        rounds = options.rounds or _ROUNDS_PER_COLUMN * len(schema.columns)
        least = planned_share(contract, schema, train_units, options.shares.aim * (1 - _CHOOSING), rounds)
        choices = ExponentialSelection(1.0, _HEAVIEST * records, rounds)
        return [
            marginals_demand(contract, schema, options.shares.marginals),
            Demand(
                "aim",
                (TRAIN,),
                options.shares.aim,
                choose_and_count(choices, DiscreteGaussian(1.0, records, rounds), _CHOOSING),
                "rounds that each choose a table of one or two columns, codes joined into groups, by how far the "
                "model is from it, and measure it",
                {"smallest_share": least, "cells": rounds * most_cells(schema, least, 2)},
            ),
        ]

    def advice(self, contract: Contract, schema: Schema, train_units: float) -> str:
        """Nothing: what drowns in noise is not chosen."""
        return ""

    def fit(
        self,
        records: Sealed[CodedRecords],
        contract: Contract,
        schema: Schema,
        plan: ReleasePlan,
        once: RunOnce,
        progress: Progress,
    ) -> NetworkModel:
        """Steps 1 and 2."""
        require_mbi()
        columns = measure_columns(records, schema, plan, once)
        compressed = Compressed.of(schema, columns, share_of_groups(contract, plan, "aim"))
        event, limit = plan["aim"].event, _options(contract).max_model_mb
        assert isinstance(event, Composed)

        def measure(spend: Spend) -> Arrays:
            rounds = _Rounds(compressed.sealed(records).open(spend), compressed, limit)
            measured = rounds.run(event, progress)
            # The groups too: a retry may run on a machine that rounds otherwise.
            return {
                "columns": np.array([(*table.columns, -1)[:2] for table in measured], np.int64),
                "counts": np.concatenate([table.counts.ravel() for table in measured]).astype(np.int64),
                **compressed.arrays(),
            }

        done = once("aim", measure)
        compressed = Compressed.restored(schema, columns, done["groups"])
        chosen = [tuple(int(column) for column in table if column >= 0) for table in done["columns"]]
        sigma = _noise(event)[1].sigma
        tables = [
            MeasuredTable(table, counts, sigma)
            for table, counts in zip(chosen, compressed.split(done["counts"], chosen), strict=True)
        ]
        model = fitted(compressed.sizes, [*compressed.singles, *tables], columns.rows)
        return NetworkModel(schema, columns.distributions, compressed.groups, model.network, chosen)

    def restore(self, arrays: Arrays, contract: Contract, schema: Schema) -> NetworkModel:
        """The model from :meth:`NetworkModel.arrays`."""
        return NetworkModel.restored(arrays, schema)


@dataclass(frozen=True)
class _Rounds:
    """Step 2, on private rows."""

    records: CodedRecords
    compressed: Compressed
    limit_mb: float

    def run(self, event: Composed, progress: Progress) -> list[MeasuredTable]:
        """The tables, in the order in which they were measured: one for each round that the event counts."""
        choices, counts = _noise(event)
        require_bounded(len(self.records.codes), self.records.owners, counts.sensitivity)
        sizes, singles, rows = self.compressed.sizes, self.compressed.singles, self.compressed.rows
        candidates = [*((i,) for i in range(len(sizes))), *combinations(range(len(sizes)), 2)]
        exact = {columns: exact_table(self.records.codes, sizes, columns) for columns in candidates}
        model, measured = fitted(sizes, singles, rows), list[MeasuredTable]()
        for done, (choice, count) in enumerate(zip(choices.singles(), counts.singles(), strict=True), start=1):
            held = {table.columns for table in measured}
            open_to = self._within(candidates, held, self.limit_mb * done / counts.compositions)
            expected = model.network.marginals(open_to)
            scores = [
                len(columns) * (
                    int(np.abs(exact[columns] - np.rint(table * rows).astype(np.int64)).sum())
                    - round(math.sqrt(2 / math.pi) * counts.sigma * table.size)
                )
                for columns, table in zip(open_to, expected, strict=True)
            ]  # fmt: skip
            columns = open_to[selected(scores, choice)]
            (noisy,) = noisy_tables(self.records.codes, sizes, [columns], count, self.records.owners)
            measured.append(MeasuredTable(columns, noisy.astype(np.float64), counts.sigma))
            model = self._again(model, measured) if done < counts.compositions else model
            progress("train", done, counts.compositions)
        return measured

    def _again(self, model: GraphicalModel, measured: list[MeasuredTable]) -> GraphicalModel:
        tables = [*self.compressed.singles, *measured]
        return fitted(self.compressed.sizes, tables, self.compressed.rows, model, _ITERATIONS)

    def _within(
        self, candidates: Sequence[tuple[int, ...]], held: set[tuple[int, ...]], limit_mb: float
    ) -> list[tuple[int, ...]]:
        """The tables that leave the model small enough; what it holds already costs nothing."""
        sizes, cliques = self.compressed.sizes, list(held)
        return [
            columns
            for columns in candidates
            if len(columns) == 1 or columns in held or size_mb(sizes, [*cliques, columns]) <= limit_mb
        ]


def _noise(event: Composed) -> tuple[ExponentialSelection, DiscreteGaussian]:
    choices, counts = event.parts
    assert isinstance(choices, ExponentialSelection)
    assert isinstance(counts, DiscreteGaussian)
    return choices, counts


def _options(contract: Contract) -> AimOptions:
    options = contract.method.options
    assert isinstance(options, AimOptions)
    return options
