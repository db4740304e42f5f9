"""The ledger's file is locked by another process, read-only, or on a disk that is full."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synth import steps
from synth.errors import LedgerUnavailable
from synth.settings import Settings
from tests.conftest import Deployment, starts
from tests.faults.disk import SmallDisk
from tests.faults.promises import complete, refused, released, table, up_to

# Every step that has something to record, the first time.
WRITING = (steps.allocate, steps.validate, steps.train, steps.check, steps.approve, steps.publish, steps.settle)


@pytest.fixture
def on_small_disk(disk: SmallDisk, tmp_path: Path) -> Deployment:
    """A deployment whose ledger alone is on the small disk."""
    made = Deployment(tmp_path)
    disk.mount(tmp_path / "ledger")
    ledger = f"sqlite:///{tmp_path / 'ledger' / 'ledger.db'}"
    made.settings = Settings(ledger, tmp_path / "runs", tmp_path / "keys", tmp_path / "reports")
    made.write(table())
    made.register()
    return made


@contextmanager
def locked(deployment: Deployment) -> Iterator[None]:
    """Another connection holds the file for itself."""
    path = deployment.settings.ledger_url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        other.close()


def test_a_locked_file_stops_every_step_that_records_and_costs_nothing(
    on_sqlite: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synth.ledger.database.LOCK_TIMEOUT_S", 0.05)
    run = on_sqlite.run()
    for step in (*steps.STEPS, steps.settle):
        if step in WRITING:
            with locked(on_sqlite):
                for one in (run, on_sqlite.run()):
                    with refused(LedgerUnavailable):
                        step(one)
        step(run)
    complete(on_sqlite)


def test_a_full_disk_stops_every_step_that_records_and_costs_nothing(
    on_small_disk: Deployment, disk: SmallDisk
) -> None:
    run = on_small_disk.run()
    for step in (*steps.STEPS, steps.settle):
        if step in WRITING:
            disk.fill()
            for one in (run, on_small_disk.run()):
                with refused(LedgerUnavailable) as error:
                    step(one)
                assert "full" in str(error.value)
            disk.free()
        step(run)
    complete(on_small_disk)


def test_a_disk_that_fills_up_in_training_loses_no_output_and_charges_none_twice(
    on_small_disk: Deployment, disk: SmallDisk
) -> None:
    run = on_small_disk.run()
    up_to(run, steps.train)
    run.progress = lambda task, done, total: disk.fill() if done == total else None
    with refused(LedgerUnavailable):
        steps.train(run)
    output = run.workspace.read("dp/label_model.npz")
    disk.free()
    complete(on_small_disk)
    assert run.workspace.read("dp/label_model.npz") == output


def test_a_read_only_disk_is_an_error_to_retry(on_small_disk: Deployment, disk: SmallDisk) -> None:
    """For a run that was opened before, and for one that is opened only now."""
    run = on_small_disk.run()
    for last in (steps.train, steps.publish):
        up_to(run, last)
        before = starts(run)
        disk.writable(False)
        for one in (run, on_small_disk.run()):
            with refused(LedgerUnavailable):
                last(one)
        disk.writable(True)
        assert starts(run) == before
        assert released(on_small_disk) == []
    complete(on_small_disk)
