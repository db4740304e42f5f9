"""The gate: charged mechanisms on the holdout, from which every quality number is post-processed.

:mod:`synth.quality.outcomes` tries consumers' models of a target of classes on the holdout,
:mod:`synth.quality.number_errors` those of a number, and :mod:`synth.quality.pairs` compares two-way tables with it.
All targets together and the pairs divide what the gate may take, which is sized to stay below the training branch.
Distances need the noisy number of holdout records. The outcomes of a target of classes tell it; without such a target
it is counted by itself, one integer query that a unit's at most k records move by k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.contract import Contract
from synth.events import DiscreteGaussian
from synth.guard import Sealed, Spend
from synth.mechanisms import noisy_histogram
from synth.methods.base import RunOnce
from synth.plan import Demand, ReleasePlan, integer_queries
from synth.quality import number_errors, outcomes, pairs
from synth.quality.learners import Learner
from synth.quality.results import Measurement, NoisyCount, PairDistances
from synth.quality.tried import Tried
from synth.records import HOLDOUT, CodedRecords, Records
from synth.schema import Codes, Schema

_PAIRS, _TARGETS = 0.5, 0.5  # of what the gate may take
_RECORDS = 0.05
_COUNT = "gate_records"


def demands(schema: Schema, max_records: int) -> Sequence[Demand]:
    """The gate's mechanisms, with what each may take of it."""
    asked = []
    for target, mechanism in _mechanisms(schema).items():
        of_kind = number_errors if schema[target].is_numeric else outcomes
        asked.append(of_kind.demand(mechanism, target, max_records, _TARGETS / len(schema.targets)))
    if not _with_classes(schema):
        event = DiscreteGaussian(1.0, max_records)
        asked.append(Demand(_COUNT, (HOLDOUT,), _RECORDS, integer_queries(event), "the number of records"))
    return (*asked, pairs.demand(schema, max_records, _PAIRS))


def measure(
    *,
    contract: Contract,
    schema: Schema,
    plan: ReleasePlan,
    once: RunOnce,
    learners: Mapping[str, tuple[Learner, Learner]],
    label_model: Callable[[Codes, str], npt.NDArray[Any]],
    holdout: Sealed[Records],
    synthetic_codes: Codes,
    distributions: Sequence[npt.NDArray[np.float64]],
) -> tuple[tuple[Measurement, ...], PairDistances]:
    """Run the mechanisms on the private holdout and derive the numbers.

    :param learners: of each target, trained on the release.
    :param label_model: the label of each row of codes by the synthesizer itself, for a target.
    :param synthetic_codes: of released rows, shape (rows, columns).
    :param distributions: released marginals.
    """
    quality = contract.quality
    coded = holdout.then(lambda records: records.encoded(schema.encode))
    measured: list[Measurement] = []
    counted: list[NoisyCount] = []
    for target, mechanism in _mechanisms(schema).items():
        tried = Tried(
            mechanism,
            target,
            schema,
            learners[target],
            lambda codes, target=target: label_model(codes, target),  # type: ignore[misc]
            holdout,
            coded,
            distributions[schema.names.index(target)],
            contract.privacy.max_records,
            named=len(schema.targets) > 1,
        )
        if schema[target].is_numeric:
            measured += number_errors.measure(tried, plan, once, quality)
        else:
            accuracies, records = outcomes.measure(tried, plan, once, quality)
            measured += accuracies
            counted.append(records)
    records = counted[0] if counted else _count(coded, plan, once)
    distance, pairwise = pairs.measure(
        schema, plan, once, coded, synthetic_codes, distributions, records, quality.max_pair_distance
    )
    return (*measured, distance), pairwise


def _mechanisms(schema: Schema) -> dict[str, str]:
    """What pays for each target; with several, names carry their number in the task's order."""
    named = {}
    for position, target in enumerate(schema.targets):
        mechanism = "gate_errors" if schema[target].is_numeric else "gate_outcomes"
        named[target] = mechanism if len(schema.targets) == 1 else f"{mechanism}_{position + 1}"
    return named


def _with_classes(schema: Schema) -> bool:
    return any(not schema[target].is_numeric for target in schema.targets)


def _count(coded: Sealed[CodedRecords], plan: ReleasePlan, once: RunOnce) -> NoisyCount:
    event = plan.counts(_COUNT)

    def count(spend: Spend) -> dict[str, npt.NDArray[np.int64]]:
        opened = coded.open(spend)
        return {"counts": noisy_histogram(np.zeros(len(opened.codes), np.int32), 1, event, opened.owners)}

    return NoisyCount(max(1.0, float(once(_COUNT, count)["counts"][0])), event.sigma)
