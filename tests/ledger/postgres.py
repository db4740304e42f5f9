"""A real PostgreSQL server for the tests, and databases on it with the three roles of a deployment.

The server listens on a loopback port of its own, keeps its data in a temporary folder, and never runs as root: started
by root, it runs as the account `postgres` or `nobody`. It asks for passwords, so that a test can look for them where
they must not be. Unless asked to it does not wait for the disk (`fsync=off`): a crash of the server loses nothing that
it confirmed, a crash of the machine may.

`OWNER` owns a database and its tables; `OFFICER` and `WORKER` hold what `Ledger.migrate` grants them, nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from synth.ledger import Ledger

SUPERUSER, OWNER, OFFICER, WORKER = "superuser", "tests_owner", "tests_officer", "tests_worker"
PASSWORD = "pw-qzx-7f3a"
READ = [("alembic_version", "SELECT"), ("entries", "SELECT"), ("policies", "SELECT")]
RIGHTS = {OFFICER: sorted([*READ, ("policies", "INSERT")]), WORKER: sorted([*READ, ("entries", "INSERT")])}
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs: from PATH, else the newest below /usr/lib/postgresql."""
    newest_first = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: (len(folder.parent.name), folder), reverse=True
    )
    found = shutil.which("initdb")
    # PATH may hold links to some of the programs: the others lie next to what the links point at.
    for folder in ([Path(found).resolve().parent] if found else []) + newest_first:
        if all((folder / program).is_file() for program in ("initdb", "postgres", "psql")):
            return folder
    return None


class Server:
    """A PostgreSQL server below a temporary folder; `start` and `stop` as often as a test likes."""

    def __init__(self, programs: Path, *, waits_for_disk: bool = False) -> None:
        self.programs = programs
        self.fsync = "on" if waits_for_disk else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-postgresql-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._account = _unprivileged_account()
            shutil.chown(self.folder, self._account["user"], self._account["group"])
        self._initialise()

    def url(self, database: str, role: str, *, password: str = PASSWORD) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def psycopg(self, database: str, role: str = SUPERUSER) -> psycopg.Connection[Any]:
        """A connection that commits each statement."""
        return psycopg.connect(self.url(database, role), autocommit=True)

    def start(self) -> None:
        """Start on the port of last time; the first time on a free one."""
        for _ in range(5):
            port = self.port or free_port()
            process = self._launch(port)
            if self._answers(process, port):
                self.port, self._process = port, process
                return
        raise RuntimeError(f"PostgreSQL does not start: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends every session and shuts down in order; SIGQUIT is a crash."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._account:
            shutil.chown(secret, self._account["user"], self._account["group"])
        made = subprocess.run(
            [
                self.programs / "initdb",
                *("--pgdata", self.data, "--username", SUPERUSER, "--pwfile", secret),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._account,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}")

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": port,
            "max_connections": 200,
            "fsync": self.fsync,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self.programs / "postgres", "-D", self.data, *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account,
            )

    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        url = f"postgresql://{SUPERUSER}:{PASSWORD}@127.0.0.1:{port}/postgres"
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(url, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return True
        if process.poll() is None:
            process.kill()
        process.wait()
        return False


@contextmanager
def running(programs: Path, **settings: Any) -> Iterator[Server]:
    """A server with the three roles, gone at the end; settings are those of :class:`Server`."""
    server = Server(programs, **settings)
    try:
        server.start()
        _create_roles(server)
        yield server
    finally:
        server.remove()


def _create_roles(server: Server) -> None:
    with server.psycopg("postgres") as connection:
        for role in (OWNER, OFFICER, WORKER):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD))
            )


@dataclass(frozen=True)
class LedgerDatabase:
    """A database for a ledger. ``worker``, ``officer`` and ``owner`` are the URLs of its roles."""

    server: Server
    name: str

    @classmethod
    def create(cls, server: Server, name: str, template: str = "template1") -> LedgerDatabase:
        """A database in which the owner may make tables and nobody else anything; with those of ``template``."""
        database, owner, officer, worker = (sql.Identifier(each) for each in (name, OWNER, OFFICER, WORKER))
        with server.psycopg("postgres") as connection:
            copied = sql.Identifier(template)
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(database, owner, copied))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}, {}").format(database, officer, worker))
        made = cls(server, name)
        if template == "template1":
            made.as_superuser("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        return made

    @property
    def worker(self) -> str:
        return self.server.url(self.name, WORKER)

    @property
    def officer(self) -> str:
        return self.server.url(self.name, OFFICER)

    @property
    def owner(self) -> str:
        return self.server.url(self.name, OWNER)

    def as_worker(self) -> psycopg.Connection[Any]:
        return self.server.psycopg(self.name, WORKER)

    def as_officer(self) -> psycopg.Connection[Any]:
        return self.server.psycopg(self.name, OFFICER)

    def as_owner(self) -> psycopg.Connection[Any]:
        return self.server.psycopg(self.name, OWNER)

    def as_superuser(self, *statements: str) -> None:
        """Run statements as who can do with the database what they like."""
        with self.server.psycopg(self.name) as connection:
            for statement in statements:
                connection.execute(statement)

    def rights(self, role: str) -> list[tuple[str, str]]:
        """What the server says a role was granted on tables and columns."""
        with self.as_owner() as connection:
            granted = connection.execute(
                "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = %(role)s "
                "UNION SELECT table_name, privilege_type FROM information_schema.role_column_grants "
                "WHERE grantee = %(role)s",
                {"role": role},
            )
            return sorted(granted.fetchall())

    def migrate(self) -> None:
        """Make the tables as their owner, and grant the others their rights."""
        Ledger.migrate(self.owner, officer=OFFICER, worker=WORKER)

    def empty(self) -> None:
        """Forget all entries; a session that a test left open fails this instead of holding it up."""
        with self.server.psycopg(self.name) as connection:
            connection.execute("SET session_replication_role = replica; SET lock_timeout = '5s'")
            connection.execute("TRUNCATE policies, entries RESTART IDENTITY")

    def drop(self) -> None:
        with self.server.psycopg("postgres") as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))


def tells_no_credentials(error: BaseException) -> bool:
    everything = "".join(traceback.format_exception(error))
    return not any(word in everything for word in (PASSWORD, OWNER, OFFICER, WORKER, "psycopg"))


def _unprivileged_account() -> dict[str, Any]:
    import grp
    import pwd

    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        group = grp.getgrgid(account.pw_gid).gr_name
        return {"user": name, "group": group, "extra_groups": []}
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no account 'postgres' or 'nobody' to run it as")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
