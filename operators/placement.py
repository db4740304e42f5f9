"""Where ``train`` and ``generate`` run: the contract's ``compute`` as arguments of their operators.

Airflow hides every DAG of a file in which one names an executor that is not configured, so such a contract is refused
here and hides only itself. Executor and pod matter where DAGs are listed and scheduled. A worker that reads the file to
run a task leaves both out: the task is where it should be, the configuration of a pod often names another executor than
the scheduler's, and its image may be without the Kubernetes client.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import conf, get_parsing_context

from operators.pod import pod_override
from synth.contract import Compute
from synth.errors import ContractError

_WITHOUT_PODS = ("LocalExecutor", "CeleryExecutor")


def placement(compute: Compute) -> dict[str, Any]:
    """The arguments of an operator that is to run where ``compute`` says; empty for Airflow's defaults.

    :raises ContractError: if this Airflow has no such executor, or none that makes pods where a pod is declared.
    """
    arguments: dict[str, Any] = {"queue": compute.queue, "pool": compute.pool}
    if get_parsing_context().task_id is None:
        kind = _kind_of_executor(compute.executor)
        arguments["executor"] = compute.executor
        if compute.pod is not None:
            if kind in _WITHOUT_PODS:
                raise ContractError(
                    f"compute.pod: {kind} makes no pods and would ignore it; name an executor that does in "
                    "compute.executor, such as KubernetesExecutor, or leave compute.pod out"
                )
            arguments["executor_config"] = {"pod_override": pod_override(compute.pod)}
    return {name: value for name, value in arguments.items() if value is not None}


def _kind_of_executor(name: str | None) -> str:
    """The class of an executor by its name, by default of Airflow's first."""
    configured = _configured_executors()
    if name is None:
        return next(iter(configured.values()))
    if name not in configured:
        raise ContractError(
            f"compute.executor={name!r}: Airflow is not configured with it; accepted: {', '.join(configured)} "
            "(AIRFLOW__CORE__EXECUTOR)"
        )
    return configured[name]


def _configured_executors() -> dict[str, str]:
    """The executors that are open to every team: each name that a contract may give, and the class behind it.

    Never a name that Airflow would refuse. It also takes the module path of one that is configured by a short name.
    """
    kinds: dict[str, str] = {}
    for group in conf.get("core", "executor").split(";"):
        team, marked, names = group.rpartition("=")
        if marked and team:
            continue
        for entry in names.split(","):
            alias, _, path = entry.strip().rpartition(":")
            kind = path.rpartition(".")[2]
            kinds |= {alias or path: kind, path: kind, kind: kind}
    return kinds
