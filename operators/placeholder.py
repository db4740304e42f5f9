"""What stands in the list of DAGs for a contract that cannot be built: its report, where the owner looks anyway."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


class BrokenContractOperator(BaseOperator):
    """Fails with the contract's report.

    :param report: every fault of the contract, in words for its owner.
    """

    def __init__(self, *, report: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.report = report

    def execute(self, context: Context) -> None:
        """Fail; no retry mends a contract."""
        raise AirflowFailException(self.report)


def build_placeholder(path: Path, report: str) -> DAG:
    """A DAG that runs nothing and shows why.

    :param path: the contract's file.
    :param report: every fault, as the parser words it.
    """
    place = hashlib.sha256(bytes(path.resolve())).hexdigest()[:6]  # two folders may hold files of one name
    dag = DAG(
        f"broken_{re.sub(r'[^A-Za-z0-9_.-]', '_', path.stem)}_{place}",
        description=f"{path.name} is not an acceptable share contract",
        doc_md=f"`{path.name}` is not an acceptable share contract. Nothing runs until it is mended:\n\n"
        + "\n".join(f"    {line}" for line in report.splitlines()),
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        tags={"sluice", "broken contract"},
        auto_register=False,
    )
    BrokenContractOperator(task_id="report", report=report, retries=0, dag=dag)
    return dag
