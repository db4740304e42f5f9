"""What is measured for one target, and its label model: the steps of :mod:`synth.methods.tabular.label_parts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_pairs, noisy_weighted_histograms
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular import label_correction, label_regression
from synth.methods.tabular.groups import Groups
from synth.methods.tabular.label_parts import LabelPart, PairTables, joined_cells, pairs_with, residuals_of, split_cells
from synth.methods.tabular.label_regression import LabelRegression
from synth.methods.tabular.marginals import Probabilities
from synth.methods.tabular.mixture import Mixture
from synth.records import CodedRecords
from synth.schema import Schema


@dataclass(frozen=True)
class Fitted:
    """What is known when label models are fitted; released, all of it.

    :ivar distributions: of every column over its codes.
    :ivar rows: about how many private rows there are.
    """

    schema: Schema
    groups: Groups
    distributions: Sequence[Probabilities]
    mixture: Mixture
    rows: float


def measured_again(
    tables: PairTables,
    part: LabelPart,
    grouped: Sealed[CodedRecords],
    sizes: Sequence[int],
    event: DiscreteGaussian,
    once: RunOnce,
) -> PairTables:
    """The tables with those of the part's target measured once more.

    :param grouped: rows of groups.
    :param sizes: how many groups each column has.
    """
    pairs = pairs_with(part.place, len(sizes))

    def measure(spend: Spend) -> Arrays:
        opened = grouped.open(spend)
        return {"counts": joined_cells(noisy_pairs(opened.codes, sizes, event, opened.owners, pairs))}

    counts = once(part.mechanism, measure)["counts"]
    more = split_cells(counts, [(sizes[i], sizes[j]) for i, j in pairs])
    return tables.with_more(part.place, more, event.sigma)


def label_model(
    part: LabelPart, fitted: Fitted, grouped: Sealed[CodedRecords], event: DiscreteGaussian, once: RunOnce
) -> LabelRegression:
    """The label model of the part's target: fitted to the mixture, and corrected where that is what the part does."""
    schema, groups = fitted.schema, fitted.groups
    classes = groups.sizes[part.place] - schema[part.target].nullable
    model = label_regression.fit(fitted.mixture, part.hidden, classes)
    shares = groups.shares(fitted.distributions)
    if part.by_tables:
        return model.at_share(label_regression.drawn_rows(fitted.mixture), shares[part.place])
    own = groups.of_codes[part.place]
    residuals = residuals_of(schema, part, own, fitted.distributions[part.place], classes)
    sizes = label_correction.summed_sizes(groups.sizes, part.hidden)

    def labelled(opened: CodedRecords) -> CodedRecords:
        """A row without a label teaches nothing; leaving it out is decided by that row alone."""
        labels = opened.codes[:, part.place]
        return opened.where(np.asarray((labels >= 0) & (labels < classes)))

    with_label = grouped.then(labelled)

    def add_up(spend: Spend) -> Arrays:
        opened = with_label.open(spend)
        whole = residuals.whole(model, opened.codes, opened.codes[:, part.place])
        codes = label_correction.summed_codes(opened.codes, sizes, part.hidden)
        sums = noisy_weighted_histograms(codes, sizes, whole, label_correction.MOST, event, opened.owners)
        return {"sums": sums, "weights": model.weights}

    added = once(part.mechanism, add_up)
    return label_correction.corrected(
        replace(model, weights=added["weights"]),  # whose residuals were added up
        residuals,
        label_correction.without_disallowed(added["sums"], sizes)[:, 0],
        event.sigma,
        fitted.mixture,
        fitted.rows,
        ordered_groups(schema, groups),
        shares,
    )


def ordered_groups(schema: Schema, groups: Groups) -> list[int]:
    """For each column how many of its groups, from the first on, are in order."""
    return [
        size - column.nullable if column.in_order else 0
        for size, column in zip(groups.sizes, schema.columns, strict=True)
    ]
