"""A logged-in person reads a run's quality report in the browser, and nothing else of a workspace, by any address."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from operators.plugin import report_link
from synth.settings import Settings
from tests.ledger.postgres import free_port
from tests.operators.conftest import World
from tests.operators.planted import PLANTED

ROLES = {"vera": "viewer", "nora": ""}
SECRET = "qzx: what nobody may read"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class Server:
    """Airflow's API server over the runs of the world.

    :ivar reports: a copy of the world's, which a test may disturb.
    """

    port: int
    reports: Path
    world: World
    log: Path

    def get(self, path: str, **headers: str) -> Answer:
        """The answer to exactly this path: nothing is normalised, no redirect followed."""
        return self._ask("GET", path, None, headers)

    def token(self, name: str) -> str:
        body = json.dumps({"username": name, "password": name})
        return json.loads(self._ask("POST", "/auth/token", body, {"Content-Type": "application/json"}).text)[
            "access_token"
        ]

    def get_as(self, name: str, path: str) -> Answer:
        return self.get(path, Authorization=f"Bearer {self.token(name)}")

    def report_file(self, dataset: str, run_id: str) -> Path:
        found = Settings("", self.reports, self.reports, self.reports).report_of(dataset, run_id)
        assert found is not None
        return found

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("plugin")
    (home / "passwords.json").write_text(json.dumps({name: name for name in ROLES}))
    shutil.copytree(world.home / "sluice" / "reports", home / "reports")
    port = free_port()
    environment = world.environment | {
        "SLUICE_HOME": str(home / "nothing"),  # no ledger, no workspace: the server needs neither
        "SLUICE_REPORTS": str(home / "reports"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in ROLES.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "airflow", "api-server", "--apps", "core", "--workers", "1"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    served = Server(port, home / "reports", world, home / "log")
    try:
        _wait_until_up(served, process)
        yield served
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_up(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            server.get("/api/v2/version")
            return
        except OSError:
            assert process.poll() is None, server.log.read_text()[-4000:]
            assert time.monotonic() < deadline, server.log.read_text()[-4000:]
            time.sleep(0.5)


@pytest.fixture
def run_id(world: World) -> str:
    """A run that passed its gate."""
    return world.run_ids("share_asked")[-1]


@pytest.fixture
def path(run_id: str) -> str:
    return urlsplit(report_link("share_asked", run_id)).path


def test_who_may_read_the_dag_run_gets_the_report_of_the_bundle(server: Server, run_id: str, path: str) -> None:
    answer = server.get_as("vera", path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == server.report_file("asked", run_id).read_text(encoding="utf-8")
    assert not [text for text in PLANTED if text in answer.text]


def test_the_cookie_of_a_browser_session_is_enough(server: Server, path: str) -> None:
    assert server.get(path, Cookie=f"_token={server.token('vera')}").status == 200


def test_the_browser_is_told_to_run_nothing_fetch_nothing_and_keep_nothing(server: Server, path: str) -> None:
    answer = server.get_as("vera", path)
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox", "frame-ancestors 'none'"} <= set(policy)
    assert not [directive for directive in policy if directive.startswith("script-src")]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_without_login_there_is_no_report(server: Server, path: str) -> None:
    assert server.get(path).status == 401
    assert server.get(path, Authorization="Bearer forged").status == 403
    assert server.get(path, Cookie="_token=forged").status == 403


def test_a_browser_that_is_not_logged_in_is_sent_to_the_login_and_back(server: Server, path: str) -> None:
    answer = server.get(path, Accept="text/html,*/*")
    link = f"http://127.0.0.1:{server.port}{path}"
    login = urlsplit(answer.headers["location"])
    assert (answer.status, login.path, login.query) == (303, "/api/v2/auth/login", f"next={quote(link, safe='')}")
    at_login = server.get(f"{login.path}?{login.query}")
    assert at_login.status == 307
    assert quote(link, safe="") in at_login.headers["location"]


def test_an_account_without_rights_is_refused_whether_or_not_there_is_a_report(server: Server, path: str) -> None:
    assert server.get_as("nora", path).status == 403
    assert server.get_as("nora", "/sluice/reports/share_asked/none").status == 403


def test_a_run_that_did_not_pass_its_gate_has_no_report(server: Server, world: World) -> None:
    failed = world.run_ids("share_unreachable_quality")[0]
    assert Settings("", world.home / "sluice" / "runs", world.home).run_folder("unreachable_quality", failed).is_dir()
    answer = server.get_as("vera", urlsplit(report_link("share_unreachable_quality", failed)).path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "has not passed its quality gate" in answer.text


@pytest.mark.parametrize("dag_id", ["share_people", "asked", "leaky", "~", "share_", "share_.", "share_asked."])
def test_a_run_is_found_only_under_its_own_dag(server: Server, run_id: str, dag_id: str) -> None:
    assert server.get_as("vera", urlsplit(report_link(dag_id, run_id)).path).status == 404


@pytest.mark.parametrize(
    "tail",
    [
        "/key",
        "/bundle/quality_report.html",
        "/../../key",
        "/..%2f..%2fkey",
        "%2f..%2fkey",
        "/%2e%2e/%2e%2e/key",
        "%252f..%252fkey",
        "%5c..%5ckey",
        "%00",
        "/private/rows.parquet",
        "?path=../key&dag_id=share_people",
    ],
)
def test_no_other_file_of_a_workspace_has_an_address(server: Server, path: str, run_id: str, tail: str) -> None:
    answer = server.get_as("vera", path + tail)
    if tail.startswith("?"):  # a query changes nothing
        assert answer.text == server.report_file("asked", run_id).read_text(encoding="utf-8")
    else:
        assert answer.status == 404


@pytest.mark.parametrize(
    "path", ["/sluice/key", "/sluice/reports", "/sluice/openapi.json", "/sluice/docs", "/sluice/private/x"]
)
def test_there_is_one_route(server: Server, path: str) -> None:
    assert server.get_as("vera", path).status == 404


def test_the_way_to_a_report_never_leads_above_the_reports(server: Server) -> None:
    outside = server.report_file("..", "above")
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_text(SECRET)
    assert outside.resolve().is_file()
    answer = server.get_as("vera", "/sluice/reports/share_../above")
    assert (answer.status, SECRET in answer.text) == (404, False)


@pytest.mark.parametrize("linked", ["report", "folder"])
def test_a_link_in_the_place_of_a_report_is_not_followed(server: Server, tmp_path: Path, linked: str) -> None:
    dataset = f"linked_{linked}"
    report = server.report_file(dataset, "run")
    secret = tmp_path / dataset / report.name
    secret.parent.mkdir()
    secret.write_text(SECRET)
    here, there = (report, secret) if linked == "report" else (report.parent, secret.parent)
    here.parent.mkdir(parents=True, exist_ok=True)
    here.symlink_to(there)
    assert report.read_text() == SECRET
    answer = server.get_as("vera", f"/sluice/reports/share_{dataset}/run")
    assert (answer.status, SECRET in answer.text) == (404, False)


def test_an_api_server_that_does_not_see_the_reports_says_so(server: Server, path: str) -> None:
    hidden = server.reports.with_name("hidden")
    server.reports.rename(hidden)
    try:
        answer = server.get_as("vera", path)
    finally:
        hidden.rename(server.reports)
    assert answer.status == 404
    assert "SLUICE_REPORTS is not shared with the API server" in answer.text


def test_a_link_says_what_it_names_and_where_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.test/base/")
    assert report_link("share_x", "manual__2026-01-01T00:00:00+00:00") == (
        "https://airflow.example.test/base/sluice/reports/share_x/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    )
    assert report_link("share_x", "a/../b c?#&)").endswith("/share_x/a%2F..%2Fb%20c%3F%23%26%29")
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    assert report_link("share_x", "a") == "/sluice/reports/share_x/a"


def test_every_airflow_process_can_afford_to_load_the_plugin() -> None:
    code = (
        "import sys, airflow; before = set(sys.modules); import operators.plugin; "
        "print(*(name for name in set(sys.modules) - before))"
    )
    root = Path(__file__).resolve().parents[2]
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ, cwd=root, timeout=60
    ).stdout.split()
    heavy = {"torch", "pandas", "numpy", "fastapi", "sqlalchemy", "synth.steps", "airflow.models"}
    assert "operators.plugin" in loaded
    assert not heavy & set(loaded)
