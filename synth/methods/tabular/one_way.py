"""The first step of the methods that measure chosen tables: every column's histogram, and what follows for free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.contract import Contract
from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_marginals
from synth.methods.base import Arrays, RunOnce
from synth.methods.tabular.groups import Groups
from synth.methods.tabular.marginals import Probabilities, estimate_distributions, smoothed
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.records import TRAIN, CodedRecords
from synth.schema import Schema

MARGINALS = "marginals"


@dataclass(frozen=True)
class OneWay:
    """What is known of single columns.

    :ivar counts: the noisy histogram of each column over its codes.
    :ivar sigma: the noise of each of these counts.
    :ivar distributions: what they were smoothed and projected to.
    :ivar rows: about how many rows there are.
    """

    counts: list[Probabilities]
    sigma: float
    distributions: list[Probabilities]
    rows: float

    def of_groups(self, groups: Groups) -> list[Probabilities]:
        """The noisy count of each group, one array a column."""
        return [
            np.bincount(joined[joined >= 0], counts[joined >= 0], size).astype(np.float64)
            for joined, counts, size in zip(groups.of_codes, self.counts, groups.sizes, strict=True)
        ]


def marginals_demand(contract: Contract, schema: Schema, share: float) -> Demand:
    """The mechanism ``marginals``."""
    columns = len(schema.columns)
    return Demand(
        MARGINALS,
        (TRAIN,),
        share,
        integer_queries(DiscreteGaussian(1.0, contract.privacy.max_records, columns)),
        "a histogram of every column",
        {"columns": columns, "cells": sum(column.size for column in schema.columns)},
    )


def measure_columns(records: Sealed[CodedRecords], schema: Schema, plan: ReleasePlan, once: RunOnce) -> OneWay:
    """The mechanism ``marginals``, smoothed over cells that its noise cannot tell apart."""

    def measure(spend: Spend) -> Arrays:
        opened = records.open(spend)
        sizes = [column.size for column in schema.columns]
        return {"counts": np.concatenate(noisy_marginals(opened.codes, sizes, plan.counts(MARGINALS), opened.owners))}

    noisy = schema.split_by_column(once(MARGINALS, measure)["counts"])
    sigma = plan.counts(MARGINALS).sigma
    smooth = [smoothed(column, counts, sigma) for column, counts in zip(schema.columns, noisy, strict=True)]
    distributions, rows = estimate_distributions(schema, smooth)
    return OneWay([counts.astype(np.float64) for counts in noisy], sigma, distributions, rows)
