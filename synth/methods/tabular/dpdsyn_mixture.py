"""Certified DPDSyn with structure: features from a mixture fitted to all pairs, labels from a corrected regression.

Where :mod:`synth.methods.tabular.dpdsyn` draws features independently, as DPDSyn does (arXiv 2604.15660, 2026), here
dependence between them is kept, and the label model needs no DP-SGD:

1. Measure every column's histogram on a fine public grid (discrete Gaussian noise); smooth it.
2. Join codes into groups by those, and measure the two-way tables of all pairs of columns at once.
3. Fit a mixture of product distributions to all of it, for free.
4. Fit a softmax regression of the label to the mixture, for free, and correct it once by noisy sums on private rows.
5. Draw rows from the mixture, label them by the regression, and give each group's code by the fine histogram.

All noise is on integers, so nothing here rests on noise in floating point. Everything but steps 1, 2 and the sums of
step 4 is post-processing. What a consumer can learn about the label is what pairs with the label say, and what the
regression, which has no interactions, can hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from synth.constraints.conditions import Evidence
from synth.constraints.sampling import Given
from synth.contract import Contract, MixtureOptions
from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_marginals, noisy_pairs, noisy_weighted_histograms
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular import label_regression
from synth.methods.tabular.drawing import TabularModel
from synth.methods.tabular.groups import Groups, most_groups, share_that_fits, smallest_share
from synth.methods.tabular.label_regression import LabelRegression
from synth.methods.tabular.marginals import Probabilities, estimate_distributions, smoothed
from synth.methods.tabular.mixture import Mixture, fit_mixture
from synth.plan import Demand, ReleasePlan, integer_queries, nominal_rho
from synth.progress import Progress
from synth.records import TRAIN, CodedRecords
from synth.schema import Codes, Schema

_COARSE, _FINE = 0.15, 0.05  # shares of groups: above the first a release is warned of, the second is worth having


class DpdsynMixture:
    """The synthesizer ``dpdsyn``, structure ``mixture``."""

    name = "dpdsyn"

    def demands(self, contract: Contract, schema: Schema, train_units: float) -> Sequence[Demand]:
        """Histograms, pairs, and the sums that correct the label model."""
        shares = _options(contract).shares
        columns, records = len(schema.columns), contract.privacy.max_records
        pairs = math.comb(columns, 2)
        least = _planned_share(contract, schema, train_units)
        target = schema[schema.target]
        most = [target.size if column is target else most_groups(column, least) for column in schema.columns]
        summed = sum(label_regression.summed_sizes(most, schema.target_index))
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
            Demand(
                "label_correction",
                (TRAIN,),
                shares.label_correction,
                integer_queries(DiscreteGaussian(1.0, label_regression.MOST * records, columns)),
                "sums of the label model's residuals, for every group of every other column",
                {"most": label_regression.MOST, "cells": summed * (target.cells - 1)},
            ),
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
        options = _options(contract)

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
            return {
                "counts": np.concatenate([table.ravel() for table in tables]),
                "groups": np.concatenate(joined.of_codes),
            }

        measured = once("pairs", measure_pairs)
        groups = Groups(tuple(schema.split_by_column(measured["groups"])))
        grouped = records.then(lambda opened: CodedRecords(groups.of(opened.codes), opened.owners))
        tables = _tables(measured["counts"], groups.sizes)
        shares = groups.shares(distributions)
        with threadpool_limits(1):  # the matrices are small: threads would wait longer than they work
            mixture = fit_mixture(
                [table / rows for table in tables],
                shares,
                pair_noise=plan.counts("pairs").sigma / rows,
                single_noise=[np.sqrt(count) * sigma / rows for count in groups.counts],
                components=options.components,
                progress=progress,
            )
            regression = label_regression.fit(mixture, schema.target_index, schema[schema.target].cells)

        # A row without a label teaches nothing; leaving it out is decided by that row alone.
        labelled = grouped.then(lambda opened: opened.where(_has_label(opened.codes[:, schema.target_index], schema)))
        sizes = label_regression.summed_sizes(groups.sizes, schema.target_index)

        def add_up(spend: Spend) -> Arrays:
            opened = labelled.open(spend)
            weights = regression.residual_weights(opened.codes, opened.codes[:, schema.target_index])
            codes = label_regression.summed_codes(opened.codes, sizes, schema.target_index)
            event = plan.counts("label_correction")
            sums = noisy_weighted_histograms(codes, sizes, weights, label_regression.MOST, event, opened.owners)
            return {"sums": sums, "weights": regression.weights}

        added = once("label_correction", add_up)
        sums = label_regression.without_disallowed(added["sums"], sizes)
        fitted = replace(regression, weights=added["weights"])  # whose residuals were added up
        ordered = [
            size - column.nullable if column.in_order else 0
            for size, column in zip(groups.sizes, schema.columns, strict=True)
        ]
        with threadpool_limits(1):  # the matrices are small: threads would wait longer than they work
            corrected = label_regression.corrected(
                fitted, sums, plan.counts("label_correction").sigma, mixture, rows, ordered, shares
            )
        labeller = corrected
        if options.labels == "utility":
            share = distributions[schema.target_index][: schema[schema.target].cells]
            labeller = label_regression.sharpened(corrected, mixture, share)
        return DpdsynMixtureModel(schema, options, distributions, groups, mixture, corrected, labeller)

    def restore(self, arrays: Arrays, contract: Contract, schema: Schema) -> DpdsynMixtureModel:
        """The model from :meth:`DpdsynMixtureModel.arrays`."""
        groups = Groups(tuple(schema.split_by_column(np.asarray(arrays["groups"]))))
        edges = np.cumsum(groups.sizes)[:-1]
        tables = np.split(np.asarray(arrays["tables"], np.float64), edges, axis=1)
        target = schema.target_index
        starts = label_regression.edges(groups.sizes, target)[:-1]
        return DpdsynMixtureModel(
            schema,
            _options(contract),
            schema.split_by_column(np.asarray(arrays["distributions"])),
            groups,
            Mixture(np.asarray(arrays["components"], np.float64), tuple(tables)),
            LabelRegression(target, np.asarray(arrays["weights"]), starts, np.asarray(arrays["offsets"])),
            LabelRegression(
                target, np.asarray(arrays["labelling_weights"]), starts, np.asarray(arrays["labelling_offsets"])
            ),
        )


class DpdsynMixtureModel(TabularModel):
    """The finished model; everything in it was released by a charged mechanism or is public.

    :param distributions: of every column over its codes.
    :param regression: the label model.
    :param labeller: the same, as sure as labels are to be drawn.
    """

    def __init__(
        self,
        schema: Schema,
        options: MixtureOptions,
        distributions: Sequence[Probabilities],
        groups: Groups,
        mixture: Mixture,
        regression: LabelRegression,
        labeller: LabelRegression,
    ) -> None:
        super().__init__(schema, distributions, options.labels)
        self.groups = groups
        self.mixture = mixture
        self.regression = regression
        self.labeller = labeller

    def probabilities(self, codes: Codes) -> Probabilities:
        """Class probabilities of rows of codes, whose target column is ignored. (rows, classes)"""
        return self.regression.probabilities(self.groups.of(codes))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was learnt."""
        return {
            "distributions": np.concatenate(self.distributions),
            "groups": np.concatenate(self.groups.of_codes),
            "components": self.mixture.weights,
            "tables": np.concatenate(self.mixture.tables, axis=1),
            "weights": self.regression.weights,
            "offsets": self.regression.offsets,
            "labelling_weights": self.labeller.weights,
            "labelling_offsets": self.labeller.offsets,
        }

    def facts(self) -> Mapping[str, Any]:
        """What the statement says of the fit."""
        return {"groups": dict(zip(self.schema.names, self.groups.sizes, strict=True))}

    def given(self, evidence: Evidence) -> Given:
        """Exactly conditioned on features: components count as much as they are likely to meet the evidence, and so do
        groups in each, and codes in each group. Labels are drawn until they fit."""
        rest = {place: each for place, each in evidence.items() if place == self.schema.target_index}
        features = {place: each for place, each in evidence.items() if place not in rest}
        conditioned = copy(self)
        of_groups, conditioned.distributions = self.groups.given(self.distributions, features)
        conditioned.mixture, share = self.mixture.given(of_groups)
        return Given(conditioned, rest, share)

    def _label_probabilities(self, codes: Codes) -> Probabilities:
        return self.labeller.probabilities(self.groups.of(codes))

    def _block(self, rows: int, generator: np.random.Generator) -> Codes:
        groups = self.mixture.rows(rows, generator)
        labels = self._labels_of(self.labeller.probabilities(groups), generator)
        codes = self.groups.drawn(groups, self.distributions, generator)
        codes[:, self.schema.target_index] = labels
        return codes


def _options(contract: Contract) -> MixtureOptions:
    options = contract.method.options
    if not isinstance(options, MixtureOptions):
        raise TypeError(f"Expected structure 'mixture', given {options.structure!r}.")
    return options


def _smallest_share(contract: Contract, schema: Schema, train_units: float) -> float:
    """The share that a group of codes is to have, from public facts: what the noise of a table will about be."""
    privacy, columns = contract.privacy, len(schema.columns)
    rho = nominal_rho(privacy.epsilon, privacy.delta) * _options(contract).shares.pairs
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


def _has_label(groups: Codes, schema: Schema) -> npt.NDArray[np.bool_]:
    return np.asarray((groups >= 0) & (groups < schema[schema.target].cells))


def _share_of_groups(contract: Contract, plan: ReleasePlan) -> float:
    """The planned share, or a larger one where the noise came out larger than was foreseen: at a policy's pace."""
    train_units = contract.privacy.approximate_units * (1 - plan.holdout_fraction)
    rows = train_units * (1 + contract.privacy.max_records) / 2
    planned = float(plan["pairs"].parameters["smallest_share"])
    return max(planned, smallest_share(plan.counts("pairs").sigma, rows))


def _tables(counts: npt.NDArray[np.int64], sizes: Sequence[int]) -> list[npt.NDArray[np.float64]]:
    shapes = list(combinations(sizes, 2))
    parts = np.split(counts.astype(np.float64), np.cumsum([a * b for a, b in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
