"""What Sluice adds to Airflow's API server: the quality report of a run, for who has only a browser.

Every Airflow process loads its plugins, so this module imports next to nothing; what serves the report is in
:mod:`operators.reports` and is loaded by the first request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from airflow.sdk.configuration import conf
from airflow.sdk.plugins_manager import AirflowPlugin

PREFIX = "/sluice"
_Message = MutableMapping[str, Any]


def report_link(dag_id: str, run_id: str) -> str:
    """Where an approver reads the quality report of a DAG run, in the browser in which they are logged in.

    Without ``[api] base_url`` the link is relative to the host that shows it. Only runs of DAGs that are named after
    their dataset, ``share_<dataset>``, have a report there.
    """
    return server_url(f"{PREFIX}/reports/{quote(dag_id, safe='')}/{quote(run_id, safe='')}")


def server_url(path: str) -> str:
    """The address of a path of the API server."""
    return (conf.get("api", "base_url", fallback=None) or "").rstrip("/") + path


async def _app(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    from operators.reports import app

    await app(scope, receive, send)


class SluicePlugin(AirflowPlugin):
    """Serves ``/sluice/reports/{dag_id}/{run_id}``."""

    name = "sluice"
    fastapi_apps = [{"app": _app, "url_prefix": PREFIX, "name": "sluice"}]  # noqa: RUF012 - declared so by Airflow
