"""The database under the ledger: SQLite by default, PostgreSQL in production, one code path above this
module.

A writing transaction is serial per lock name: BEGIN IMMEDIATE on SQLite (serial for the whole file), a
transaction-level advisory lock on PostgreSQL. Whoever waits longer than `LOCK_TIMEOUT_S` gets
`LedgerUnavailable`. An error leaves here without the driver's text, which could quote credentials or the
parameters of a statement.

SQLite serialises only where file locks work: keep the file on a local disk, not on a network file system.
PostgreSQL serialises only as long as every writer takes the lock; the table's unique constraints refuse one
that does not. What a PostgreSQL role may do there is in `synth.ledger.rights`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)

from synth.errors import LedgerError, LedgerUnavailable
from synth.ledger import rights
from synth.ledger.rights import Duty

LOCK_TIMEOUT_S = 30
MIGRATION_LOCK = "ledger migration"
REGISTRATION_LOCK = "ledger registration"

# insufficient_privilege; invalid_schema_name, where the role may use no schema at all
_NO_RIGHT = ("42501", "3F000")
# What is in the way, where the driver's code tells; by its beginning.
_IN_THE_WAY = {
    "SQLITE_FULL": "its disk is full: make room",
    "SQLITE_IOERR": "its disk fails or is full: make room, or mend it",
    "SQLITE_READONLY": "its disk or file is read-only: make it writable",
    "SQLITE_CANTOPEN": "its file cannot be opened: check its folder and its disk",
    "53100": "the disk of its server is full: make room",
    "25006": "its server only reads, as a standby does: make it the primary, or name the primary in the URL",
}
_READS_ONLY = "25006"
_PASSING = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
_ACCEPTED = "accepted: sqlite:////absolute/path/ledger.db or postgresql://user@host/database"

# Alembic hands the running migration to its scripts through module globals.
_alembic = threading.Lock()


class Database:
    """An engine and its transactions. Connections are not pooled, so a forked worker never shares one."""

    def __init__(self, engine: Engine, place: str) -> None:
        self.engine = engine
        self.place = place

    @classmethod
    def connect(cls, url: str) -> Database:
        """The database at ``url``; an SQLite file is created with its folder, for its owner alone."""
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            path = Path(parsed.database or "")
            _create_private(path)
            arguments: dict[str, Any] = {"timeout": LOCK_TIMEOUT_S}
            engine = create_engine(parsed, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
            event.listen(engine, "connect", _leave_transactions_to_sqlalchemy)
            event.listen(engine, "begin", _begin_sqlite)
            return cls(engine, str(path))
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        try:
            # A stricter default of the server would read a snapshot from before the lock was granted.
            engine = create_engine(parsed, poolclass=NullPool, hide_parameters=True, isolation_level="READ COMMITTED")
        except ImportError:
            raise LedgerError(
                "the driver of the ledger's database is not installed; install sluice-dp[postgres]"
            ) from None
        return cls(engine, f"{parsed.host or 'localhost'}/{parsed.database}")

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._translated(Duty.READER), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self, *locks: str, duty: Duty = Duty.WORKER) -> Iterator[Connection]:
        """The only transaction under each of ``locks``, committed when the block ends without an error.

        Who takes several takes `REGISTRATION_LOCK` first, and only one more: so none waits for another in a circle.

        :param duty: whose rights it needs, for the text of an error.
        """
        with (
            self._translated(duty),
            self.engine.connect().execution_options(sluice_begin="BEGIN IMMEDIATE") as connection,
            connection.begin(),
        ):
            if not self.is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
                for lock in locks:
                    connection.execute(select(func.pg_advisory_xact_lock(lock_number(lock))))
            yield connection

    def migrate(self) -> None:
        """Bring the schema to this version's; does nothing where it already is."""
        if self.is_current():
            return
        with _alembic, self.writing(MIGRATION_LOCK, duty=Duty.OWNER) as connection:
            config = _alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def grant(self, roles: Mapping[Duty, str | None]) -> None:
        """Give each role the rights of its duty, and no more; a duty without a role is left as it is."""
        named = {duty: role for duty, role in roles.items() if role is not None}
        if not named:
            return
        if self.is_sqlite:
            raise LedgerError(f"the ledger {self.place} is an SQLite file, and SQLite has no roles; leave them out")
        if len(set(named.values())) < len(named):
            raise LedgerError("the officer and the worker need a role each: one for both would separate nothing")
        with self.writing(MIGRATION_LOCK, duty=Duty.OWNER) as connection:
            for duty, role in named.items():
                rights.grant(connection, duty, role)

    def is_current(self) -> bool:
        """Whether the schema is this version's; `LedgerError` where it is one this version does not know."""
        with self.reading() as connection:
            revisions = MigrationContext.configure(connection).get_current_heads()
        known, head = _revisions()
        if not set(revisions) <= known:
            raise LedgerError(
                f"the database at {self.place} has a schema that this version does not know: a newer "
                "version of Sluice wrote it, or it belongs to another application; upgrade Sluice, or give "
                "the ledger its own database"
            )
        return revisions == (head,)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _translated(self, duty: Duty) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, IntegrityError) as error:
            # A unique constraint is hit only by a writer without the lock: trying again reads its entry.
            raise self._unavailable(_reason(error)) from None
        except DBAPIError as error:
            if _reason(error) == _READS_ONLY:
                raise self._unavailable(_reason(error)) from None
            if _reason(error) in _NO_RIGHT:
                raise LedgerError(
                    f"the ledger at {self.place}: the role that the URL connects as may not do this; {duty.remedy}"
                ) from None
            raise LedgerError(
                f"the ledger at {self.place} refused a statement ({_reason(error)}); check that the URL names a ledger"
            ) from None

    def _unavailable(self, reason: str) -> LedgerUnavailable:
        known = (remedy for code, remedy in _IN_THE_WAY.items() if reason.startswith(code))
        remedy = next(known, "cannot be reached or is locked")
        return LedgerUnavailable(
            f"the ledger at {self.place}: {remedy} ({reason}); nothing was recorded or the recording is not confirmed: "
            "try again, the same request is recorded once"
        )


def lock_number(name: str) -> int:
    """A signed 64-bit number for an advisory lock; in a collision two policies wait for each other."""
    return int.from_bytes(hashlib.sha256(f"sluice ledger: {name}".encode()).digest()[:8], "big", signed=True)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise LedgerError(f"the ledger URL cannot be read; {_ACCEPTED}") from None
    if backend not in ("sqlite", "postgresql"):
        raise LedgerError(f"the ledger does not run on {backend}; {_ACCEPTED}")
    if backend == "sqlite" and (parsed.database or ":memory:").startswith((":memory:", "file:")):
        raise LedgerError(f"the ledger has to outlive its process, and a file on disk does; {_ACCEPTED}")
    return parsed


def _create_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        kind = LedgerUnavailable if error.errno in _PASSING else LedgerError
        code = errno.errorcode.get(error.errno or 0, "OSError")
        raise kind(
            f"the ledger file {path} cannot be opened for writing ({code}); "
            "check the path, the rights on its folder and its disk, then try again"
        ) from None


def _leave_transactions_to_sqlalchemy(connection: Any, _record: object) -> None:
    # The driver's own BEGIN is deferred: it reads before it locks, and then fails at once if another wrote.
    connection.isolation_level = None
    # EXTRA: a commit that was confirmed survives a power cut right after it.
    connection.execute("PRAGMA synchronous = EXTRA")
    # Off by default, for the sake of databases older than foreign keys.
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sluice_begin", "BEGIN"))


def _reason(error: DBAPIError) -> str:
    original = error.orig
    code = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    return str(code or type(original).__name__)


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", "synth.ledger:migrations")
    return config


@cache
def _revisions() -> tuple[frozenset[str], str]:
    script = ScriptDirectory.from_config(_alembic_config())
    return frozenset(revision.revision for revision in script.walk_revisions()), str(script.get_current_head())
