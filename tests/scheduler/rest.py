"""Airflow as one account sees it: its REST API, and nothing else."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

# An answer that comes before the scheduler has noted the end of the asking attempt fails the task; a person is slower.
_NOTED_S = 10
# Of a database that lets one process write at a time: what could not is rolled back, and may be asked again.
_BUSY, _ASKED_AGAIN = "Database error", 20


class Refused(Exception):
    """The API's refusal."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


@dataclass(frozen=True)
class Account:
    """One logged-in account."""

    url: str
    name: str
    token: str

    @classmethod
    def log_in(cls, url: str, name: str, password: str) -> Account:
        answer = cls(url, name, "").call("POST", "/auth/token", {"username": name, "password": password})
        return cls(url, name, answer["access_token"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a call, None where it has no content.

        :raises Refused: with any status from 400 on.
        """
        for _ in range(_ASKED_AGAIN):
            try:
                return self._call(method, path, body)
            except Refused as refused:
                if refused.status != 500 or _BUSY not in refused.text:
                    raise
                time.sleep(0.5)
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode()) from None
        return json.loads(text) if text else None

    def get(self, path: str) -> Any:
        return self.call("GET", f"/api/v2{path}")

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> DagRun:
        body = {"logical_date": None, "conf": conf or {}} | ({"dag_run_id": run_id} if run_id else {})
        return DagRun(self, dag_id, self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def pause(self, dag_id: str, paused: bool) -> None:
        self.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})

    def make_pool(self, name: str, slots: int) -> None:
        self.call("POST", "/api/v2/pools", {"name": name, "slots": slots})

    def resize_pool(self, name: str, slots: int) -> None:
        self.call("PATCH", f"/api/v2/pools/{name}", {"pool": name, "slots": slots, "include_deferred": False})

    def started(self, dag_id: str, runs: int = 1, within_s: float = 300) -> list[DagRun]:
        """The first runs of a DAG that others start, as soon as there are so many."""
        deadline = time.monotonic() + within_s
        while len(found := self.get(f"/dags/{dag_id}/dagRuns?order_by=id")["dag_runs"]) < runs:
            assert time.monotonic() < deadline, f"{dag_id} has {len(found)} of {runs} runs after {within_s:g} s"
            time.sleep(0.5)
        return [DagRun(self, dag_id, run["dag_run_id"]) for run in found[:runs]]

    def wait_for_dags(self, *expected: str, within_s: float = 120) -> None:
        """Wait until the DAGs are there, and no others."""
        deadline = time.monotonic() + within_s
        while {dag["dag_id"] for dag in self.get("/dags")["dags"]} != set(expected):
            assert time.monotonic() < deadline, self.get("/importErrors")
            time.sleep(1)


@dataclass(frozen=True)
class DagRun:
    """One DAG run, in the hands of one account."""

    account: Account
    dag_id: str
    run_id: str

    def seen_by(self, account: Account) -> DagRun:
        return DagRun(account, self.dag_id, self.run_id)

    @property
    def path(self) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{urllib.parse.quote(self.run_id)}"

    def state(self) -> str:
        return self.account.get(self.path)["state"]

    def tasks(self) -> dict[str, dict[str, Any]]:
        found = self.account.get(f"{self.path}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def states(self) -> dict[str, str | None]:
        return {name: task["state"] for name, task in self.tasks().items()}

    def xcom(self, task: str) -> Any:
        return self.account.get(f"{self.path}/taskInstances/{task}/xcomEntries/return_value")["value"]

    def ended(self, within_s: float = 120) -> str:
        """The run's state once it is over."""
        self._wait(lambda: self.state() in ("success", "failed"), within_s)
        return self.state()

    def reaches(self, task: str, *states: str, within_s: float = 120) -> None:
        """Wait until a task is in one of the states."""
        self._wait(lambda: self.states().get(task) in states, within_s)

    def tried(self, task: str, attempt: int, within_s: float = 120) -> None:
        """Wait until a task has had so many attempts, the last of them over."""
        self._wait(lambda: self._attempts_over(task) >= attempt, within_s)

    def _attempts_over(self, task: str) -> int:
        found = self.tasks()[task]
        over = found["state"] in ("success", "failed", "skipped", "upstream_failed")
        return int(found["try_number"]) - (not over)

    def asks(self, within_s: float = 120) -> DagRun:
        """The run, once its approval can be answered."""
        self.reaches("approve", "awaiting_input", within_s=within_s)
        time.sleep(_NOTED_S)
        return self

    def question(self) -> dict[str, Any]:
        return self.account.get(f"{self.path}/taskInstances/approve/-1/hitlDetails")

    def answer(self, option: str, reason: str | None) -> None:
        body = {"chosen_options": [option], "params_input": {"reason": reason}}
        self.account.call("PATCH", f"/api/v2{self.path}/taskInstances/approve/-1/hitlDetails", body)

    def clear(self, *tasks: str) -> None:
        """Clear tasks; without names all of them, the failed and the others."""
        names = {"task_ids": list(tasks)} if tasks else {}
        body = {"dry_run": False, **names, "dag_run_id": self.run_id, "only_failed": False}
        self.account.call("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", body)

    def mark_successful(self, task: str) -> None:
        self.account.call("PATCH", f"/api/v2{self.path}/taskInstances/{task}", {"new_state": "success"})

    def mark_run(self, state: str) -> None:
        self.account.call("PATCH", f"/api/v2{self.path}", {"state": state})

    def delete(self) -> None:
        self.account.call("DELETE", f"/api/v2{self.path}")

    def log(self, task: str, attempt: int = 1) -> str:
        return json.dumps(self.account.get(f"{self.path}/taskInstances/{task}/logs/{attempt}"))

    def _wait(self, there: Any, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not there():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.dag_id} {self.run_id} after {within_s:g} s: {self.states()}")
            time.sleep(0.5)
