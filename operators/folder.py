"""The DAGs of folders of share contracts: one for each file, whatever is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from airflow.sdk import DAG

from operators.dag import build_dag
from operators.placeholder import build_placeholder
from operators.schedule import refuse_loop
from synth.contract import AssetUpdate, load_contract
from synth.errors import ContractError


def dags_from(folders: Iterable[Path]) -> dict[str, DAG]:
    """The DAG of each ``*.yaml``, by its id; a placeholder with the report where none can be built."""
    dags: dict[str, DAG] = {}
    started_by: dict[str, str] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.yaml"))):
        try:
            contract = load_contract(path)
            dag = build_dag(contract)
            if dag.dag_id in dags:
                raise ContractError(f"{path}: another contract has this dataset.name; each needs one of its own")
            refuse_loop(contract, started_by)
            if isinstance(contract.schedule, AssetUpdate):
                started_by[contract.dataset.release_asset] = contract.schedule.asset
        except ContractError as error:
            dag = build_placeholder(path, str(error))
        dags[dag.dag_id] = dag
    return dags
