"""### Housekeeping

Every day: settles runs that were broken off longer ago than `SLUICE_RETENTION_HOURS` and erases their private rows, and
removes the workspaces of settled runs after `SLUICE_WORKSPACE_DAYS`. A run that waits for a person keeps what it needs
until its time for an answer is over. Runs where the workspaces are.
"""

from datetime import timedelta

from airflow.sdk import DAG

from operators.housekeeping import SweepOperator
from operators.schedule import times

with DAG(
    "sluice_housekeeping",
    dag_display_name="sluice housekeeping",
    schedule=times("17 3 * * *"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
    doc_md=__doc__,
    tags={"sluice", "housekeeping"},
) as housekeeping:
    SweepOperator(task_id="sweep")
