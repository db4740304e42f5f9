"""Certified DPDSyn with structure: features from a mixture fitted to all pairs, labels from a corrected regression.

Where :mod:`synth.methods.tabular.dpdsyn` draws features independently, as DPDSyn does (arXiv 2604.15660, 2026), here
dependence between them is kept, and the label model needs no DP-SGD:

1. Measure every column's histogram on a fine public grid (discrete Gaussian noise); smooth it.
2. Join codes into groups by those, and measure the two-way tables of all pairs of columns at once.
3. Fit a mixture of product distributions to all of it, for free.
4. Fit a softmax regression of each target to the mixture, for free. Of two classes, or a number, correct it once by
   noisy sums on private rows; of more classes, measure the target's tables again before step 3 instead.
5. Draw rows from the mixture, label them by the regression, and give each group's code by the fine histogram.

All noise is on integers, so nothing here rests on noise in floating point. Everything but steps 1, 2 and what step 4
measures is post-processing. Several targets are labelled in the task's order, each given the columns that are no target
and the targets before it; without one, rows are the mixture's. What a consumer can learn about a label is what pairs
with the label say, and what the regression, which has no interactions, can hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from threadpoolctl import threadpool_limits

from synth.contract import Contract, MixtureOptions
from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_marginals, noisy_pairs
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular.groups import Groups, most_groups_of, share_that_fits, smallest_share
from synth.methods.tabular.label_fitting import Fitted, label_model, measured_again
from synth.methods.tabular.label_parts import PairTables, divided, joined_cells, label_parts
from synth.methods.tabular.marginals import estimate_distributions, smoothed
from synth.methods.tabular.mixture import fit_mixture
from synth.methods.tabular.mixture_model import DpdsynMixtureModel, restored
from synth.plan import Demand, ReleasePlan, integer_queries, nominal_rho
from synth.progress import Progress
from synth.records import TRAIN, CodedRecords
from synth.schema import Schema

_COARSE, _FINE = 0.15, 0.05  # shares of groups: above the first a release is warned of, the second is worth having


class DpdsynMixture:
    """The synthesizer ``dpdsyn``, structure ``mixture``."""

    name = "dpdsyn"

    def demands(self, contract: Contract, schema: Schema, train_units: float) -> Sequence[Demand]:
        """Histograms, pairs, and the sums that correct the label model."""
        parts = label_parts(contract, schema)
        shares = divided(_options(contract).shares, parts)
        columns, records = len(schema.columns), contract.privacy.max_records
        pairs = math.comb(columns, 2)
        least = _planned_share(contract, schema, train_units)
        most = most_groups_of(schema, least)
        return [
            Demand(
                "marginals",
                (TRAIN,),
                shares.marginals,
                integer_queries(DiscreteGaussian(1.0, records, columns)),
                "a histogram of every column",
                {"columns": columns, "cells": sum(column.size for column in schema.columns)},
            ),
            Demand(
                "pairs",
                (TRAIN,),
                shares.pairs,
                integer_queries(DiscreteGaussian(1.0, records, pairs)),
                "the two-way table of every pair of columns, codes joined into groups; a row counts in the tables of "
                "those columns in which it has a declared value",
                {"pairs": pairs, "smallest_share": least, "cells": sum(a * b for a, b in combinations(most, 2))},
            ),
            *(part.demand(schema, most, records, share) for part, share in zip(parts, shares.labels, strict=True)),
        ]

    def advice(self, contract: Contract, schema: Schema, train_units: float) -> str:
        """How many units, or which ε, pairs of columns would need to be seen in some detail."""
        least = _smallest_share(contract, schema, train_units)
        if least <= _COARSE:
            return _advice_of_width(schema, least)
        units, epsilon = contract.privacy.approximate_units, contract.privacy.epsilon
        step = 10 ** math.floor(math.log10(units)) / 10
        enough = math.ceil(units * least / _FINE / step) * step
        rho = nominal_rho(epsilon, contract.privacy.delta) * (least / _FINE) ** 2
        root = math.sqrt(math.log(1 / contract.privacy.delta))
        larger = math.ceil(10 * ((math.sqrt(rho) + root) ** 2 - root**2)) / 10
        return (
            f"With about {units:,} units at ε={epsilon:g}, groups below {least:.0%} of the rows drown in the noise of "
            f"the pairs: expect little beyond single columns and the label. Groups of {_FINE:.0%} would stand out with "
            f"about {enough:,.0f} units, or at ε={larger:g}, or with fewer columns."
        )

    def fit(
        self,
        records: Sealed[CodedRecords],
        contract: Contract,
        schema: Schema,
        plan: ReleasePlan,
        once: RunOnce,
        progress: Progress,
    ) -> DpdsynMixtureModel:
        """Steps 1 to 4."""
        options, parts = _options(contract), label_parts(contract, schema)

        def measure(spend: Spend) -> Arrays:
            opened = records.open(spend)
            sizes = [column.size for column in schema.columns]
            return {
                "counts": np.concatenate(noisy_marginals(opened.codes, sizes, plan.counts("marginals"), opened.owners))
            }

        noisy = schema.split_by_column(once("marginals", measure)["counts"])
        sigma = plan.counts("marginals").sigma
        smooth = [smoothed(column, counts, sigma) for column, counts in zip(schema.columns, noisy, strict=True)]
        distributions, rows = estimate_distributions(schema, smooth)
        joined = Groups.from_marginals(schema, distributions, _share_of_groups(contract, plan))

        def measure_pairs(spend: Spend) -> Arrays:
            opened = records.open(spend)
            tables = noisy_pairs(joined.of(opened.codes), joined.sizes, plan.counts("pairs"), opened.owners)
            # With the groups that the counts are of: a retry may run on a machine that rounds otherwise.
            return {"counts": joined_cells(tables), "groups": np.concatenate(joined.of_codes)}

        measured = once("pairs", measure_pairs)
        groups = Groups(tuple(schema.split_by_column(measured["groups"])))
        grouped = records.then(lambda opened: CodedRecords(groups.of(opened.codes), opened.owners))
        tables = PairTables.of(measured["counts"], groups.sizes, plan.counts("pairs").sigma)
        for part in parts:
            if part.by_tables:
                tables = measured_again(tables, part, grouped, groups.sizes, plan.counts(part.mechanism), once)
        shares = groups.shares(distributions)
        with threadpool_limits(1):  # the matrices are small: threads would wait longer than they work
            mixture = fit_mixture(
                [table / rows for table in tables.tables],
                shares,
                pair_noise=[own / rows for own in tables.sigmas],
                single_noise=[np.sqrt(count) * sigma / rows for count in groups.counts],
                components=options.components,
                progress=progress,
            )
            fitted = Fitted(schema, groups, distributions, mixture, rows)
            models = [label_model(part, fitted, grouped, plan.counts(part.mechanism), once) for part in parts]
            return DpdsynMixtureModel(schema, options, distributions, groups, mixture, models)

    def restore(self, arrays: Arrays, contract: Contract, schema: Schema) -> DpdsynMixtureModel:
        """The model from :meth:`DpdsynMixtureModel.arrays`."""
        return restored(arrays, _options(contract), schema, label_parts(contract, schema))


def _options(contract: Contract) -> MixtureOptions:
    options = contract.method.options
    if not isinstance(options, MixtureOptions):
        given = getattr(options, "structure", contract.method.name)
        raise TypeError(f"Expected structure 'mixture', given {given!r}.")
    return options


def _smallest_share(contract: Contract, schema: Schema, train_units: float) -> float:
    """The share that a group of codes is to have, from public facts: what the noise of a table will about be."""
    privacy, columns = contract.privacy, len(schema.columns)
    shares = divided(_options(contract).shares, label_parts(contract, schema))
    rho = nominal_rho(privacy.epsilon, privacy.delta) * shares.pairs
    event = DiscreteGaussian(1.0, privacy.max_records, math.comb(columns, 2)).scaled_to(rho)
    return smallest_share(event.sigma, train_units * (1 + privacy.max_records) / 2)


def _planned_share(contract: Contract, schema: Schema, train_units: float) -> float:
    """The same, or more where so fine groups would be too many in all."""
    return share_that_fits(schema, _smallest_share(contract, schema, train_units))


def _advice_of_width(schema: Schema, least: float) -> str:
    """What a wide table gives up so that its fit stays within a machine; ``least`` is what the noise would allow."""
    planned = share_that_fits(schema, least)
    if planned <= least:
        return ""
    return (
        f"With {len(schema.columns)} columns, groups of less than {planned:.1%} of the rows would be too many for the "
        f"fit, where the noise alone would allow {least:.1%}: pairs are measured more coarsely, and training takes "
        "minutes. Fewer columns, bins or categories make groups finer."
    )


def _share_of_groups(contract: Contract, plan: ReleasePlan) -> float:
    """The planned share, or a larger one where the noise came out larger than was foreseen: at a policy's pace."""
    train_units = contract.privacy.approximate_units * (1 - plan.holdout_fraction)
    rows = train_units * (1 + contract.privacy.max_records) / 2
    planned = float(plan["pairs"].parameters["smallest_share"])
    return max(planned, smallest_share(plan.counts("pairs").sigma, rows))
