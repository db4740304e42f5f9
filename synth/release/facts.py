"""Everything that a release says about itself, as one value.

Each field is a public fact of contract, policy or plan, an entry of the ledger, or the output of a charged mechanism.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.contract import Contract
from synth.plan import ReleasePlan
from synth.quality.results import Judgement, Measurement, PairDistances, Subgroups
from synth.schema import Schema


@dataclass(frozen=True)
class BudgetFacts:
    """The policy's line for this release, from the ledger.

    :ivar epsilon_release: ε of what was charged for this release, dead attempts included, by PLD.
    :ivar epsilon_all_releases: ε, by PLD, of everything charged under the policy so far, this release included;
        informational: the binding claim across releases is the filter's (``policy_epsilon``, ``policy_delta``).
    :ivar share_spent: share of the policy's budget that the filter counts as used, this release included.
    :ivar policy_selection_delta: the part of ``policy_delta`` that is set aside for selecting categories.
    :ivar selection_delta_spent: what is charged to that so far, this release included.
    :ivar ledger_head: sequence and digest of the ledger's last entry when the statement was written.

    Where the policy has windows, all of it is about the released one.
    """

    policy: str
    policy_epsilon: float
    policy_delta: float
    epsilon_release: float
    epsilon_all_releases: float
    share_spent: float
    attempts: Mapping[str, int]
    filter_order: int
    ledger_head: tuple[int, str]
    policy_selection_delta: float = 0.0
    selection_delta_spent: float = 0.0


@dataclass(frozen=True)
class PairCounts:
    """Noisy two-way tables of all pairs of columns, where the method measures them.

    :ivar groups: for each column which cell of its pairs each of its codes is in, by name; -1 for none.
    :ivar counts: the tables' cells one after the other, in the order of ``itertools.combinations`` of the columns.
    :ivar sigma: their discrete Gaussian noise scale.
    """

    groups: Mapping[str, npt.NDArray[np.int32]]
    counts: npt.NDArray[np.int64]
    sigma: float


@dataclass(frozen=True)
class ReleaseFacts:
    """One release.

    :ivar version: random id; says nothing about the data.
    :ivar created_at: ISO 8601, UTC.
    :ivar training_devices: every kind of device that an attempt at training drew noise on; decides what is said of it.
        None where the method draws none there.
    :ivar unsafe_seed: NOT PRIVATE if there is one: the release then carries that stamp instead of a claim.
    :ivar marginals: released noisy histogram of each column over its codes (null last), by column name.
    :ivar marginal_sigma: their discrete Gaussian noise scale.
    :ivar distributions: what the marginals were post-processed to, by column name; sums to one.
    :ivar synthetic_counts: codes of the released rows counted, by column name.
    :ivar pair_counts: released noisy tables of pairs, if the method measures any.
    :ivar constraint_cost: what keeping the constraints did to the drawn rows, see
        :meth:`synth.constraints.keeping.Cost.document`; None without constraints.
    :ivar units_estimate: noisy count of units in the source, with its noise scale.
    :ivar subgroups: accuracies by group of each column that the contract names for it.
    """

    contract: Contract
    schema: Schema
    plan: ReleasePlan
    version: str
    created_at: str
    code_version: str
    rows: int
    sampling_seed: int
    training_devices: tuple[str, ...]
    budget: BudgetFacts
    judgements: tuple[Judgement, ...]
    measurements: tuple[Measurement, ...]
    pairs: PairDistances
    units_estimate: tuple[int, float]
    marginals: Mapping[str, npt.NDArray[np.int64]]
    marginal_sigma: float
    distributions: Mapping[str, npt.NDArray[np.float64]]
    synthetic_counts: Mapping[str, npt.NDArray[np.int64]]
    method_facts: Mapping[str, Any]
    pair_counts: PairCounts | None = None
    constraint_cost: Mapping[str, Any] | None = None
    subgroups: tuple[Subgroups, ...] = ()
    unsafe_seed: int | None = None
