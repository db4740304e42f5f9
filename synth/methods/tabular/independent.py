"""Independent columns: each is drawn from its own noisy histogram, the label as any other.

The floor of every comparison: single columns are as good as a budget that is spent on nothing else makes them, and no
column says anything about another. A label model on top of such columns is another method: see
:mod:`synth.methods.tabular.dpdsyn`.
"""

from __future__ import annotations

from collections.abc import Sequence

from synth.contract import Contract, ProductOptions
from synth.guard import Sealed
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular.groups import Groups
from synth.methods.tabular.network import Network
from synth.methods.tabular.network_model import NetworkModel
from synth.methods.tabular.one_way import marginals_demand, measure_columns
from synth.plan import Demand, ReleasePlan
from synth.progress import Progress
from synth.records import CodedRecords
from synth.schema import Schema


class IndependentColumns:
    """The synthesizer ``independent``."""

    name = "independent"

    def demands(self, contract: Contract, schema: Schema, train_units: float) -> Sequence[Demand]:
        """Histograms, and nothing else."""
        options = contract.method.options
        assert isinstance(options, ProductOptions)
        return [marginals_demand(contract, schema, options.shares.marginals)]

    def advice(self, contract: Contract, schema: Schema, train_units: float) -> str:
        """Nothing: one histogram a column bears a lot of noise."""
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
        """Measure every column."""
        columns = measure_columns(records, schema, plan, once)
        groups = Groups.each_code(schema)
        network = Network.of_independent(groups.shares(columns.distributions))
        return NetworkModel(schema, columns.distributions, groups, network)

    def restore(self, arrays: Arrays, contract: Contract, schema: Schema) -> NetworkModel:
        """The model from :meth:`NetworkModel.arrays`."""
        return NetworkModel.restored(arrays, schema)
