"""The small deployment that a trial works in: a table, its contract and policy, a ledger and a bucket of its own.

Everything that does not change is made once and shared: the table, the split key, a ledger with the policy registered
and, on PostgreSQL, a database that others are copied from.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from synth.contract import Contract, Policy, UnitColumn, contract_from_document
from synth.contract.models import PolicyApproval
from synth.ledger import Ledger
from synth.officer import register
from synth.run import Run
from synth.settings import Settings
from tests.ledger import postgres
from tests.ledger.postgres import LedgerDatabase

DATASET, POLICY, RUN_ID = "people", "people_policy", "chaos"
ROWS = 300
PLANTED = (271828.18284590452, 141421.35623730951, 173205.08075688773)
PLANTED_BYTES = tuple(text for value in PLANTED for text in (struct.pack("<d", value), repr(value).encode()))

_DOCUMENT: dict[str, Any] = {
    "version": 1,
    "dataset": {
        "name": DATASET,
        "title": "Made-up people",
        "owner": "Tests",
        "description": "Rows from a random generator.",
        "licence": "CC0-1.0",
    },
    "source": {"uri": "${SLUICE_CHAOS_TABLES}/people.csv"},
    # Of each mechanism five attempts may start: more than any trial kills, so that every one of them can finish.
    "privacy": {
        "unit": {"column": "person"},
        "epsilon": 1.0,
        "delta": 1e-5,
        "approximate_units": ROWS,
        "max_attempts": 5,
    },
    "schema": {
        "income": {"type": "number", "min": 0, "max": 300_000},
        "region": {"type": "categorical", "categories": ["north", "south", "east"]},
        "buys": {"type": "categorical", "categories": ["no", "yes"]},
    },
    "task": {"target": "buys", "kind": "binary"},
    "rows": 200,
    "approval": {"mode": "automatic"},
    "publish": {"uri": "${SLUICE_CHAOS_BUCKET}"},
}

STRUCTURES: dict[str, dict[str, Any]] = {
    "independent": {
        "structure": "independent",
        "labels": "argmax",
        "batch_size": 64,
        "steps": 6,
        "checkpoint_every": 2,
        "max_resumes": 3,
    },
    "mixture": {"structure": "mixture", "components": 4},
}


def contract(structure: str) -> Contract:
    """The contract of every trial of a structure."""
    return contract_from_document({**_DOCUMENT, "method": {"options": STRUCTURES[structure]}})


def policy(tables: Path) -> Policy:
    """The policy of all trials."""
    return Policy(
        name=POLICY,
        sources=(str(tables / "people.csv"),),
        unit=UnitColumn(column="person"),
        epsilon=50.0,
        delta=1e-4,
        max_release_epsilon=50.0,
        holdout_fraction=0.2,
        approval=PolicyApproval(mode="automatic"),
    )


@dataclass(frozen=True)
class World:
    """One trial's deployment.

    :ivar structure: of the contract's method.
    :ivar folder: what is durable here, but a ledger on PostgreSQL and a bucket on S3: workspaces, reports, bucket.
    :ivar notes: for the harness' own files.
    """

    structure: str
    folder: Path
    notes: Path
    ledger_url: str
    bucket: str
    keys: Path
    environment: Mapping[str, str]

    def enter(self) -> None:
        """Let this process, a child, see the world."""
        os.environ.update(self.environment)

    def run(self) -> Run:
        """The run, as a worker opens it."""
        settings = Settings(
            ledger_url=self.ledger_url,
            workspaces=self.folder / "runs",
            keys=self.keys,
            reports=self.folder / "reports",
        )
        return Run(contract(self.structure), RUN_ID, settings=settings)

    def entries(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and payload of the run's entries, past the library: straight from the database."""
        statement = "SELECT kind, payload FROM entries WHERE run = {} ORDER BY sequence"
        name = (f"{DATASET}/{RUN_ID}",)
        if self.ledger_url.startswith("sqlite"):
            with closing(sqlite3.connect(self.ledger_url.removeprefix("sqlite:///"), timeout=30)) as connection:
                rows = connection.execute(statement.format("?"), name).fetchall()
        else:
            with psycopg.connect(self.ledger_url) as connection:
                rows = connection.execute(statement.format("%s"), name).fetchall()
        return [(kind, json.loads(payload)) for kind, payload in rows]


class Elsewhere(postgres.Server):
    """A PostgreSQL server that another process runs."""

    def __init__(self, port: int) -> None:
        self.port = port


@dataclass
class Worlds:
    """Makes worlds below a folder.

    :param postgresql: the port of a server with the roles of `tests.ledger.postgres`, None where there is none.
    """

    folder: Path
    postgresql: int | None
    _made: int = field(default=0, init=False)

    def prepare(self) -> None:
        """Make what all worlds share."""
        self.shared.mkdir(parents=True)
        table().to_csv(self.shared / "people.csv", index=False)
        self._register(f"sqlite:///{self.shared / 'ledger.db'}")
        if self.postgresql is not None:
            base = LedgerDatabase.create(Elsewhere(self.postgresql), "chaos")
            base.migrate()
            self._register(base.officer)

    @property
    def shared(self) -> Path:
        """Where that is."""
        return self.folder / "shared"

    def number(self) -> int:
        """Of the next world."""
        self._made += 1
        return self._made

    @contextmanager
    def world(
        self, number: int, backend: str, bucket: Mapping[str, str] | None = None, structure: str = "independent"
    ) -> Iterator[World]:
        """A fresh world, gone at the end.

        :param backend: ``sqlite`` or ``postgresql``.
        :param bucket: the variables of the environment that lead to S3; a local bucket where there are none.
        """
        folder = self.folder / str(number)
        (folder / "world").mkdir(parents=True)
        database = self._database(number) if backend == "postgresql" else None
        if database is None:
            shutil.copyfile(self.shared / "ledger.db", folder / "world" / "ledger.db")
        uri = f"s3://releases/{number}" if bucket else str(folder / "world" / "bucket")
        try:
            yield World(
                structure=structure,
                folder=folder / "world",
                notes=folder,
                ledger_url=database.worker if database else f"sqlite:///{folder / 'world' / 'ledger.db'}",
                bucket=uri,
                keys=self.shared / "keys",
                environment={
                    "SLUICE_CHAOS_TABLES": str(self.shared),
                    "SLUICE_CHAOS_BUCKET": uri,
                    **(bucket or {}),
                },
            )
        finally:
            if database is not None:
                database.drop()
            shutil.rmtree(folder, ignore_errors=True)

    def _database(self, number: int) -> LedgerDatabase:
        if self.postgresql is None:
            raise ValueError("Expected a PostgreSQL server, none was named.")
        return LedgerDatabase.create(Elsewhere(self.postgresql), f"chaos_{number}", template="chaos")

    def _register(self, url: str) -> None:
        settings = Settings(ledger_url=url, workspaces=self.folder, keys=self.shared / "keys")
        with Ledger.open(url) as ledger:
            register(ledger, settings, policy(self.shared), by="officer")


def table() -> pd.DataFrame:
    """Made-up people, three of them with an income that is found again wherever it is copied to."""
    generator = np.random.default_rng(0)
    income = generator.uniform(0, 300_000, ROWS)
    income[: len(PLANTED)] = PLANTED
    return pd.DataFrame(
        {
            "person": np.arange(ROWS) + 10_000,
            "income": income,
            "region": generator.choice(["north", "south", "east"], ROWS, p=[0.5, 0.3, 0.2]),
            "buys": np.where(income + generator.normal(0, 50_000, ROWS) > 150_000, "yes", "no"),
        }
    )
