"""A warm parent for all trials of the tests, with a PostgreSQL server beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.client import Harness, harness
from tests.ledger import postgres

JOBS = 2


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a running PostgreSQL server."""
    programs = postgres.binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed, so crashes of runs whose ledger is there are NOT tested")
    with postgres.running(programs) as server:
        yield server.port


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the trials of a test have their ledger."""
    if request.param == "postgresql":
        request.getfixturevalue("port")
    return {"backend": request.param}


@pytest.fixture(scope="module")
def warm(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """The parent."""
    port = request.getfixturevalue("port") if postgres.binaries() is not None else None
    with harness(port, JOBS) as started:
        yield started


@pytest.fixture(scope="module")
def clean(warm: Harness) -> dict[str, Any]:
    """The report of a run that nobody disturbed."""
    return warm.one({"kind": "clean", "backend": "sqlite"})
