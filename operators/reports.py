"""The quality report of a run that passed its gate, served to whoever may read the DAG run.

Every number in it is a public fact or the output of a charged mechanism. The step ``check`` lays a copy into the folder
``SLUICE_REPORTS``, which is all of Sluice that the API server needs to see: no workspace, no ledger. It is a page
without scripts and without network, and the browser is told to hold it to that. Airflow authenticates and authorises.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import PlainTextResponse, RedirectResponse

from operators.plugin import report_link, server_url
from synth.settings import Settings

_DAG_PREFIX = "share_"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_UNSEEN = "SLUICE_REPORTS is not shared with the API server, or not readable for it: no report can be shown here.\n"
_MISSING = (
    "There is no quality report of this run: it is not a run of a DAG share_<dataset>, has not passed its quality "
    "gate, or SLUICE_REPORTS of the API server is not that of the workers.\n"
)

app = FastAPI(title="Sluice", openapi_url=None, docs_url=None, redoc_url=None)


@app.get(
    "/reports/{dag_id}/{run_id}",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))],
)
def report(dag_id: str, run_id: str) -> Response:
    """The report as a page, or a text that says why there is none."""
    reports = Settings.from_environment().reports
    try:
        if reports is None or not reports.is_dir():
            return _none(_UNSEEN)
        path = _report_file(reports, dag_id, run_id)
        return (
            _none(_MISSING) if path is None else Response(path.read_bytes(), media_type="text/html", headers=_HEADERS)
        )
    except PermissionError:
        return _none(_UNSEEN)


@app.exception_handler(401)
async def to_login(request: Request, error: HTTPException) -> Response:
    """A browser goes to Airflow's login and comes back; a program is told that it is not authenticated."""
    names = request.path_params
    if "text/html" not in request.headers.get("accept", "") or not {"dag_id", "run_id"} <= names.keys():
        return await http_exception_handler(request, error)
    back = report_link(names["dag_id"], names["run_id"])
    return RedirectResponse(server_url(f"/api/v2/auth/login?next={quote(back, safe='')}"), status_code=303)


def _report_file(reports: Path, dag_id: str, run_id: str) -> Path | None:
    """The run's report; None where there is none, and where the way to it leads through a link or upwards."""
    if not dag_id.startswith(_DAG_PREFIX):
        return None
    places = Settings(ledger_url="", workspaces=reports, keys=reports, reports=reports.resolve())
    path = places.report_of(dag_id.removeprefix(_DAG_PREFIX), run_id)
    return path if path is not None and path.resolve() == path and path.is_file() else None


def _none(text: str) -> Response:
    return PlainTextResponse(text, status_code=404, headers=_HEADERS)
