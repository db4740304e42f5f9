"""The gate: charged mechanisms on the holdout, from which every quality number is post-processed.

:mod:`synth.quality.outcomes` tries consumers' models on the holdout, :mod:`synth.quality.pairs` compares two-way tables
with it. They divide what the gate may take, which is sized to stay below the training branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from synth.contract import Contract
from synth.guard import Sealed
from synth.methods.base import RunOnce
from synth.plan import Demand, ReleasePlan
from synth.quality import outcomes, pairs
from synth.quality.learners import Learner
from synth.quality.results import Measurement, PairDistances
from synth.records import Records
from synth.schema import Codes, Schema


def demands(schema: Schema, max_records: int) -> Sequence[Demand]:
    """Both mechanisms; they divide what the gate may take equally."""
    return (outcomes.demand(max_records, 0.5), pairs.demand(schema, max_records, 0.5))


def measure(
    *,
    contract: Contract,
    schema: Schema,
    plan: ReleasePlan,
    once: RunOnce,
    learners: tuple[Learner, Learner],
    label_model: Callable[[Codes], Codes],
    holdout: Sealed[Records],
    synthetic_codes: Codes,
    distributions: Sequence[npt.NDArray[np.float64]],
) -> tuple[tuple[Measurement, ...], PairDistances]:
    """Run both mechanisms on the private holdout and derive the numbers.

    :param learners: trained on the release.
    :param label_model: the label of each row of codes by the synthesizer itself.
    :param synthetic_codes: of released rows, shape (rows, columns).
    :param distributions: released marginals.
    """
    quality, most = contract.quality, contract.privacy.max_records
    coded = holdout.then(lambda records: records.encoded(schema.encode))
    label_share = distributions[schema.target_index]
    accuracies, records = outcomes.measure(
        schema, plan, once, learners, label_model, holdout, coded, label_share, quality, most
    )
    distance, pairwise = pairs.measure(
        schema, plan, once, coded, synthetic_codes, distributions, records, quality.max_pair_distance
    )
    return (*accuracies, distance), pairwise
