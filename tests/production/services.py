"""The services of ``docker/compose.yaml`` on loopback: servers, and Airflow's components as processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dags.standalone import Standalone
from synth.settings import Settings
from tests.bucket import Server as BucketServer
from tests.bucket import variables
from tests.ledger import postgres
from tests.production.broker import Broker
from tests.production.components import Component
from tests.production.compose import DOCKER, Compose, drawn_secrets

_HEALTHY_S = 180
_NOWHERE = "http://127.0.0.1:9"
# What dies is noticed within seconds, and Redis hands out again what a dead worker had taken after a while, not a day.
_IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "90",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "2",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
}


class Services:
    """The servers, and the components that were asked for; all of them end together."""

    def __init__(self, home: Path, accounts: dict[str, str], postgresql: Path, redis: str, stack: ExitStack) -> None:
        """Start the servers.

        :param accounts: role by name, see :class:`~dags.standalone.Standalone`.
        :param postgresql: the folder of PostgreSQL's programs. :param redis: the program of its server.
        """
        self.home, self.secrets, self._stack = home, drawn_secrets(), stack
        self.postgresql = postgres.Server(postgresql)
        stack.callback(self.postgresql.remove)
        self.postgresql.start()
        self.broker = Broker(redis)
        stack.callback(self.broker.stop)
        self.broker.wait_until_ready()
        self.s3 = BucketServer()
        stack.callback(self.s3.stop)
        self.airflow = Standalone(home / "auth", postgres.free_port(), accounts)
        users = self.airflow.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
        self.compose = Compose(
            {**self.secrets, "S3_ACCESS_KEY": "nobody", "AIRFLOW_USERS": users},
            {
                "@postgres/": f"@127.0.0.1:{self.postgresql.port}/",
                "redis://redis:6379/0": self.broker.url,
                "http://api-server:8080": self.airflow.url,
                "http://object-store:9000": _NOWHERE,
                "/opt/airflow": str(home),
                "/opt/sluice": str(home),
            },
        )

    @classmethod
    @contextmanager
    def running(cls, home: Path, accounts: dict[str, str], postgresql: Path, redis: str) -> Iterator[Services]:
        with ExitStack() as stack:
            yield cls(home, accounts, postgresql, redis, stack)

    def settings(self, service: str) -> Settings:
        """Where a service of Sluice's finds its things."""
        ledger_url = self.compose.environment(service)["SLUICE_LEDGER_URL"]
        return Settings(ledger_url, self.home / "workspaces", self.home / "keys")

    def create_databases(self) -> None:
        """By the script that the container runs when its volume is empty."""
        environment = {
            **self.compose.environment("postgres"),
            "PATH": f"{self.postgresql.programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.postgresql.port),
            "PGPASSWORD": postgres.PASSWORD,
            "POSTGRES_USER": postgres.SUPERUSER,
        }
        script = DOCKER / "postgres" / "create-ledger.sh"
        subprocess.run(["bash", str(script)], env=environment, check=True, capture_output=True, timeout=60)

    def component(self, service: str, *options: str, name: str = "") -> Component:
        """One of Airflow's, to be started; the bucket's address among its settings leads nowhere.

        :param name: of a further one of the same service.
        """
        environment = {
            **self.airflow.environment,
            **self.compose.environment(service),
            **variables(_NOWHERE, "nobody", "nothing"),
            **_IMPATIENT,
            "PYTHONPATH": str(DOCKER.parent),
            "OMP_NUM_THREADS": "1",
            "SLUICE_CONTRACTS": str(self.home / "contracts"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(postgres.free_port()),
        }
        command = [*self.compose.command(service), *options]
        made = Component(name or service, command, self.home / "components", environment)
        self._stack.callback(made.kill)
        return made

    def worker(self, service: str) -> Component:
        """A worker; its tasks' logs are in a folder that the API server sees, as the containers' are."""
        return self.component(service, "--celery-hostname", service, "--skip-serve-logs")

    def wait_until_healthy(self, components: Sequence[Component]) -> None:
        """Wait for the API server, the scheduler and the DAG processor to be well."""
        deadline = time.monotonic() + _HEALTHY_S
        while not self.airflow.healthy():
            for component in components:
                component.assert_running()
            assert time.monotonic() < deadline, f"Airflow is not healthy after {_HEALTHY_S} s"
            time.sleep(0.5)
