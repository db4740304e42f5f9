"""One DAG for one share contract.

    preflight → allocate → validate → train → generate → check → approve → publish        (settle: teardown)

Building reads only the contract, never data, ledger or network, and imports nothing heavy: the DAG processor does it
every few seconds. ``settle`` is a plain teardown: one that fails the run would also decide its state, and a run whose
training failed would read as a success.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, BaseOperator, chain

from operators.allocate import AllocateOperator
from operators.approve import ApproveOperator, HumanApproveOperator
from operators.check import CheckOperator
from operators.generate import GenerateOperator
from operators.parameters import form
from operators.placement import placement
from operators.preflight import PreflightOperator
from operators.publish import PublishOperator
from operators.schedule import refuse_approval_longer_than_interval, times
from operators.settle import SettleOperator
from operators.train import TrainOperator
from operators.validate import ValidateOperator
from synth.contract import AssetUpdate, Contract, contract_from_document
from synth.errors import ContractError

if TYPE_CHECKING:
    from airflow.sdk import CronTriggerTimetable
    from airflow.sdk.definitions.asset import AssetRef

_DOC = """\
### {title}

{description}

Publishes a differentially private synthetic table of {rows:,} rows to `{uri}`, at most.

| Privacy | |
|---|---|
| unit of privacy | {unit} |
| neighbouring relation | add or remove one unit |
| planned cost of a release | ε = {epsilon:g}, δ = {delta:g} |
| rows kept of one unit | {max_records} |
| rows without a unit | {null_ids} |
| window | {window} |
| a mechanism that dies | stays spent; it may run {max_attempts} times, within the policy's bound for a release |
| what leaves | synthetic rows, noisy marginals and quality numbers, the verdicts on expectations, the statement |
| approval | {approval} |
| a run starts | {starts} |

The trigger form can make ε and the number of rows smaller, never larger{choose}. What all releases may cost \
together is in the privacy officer's policy, kept in the ledger.

| Step | |
|---|---|
| preflight | checks contract, policy and column names; spends nothing |
| allocate | freezes the plan and reserves its budget before a row is read |
| validate | reads the source once and judges the expectations by noisy counts |
| train | fits `{method}` under differential privacy |
| generate | draws the rows |
| check | measures quality on a holdout under differential privacy |
| approve | {approval} |
| publish | writes exactly the approved artifact and updates the asset |
| settle | runs whatever became of the steps after preflight: gives back what never started, erases the private rows |

Clearing a task never repeats a mechanism whose output is kept. After a failed run has been settled, start a new one.
"""


def build_dag(contract: Contract | Mapping[str, Any], dag_id: str | None = None) -> DAG:
    """The DAG that shares one dataset.

    :param contract: the contract, or its document.
    :param dag_id: default: ``share_`` and the dataset's name.
    :raises ContractError: if the contract, its schedule, or where it wants to run is not acceptable.
    """
    if not isinstance(contract, Contract):
        contract = contract_from_document(dict(contract))
    if isinstance(contract.schedule, str) and contract.approval.mode == "human":
        refuse_approval_longer_than_interval(contract.schedule, contract.approval.timeout_hours)
    dag = _empty_dag(contract, dag_id or f"share_{contract.dataset.name}")
    document = contract.document()
    where = placement(contract.compute)
    asset = Asset(name=contract.dataset.release_asset, group="sluice")

    def common(task_id: str) -> dict[str, Any]:
        return {"task_id": task_id, "document": document, "dag": dag}

    approve: BaseOperator
    if contract.approval.mode == "human":
        # No retry: an answer that could not be recorded must not silently become a new question.
        approve = HumanApproveOperator(**common("approve"), retries=0)
    else:
        approve = ApproveOperator(**common("approve"), retries=0)
    preflight, allocate = PreflightOperator(**common("preflight")), AllocateOperator(**common("allocate"))
    publish = PublishOperator(**common("publish"), asset=asset)
    chain(
        preflight,
        allocate,
        ValidateOperator(**common("validate")),
        TrainOperator(**common("train"), **where),
        GenerateOperator(**common("generate"), **where),
        CheckOperator(**common("check")),
        approve,
        publish,
    )
    settle = SettleOperator(**common("settle"))
    publish >> settle
    # Of both, and it runs if one of them succeeded: an allocate that fails may have reserved before it did.
    settle.as_teardown(setups=[preflight.as_setup(), allocate.as_setup()])
    return dag


def _empty_dag(contract: Contract, dag_id: str) -> DAG:
    dataset = contract.dataset
    # Never by backfill: every run spends.
    run_types: Any = {"manual", "operator_triggered"}
    if contract.schedule:
        run_types.add("scheduled" if isinstance(contract.schedule, str) else "asset_triggered")
    try:
        dag = DAG(
            dag_id,
            dag_display_name=f"share {dataset.name}",
            description=dataset.title,
            doc_md=_doc(contract),
            schedule=_schedule(contract),
            catchup=False,
            max_active_runs=1,
            allowed_run_types=run_types,
            tags={"sluice", contract.method.runs, f"approval: {contract.approval.mode}"},
            default_args={"owner": dataset.owner, "retries": 2, "retry_delay": timedelta(seconds=30)},
            params=form(contract),
            auto_register=False,
        )
        dag.validate()
        return dag
    except Exception as error:
        raise ContractError(
            f"contract {dataset.name!r}: Airflow does not accept its schedule {contract.schedule!r} or one of its "
            f"texts: {error}"
        ) from None


def _schedule(contract: Contract) -> CronTriggerTimetable | AssetRef | None:
    """What Airflow waits for: the times of a cron expression, or an asset that any DAG may define."""
    if isinstance(contract.schedule, str):
        return times(contract.schedule)
    if isinstance(contract.schedule, AssetUpdate):
        # A reference, because an asset of this name and another URI would compete with the producer's.
        return Asset.ref(name=contract.schedule.asset)
    return None


def _starts(contract: Contract) -> str:
    match contract.schedule:
        case None:
            return "when somebody triggers it"
        case AssetUpdate(asset=name):
            return (
                f"when the asset `{name}` is updated, or when somebody triggers it; all updates during a run, which "
                "includes its wait for approval, start one run after it"
            )
        case cron:
            return f"at the times of `{cron}`, or when somebody triggers it; one at a time, and none is caught up"


def _null_ids(contract: Contract) -> str:
    if contract.privacy.unit == "row":
        return "none: each row is a unit"
    return "left out" if contract.privacy.null_ids == "drop" else "each is a unit of its own"


def _window(contract: Contract) -> str:
    window = contract.privacy.window
    if window is None:
        return "none: a release reads all rows, and one budget is for all releases"
    released = f"`{window.release}`" if window.release else "the last one that is over"
    return (
        f"each {window.every}, by the date in `{window.column}`, has a budget of its own; a release reads the rows of "
        f"one, by default {released}"
    )


def _doc(contract: Contract) -> str:
    privacy, approval = contract.privacy, contract.approval
    unit = "a row" if privacy.unit == "row" else f"a value of `{privacy.unit.column}`, with all its rows"
    if approval.mode == "human":
        how = (
            "one of the policy's approvers, but not who triggered the run, within "
            f"{approval.timeout_hours:g} hours; no answer is a refusal"
        )
    else:
        limit = f"{approval.max_epsilon:g}" if approval.max_epsilon else "the policy's bound"
        how = f"automatic, if the quality gate passes and the charged ε is within {limit}"
    return _DOC.format(
        title=contract.dataset.title,
        description=contract.dataset.description.strip(),
        rows=contract.rows,
        uri=contract.publish.uri,
        unit=unit,
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        max_records=privacy.max_records,
        null_ids=_null_ids(contract),
        window=_window(contract),
        choose="" if privacy.window is None else ", and name another window",
        max_attempts=privacy.max_attempts,
        approval=how,
        starts=_starts(contract),
        method=contract.method.runs,
    )
