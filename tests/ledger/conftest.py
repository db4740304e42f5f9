"""A ledger on disk with one registered policy of 1000 nano-nats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synth.ledger import Charge, Entry, Ledger

CAPACITY = 1000
DOCUMENT = {"sources": ["s3://hospital/admissions.parquet"], "unit": {"column": "patient"}, "epsilon": 3.0}
CHARGES = (
    Charge("validation", ("train", "holdout"), 50),
    Charge("training", ("train",), 200),
    Charge("gate", ("holdout",), 100),
)

Reserve = Callable[..., Entry]


def reserve_in(ledger: Ledger, run: str, **changes: Any) -> Entry:
    """Reserve `CHARGES` (250 in train, 150 in holdout), with some arguments changed."""
    arguments: dict[str, Any] = {
        "plan_digest": "plan-1",
        "split_id": "split-1",
        "max_attempts": 3,
        "charges": CHARGES,
        "details": {"epsilon": 1.0},
    }
    return ledger.reserve("patients", run, **(arguments | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget" / "ledger.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger.open(url) as ledger:
        ledger.register("patients", DOCUMENT, CAPACITY, "officer@hospital.example")
        yield ledger


@pytest.fixture
def reserve(ledger: Ledger) -> Reserve:
    return lambda run, **changes: reserve_in(ledger, run, **changes)
