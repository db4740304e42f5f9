"""MST (McKenna, Miklau, Sheldon, 2021): a tree of pairs, chosen under privacy, and Private-PGM on what is measured.

1. Measure every column; join codes into groups that stand out of the noise.
2. Choose a spanning tree over the columns: Kruskal's algorithm, each edge by the exponential mechanism among those that
   join two parts of the forest. An edge's score is by how many rows the pair's table differs, in all cells together,
   from that of independent columns.
3. Measure the tables of the tree's edges.
4. Fit a graphical model to all of it, and draw from that.

*Sensitivity of the scores.* The other table in the difference is made of released counts, so it stays the same on
neighbours; one row changes one cell of the pair's own by one, so a unit's at most k rows change the sum of absolute
differences by k at most. Counts are whole numbers, and the released table's are rounded to such.

From the paper it differs in the grid: groups of codes on a public grid, where the paper takes each code, and joins
rare ones. All noise is on integers; nothing of it is ``mbi``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from synth.contract import Contract, MstOptions
from synth.events import ExponentialSelection
from synth.guard import Sealed, Spend
from synth.mechanisms import exact_table, noisy_tables, require_bounded, selected
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular.network_model import NetworkModel
from synth.methods.tabular.one_way import marginals_demand, measure_columns
from synth.methods.tabular.private_pgm.domain import Compressed, noisy_table_demand, share_of_groups
from synth.methods.tabular.private_pgm.graphical_model import MeasuredTable, fitted, require_mbi
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.progress import Progress
from synth.records import TRAIN, CodedRecords
from synth.schema import Schema

Pair = tuple[int, int]


class Mst:
    """The synthesizer ``mst``."""

    name = "mst"

    def demands(self, contract: Contract, schema: Schema, train_units: float) -> Sequence[Demand]:
        """Histograms, the tree's choices, the tree's tables."""
        shares, records, edges = _options(contract).shares, contract.privacy.max_records, len(schema.columns) - 1
        return [
            marginals_demand(contract, schema, shares.marginals),
            Demand(
                "tree",
                (TRAIN,),
                shares.tree,
                integer_queries(ExponentialSelection(1.0, records, edges)),
                "which pairs of columns are measured: a spanning tree, edge by edge",
                {"columns": len(schema.columns)},
            ),
            noisy_table_demand("tables", contract, schema, train_units, shares.tables, edges),
        ]

    def advice(self, contract: Contract, schema: Schema, train_units: float) -> str:
        """Nothing: a tree has few tables."""
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
        """Steps 1 to 4."""
        require_mbi()
        columns = measure_columns(records, schema, plan, once)
        compressed = Compressed.of(schema, columns, share_of_groups(contract, plan, "tables"))
        progress("train", 1, 4)
        select, measure = plan["tree"].event, plan.counts("tables")
        assert isinstance(select, ExponentialSelection)

        def choose(spend: Spend) -> Arrays:
            opened = compressed.sealed(records).open(spend)
            return {"edges": _tree(opened, compressed, select), **compressed.arrays()}

        chosen = once("tree", choose)
        compressed = Compressed.restored(schema, columns, chosen["groups"])
        edges = [(int(a), int(b)) for a, b in chosen["edges"]]
        progress("train", 2, 4)

        def count(spend: Spend) -> Arrays:
            opened = compressed.sealed(records).open(spend)
            tables = noisy_tables(opened.codes, compressed.sizes, edges, measure, opened.owners)
            return {"counts": np.concatenate([table.ravel() for table in tables])}

        counts = compressed.split(once("tables", count)["counts"], edges)
        progress("train", 3, 4)
        measured = [MeasuredTable(edge, table, measure.sigma) for edge, table in zip(edges, counts, strict=True)]
        model = fitted(compressed.sizes, [*compressed.singles, *measured], columns.rows)
        progress("train", 4, 4)
        return NetworkModel(schema, columns.distributions, compressed.groups, model.network, edges)

    def restore(self, arrays: Arrays, contract: Contract, schema: Schema) -> NetworkModel:
        """The model from :meth:`NetworkModel.arrays`."""
        return NetworkModel.restored(arrays, schema)


def _tree(records: CodedRecords, compressed: Compressed, event: ExponentialSelection) -> npt.NDArray[np.int64]:
    """The edges of a spanning tree, shape (columns - 1, 2)."""
    require_bounded(len(records.codes), records.owners, event.sensitivity)
    sizes, product = compressed.sizes, compressed.product_counts
    scores = {
        (i, j): int(np.abs(exact_table(records.codes, sizes, (i, j)) - np.rint(product(i, j)).astype(np.int64)).sum())
        for i, j in combinations(range(len(sizes)), 2)
    }
    part = list(range(len(sizes)))
    edges: list[Pair] = []
    for choice in event.singles():
        candidates = [(i, j) for i, j in scores if part[i] != part[j]]
        i, j = candidates[selected([scores[pair] for pair in candidates], choice)]
        edges.append((i, j))
        part = [part[i] if each == part[j] else each for each in part]
    return np.array(edges, np.int64)


def _options(contract: Contract) -> MstOptions:
    options = contract.method.options
    assert isinstance(options, MstOptions)
    return options
