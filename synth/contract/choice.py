"""``method: {name: auto}``: the method that a contract's public facts speak for, and why.

Looks at how many columns there are, ``approximate_units``, ε and the targets, never at data. It chooses among methods
that need no optional package, so that it is the same on every machine. docs/methods.md says what the rule rests on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from synth.contract.columns import Column
from synth.contract.methods import MOST_CLASSES, Chosen, Dpdsyn, Independent, MixtureOptions

_DROWNED = 0.5  # a share of the rows: where smaller groups do not stand out of the noise, pairs say nothing


def choose(
    columns: Sequence[Column], targets: Sequence[Column], units: int, records: int, epsilon: float, delta: float
) -> tuple[Chosen, str]:
    """The method, and the reason in a sentence that ``sluice plan`` shows.

    :param columns: those that are measured.
    :param targets: those of them that are to be predicted.
    :param records: rows kept of a unit.
    """
    classes = max((len(getattr(column, "categories", ())) for column in targets), default=0)
    if classes > MOST_CLASSES:
        return Independent(name="independent"), (
            f"a target has {classes} categories, and a label model holds {MOST_CLASSES} at most"
        )
    share = _share_above_noise(len(columns), units, records, epsilon, delta)
    if share > _DROWNED:
        return Independent(name="independent"), (
            f"with about {units:,} units at ε={epsilon:g} the noise of the pairs of {len(columns)} columns is as large "
            "as half of the rows: pairs would say nothing"
        )
    return Dpdsyn(options=MixtureOptions()), (
        f"with about {units:,} units at ε={epsilon:g} groups of {share:.1%} of the rows stand out of the noise in the "
        f"pairs of {len(columns)} columns, so all pairs can be kept"
    )


def _share_above_noise(columns: int, units: int, records: int, epsilon: float, delta: float) -> float:
    """About which share of the rows is four standard deviations of the difference of two cells of pairs."""
    root = math.sqrt(math.log(1 / delta))
    rho = (math.sqrt(root**2 + epsilon) - root) ** 2 * MixtureOptions().shares.pairs
    sigma = records * math.sqrt(math.comb(columns, 2) / (2 * rho))
    return 4 * math.sqrt(2) * sigma / (units * (1 + records) / 2)
