"""One run: its contract, policy, plan, ledger and workspace, and the door through which mechanisms are charged.

A run is named by the contract's dataset and a run id (Airflow's, or one drawn by the command line). The same name
always means the same workspace and the same entries of the ledger, so a retry, a cleared task or a second worker finds
what was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy.typing as npt

from synth import validation
from synth.accounting import ATTO
from synth.checkpoints import KeptSegments, SegmentRule
from synth.contract import Contract, contract_from_document, last_window_before
from synth.errors import BudgetExceeded, NotReserved, PlanChanged
from synth.guard import Spend, spending
from synth.ledger import Ledger
from synth.methods.base import Synthesizer, synthesizer
from synth.officer import RegisteredPolicy, policy_for
from synth.partition_selection import CATEGORIES, resolved, with_selection
from synth.plan import Pace, ReleasePlan, make_plan
from synth.progress import Progress, silent
from synth.quality import gate, subgroups
from synth.schema import Schema
from synth.settings import Settings
from synth.workspace import Occupant, Workspace, erase_private


def plan_release(
    contract: Contract, holdout_fraction: float, *, pace: Pace | None = None, window: str = ""
) -> ReleasePlan:
    """The plan of a contract: public facts only. Cost: seconds of accounting, whatever the data."""
    schema = Schema.from_contract(contract)
    train_units = contract.privacy.approximate_units * (1 - holdout_fraction)
    method = synthesizer(contract.method)
    demands = [validation.demand(contract), *method.demands(contract, schema, train_units)]
    demands = with_selection(contract, demands, pace)
    gate_demands = [*gate.demands(schema, contract.privacy.max_records), *subgroups.demands(contract, schema)]
    return make_plan(contract, demands, gate_demands, holdout_fraction, pace=pace, window=window)


def pace_of(registered: RegisteredPolicy, ledger: Ledger, window: str) -> Pace | None:
    """What the policy's horizon leaves for the next release; None without a horizon.

    :raises BudgetExceeded: if as many releases as planned were admitted.
    """
    policy = registered.policy
    if policy.horizon is None:
        return None
    left = ledger.delta_pace(policy.name, policy.horizon, window)
    return Pace(registered.filter, ledger.pace(policy.name, policy.horizon, window), left / ATTO)


def window_to_release(contract: Contract) -> str:
    """The window that the contract names, or else the last one that is over, UTC; empty without windows."""
    window = contract.privacy.window
    if window is None:
        return ""
    return window.release or last_window_before(datetime.now(UTC).date(), window.every)


@dataclass
class Run:
    """One run of a contract.

    :param contract: as the caller has it; from ``allocate`` on it must be the reserved one.
    :param run_id: any text.
    :param requested_by: who started it; None if no person did, or none that anything authenticated.
    :param started: how it was started: from a shell, or what Airflow calls the type of a run.
    :param unsafe_seed: NOT PRIVATE: what the run draws comes from this seed, see :mod:`synth.unsafe`. For tests.
    :param storage_options: what fsspec needs to open the bucket of ``publish.uri``, beyond the URI and the environment.
        It may hold credentials: it is neither shown nor kept.
    """

    contract: Contract
    run_id: str
    settings: Settings = field(default_factory=Settings.from_environment)
    progress: Progress = silent
    requested_by: str | None = None
    started: str = "shell"
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    unsafe_seed: int | None = None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "ledger" in self.__dict__:
            self.ledger.close()

    @property
    def name(self) -> str:
        """The run's key in the ledger."""
        return f"{self.contract.dataset.name}/{self.run_id}"

    @cached_property
    def ledger(self) -> Ledger:
        """The budget ledger."""
        return Ledger.open(self.settings.ledger_url)

    @cached_property
    def workspace(self) -> Workspace:
        """The private folder of this run.

        :raises WorkspaceLocked: if it was begun under a workspace key that this deployment does not have.
        """
        dataset = self.contract.dataset.name
        workspace = Workspace(self.settings.run_folder(dataset, self.run_id), self.name, self.settings.workspace_keys)
        approval = self.contract.approval
        hours = approval.timeout_hours if approval.mode == "human" else 0
        Occupant(dataset, self.run_id, datetime.now(UTC), hours).write(workspace.root)
        return workspace

    def erase_private(self) -> None:
        """Remove the run's private rows, if there are any; takes no workspace key, which may be lost."""
        erase_private(self.settings.run_folder(self.contract.dataset.name, self.run_id))

    @cached_property
    def registered(self) -> RegisteredPolicy:
        """The policy that covers the source."""
        return policy_for(self.ledger, self.contract)

    @property
    def schema(self) -> Schema:
        """The public domain; of open columns the categories are known once their selection is committed."""
        if not self._declared.awaits_selection or not self.workspace.exists(_output(CATEGORIES)):
            return self._declared
        return self._resolved

    @cached_property
    def _declared(self) -> Schema:
        return Schema.from_contract(self.contract)

    @cached_property
    def _resolved(self) -> Schema:
        return resolved(self._declared, self.committed(CATEGORIES))

    @cached_property
    def method(self) -> Synthesizer:
        """The synthesizer."""
        return synthesizer(self.contract.method)

    @cached_property
    def plan(self) -> ReleasePlan:
        """The reserved plan.

        :raises NotReserved: before ``allocate``.
        :raises PlanChanged: if contract or plan are not the ones that were reserved.
        """
        if not self.workspace.exists("public/plan.json"):
            raise NotReserved(f"run {self.name!r} has no plan: the step allocate comes first")
        plan = ReleasePlan.from_document(self.workspace.read_json("public/plan.json"))
        reserved = self.ledger.find(self.policy_name, self.name, "reserve")
        if reserved is None:
            raise NotReserved(f"run {self.name!r} has no reservation in the ledger: the step allocate comes first")
        if plan.digest() != reserved.payload["plan_digest"]:
            raise PlanChanged(f"run {self.name!r}: the plan in the workspace is not the one that was reserved")
        if plan.contract_digest != self.contract.digest():
            raise PlanChanged(
                f"run {self.name!r}: the contract was changed after its budget was reserved; start a new run for it"
            )
        return plan

    @property
    def policy_name(self) -> str:
        """The policy's key in the ledger."""
        return self.registered.policy.name

    def once(self, mechanism: str, compute: Callable[[Spend], Mapping[str, npt.NDArray[Any]]]) -> dict[str, Any]:
        """Run a charged mechanism, or return its committed output: see :class:`synth.methods.base.RunOnce`.

        The start is in the ledger before ``compute`` gets the token that opens private rows, of the mechanism's
        branches only, and the output is committed, atomically, before anything uses it. An attempt that started and
        left no output stays charged; another one is charged again, within the policy's bound for one release, unless it
        can be resumed from a checkpoint: see :mod:`synth.checkpoints`.
        """
        plan, name = self.plan, _output(mechanism)
        if not self.workspace.exists(name):
            checkpoints = self._resumable(mechanism)
            if checkpoints is None:
                self._refuse_costlier_release(mechanism)
                self.workspace.require_room()
                attempt = self.ledger.begin(self.policy_name, self.name, mechanism, plan_digest=plan.digest())
                checkpoints = self._checkpoints(mechanism, attempt)
            with spending(mechanism, plan[mechanism].branches, checkpoints) as spend:
                output = compute(spend)
            self.workspace.write_arrays(name, output)
        return self.committed(mechanism)

    def committed(self, mechanism: str) -> dict[str, Any]:
        """The committed output of a mechanism; sees to it that the ledger knows that it is kept.

        :raises TamperedArtifact: if there is none.
        """
        output = self.workspace.read_arrays(_output(mechanism))
        if not self.ledger.committed(self.policy_name, self.name, mechanism):
            attempt = self.ledger.attempts(self.policy_name, self.name)[mechanism]
            self.ledger.commit(self.policy_name, self.name, mechanism, attempt)
        return output

    def _checkpoints(self, mechanism: str, attempt: int) -> KeptSegments | None:
        rule = SegmentRule.of(self.plan[mechanism].parameters)
        if rule is None:
            return None
        return KeptSegments(self.workspace, self.ledger, self.policy_name, self.name, mechanism, attempt, rule)

    def _resumable(self, mechanism: str) -> KeptSegments | None:
        """The checkpoints of the last attempt, if it can be gone on with."""
        attempt = self.ledger.attempts(self.policy_name, self.name).get(mechanism, 0)
        kept = self._checkpoints(mechanism, attempt) if attempt else None
        return kept if kept is not None and kept.resumable() else None

    def _refuse_costlier_release(self, mechanism: str) -> None:
        attempts = self.ledger.attempts(self.policy_name, self.name)
        if not attempts.get(mechanism):
            return
        planned = {name: max(1, count) for name, count in attempts.items()}
        planned[mechanism] = attempts[mechanism] + 1
        epsilon, limit = self.plan.charged_epsilon(planned), self.registered.policy.max_release_epsilon
        if epsilon > limit:
            raise BudgetExceeded(
                f"{mechanism!r} died after it had started and stays charged; running it again would make this release "
                f"cost ε={epsilon:.3g}, above the policy's max_release_epsilon={limit:g}: start a new run"
            )


def _output(mechanism: str) -> str:
    return f"dp/{mechanism}.npz"


def run_from_document(document: Mapping[str, Any], run_id: str) -> Run:
    """A run of a contract given as plain values."""
    return Run(contract_from_document(dict(document)), run_id)
