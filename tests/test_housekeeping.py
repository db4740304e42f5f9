"""What a sweep erases, removes and settles, and what it leaves alone."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from synth import steps
from synth.approval import decide
from synth.errors import LedgerUnavailable, ReservationReleased, WorkspaceLocked
from synth.housekeeping import Sweep, sweep
from synth.run import Run
from tests.conftest import Deployment, after_validation, people, run_all, starts
from tests.test_leaks import PLANTED, all_bytes, planted

# As the snapshot holds the one that is within its column's domain.
NEEDLES = (*(text.encode() for text in PLANTED), struct.pack("<d", float(PLANTED[2])))
PRIVATE = "private/snapshot.parquet"


@pytest.fixture(params=[(), (secrets.token_bytes(32),)], ids=["access-restricted", "encrypted"])
def deployed(request: pytest.FixtureRequest, deployment: Deployment) -> Deployment:
    """A deployment with and without a workspace key, with reports, and a table with planted values."""
    deployment.settings = replace(
        deployment.settings, workspace_keys=request.param, reports=deployment.folder / "reports"
    )
    deployment.write(planted(people()))
    return deployment


def holders(deployment: Deployment) -> set[str]:
    """The files with a planted value, the source aside."""
    found = all_bytes(deployment.folder)
    source = deployment.folder / "people.csv"
    return {path.name for path, content in found if path != source and any(text in content for text in NEEDLES)}


def later(**ages: float) -> datetime:
    return datetime.now(UTC) + timedelta(**ages)


def reserved(deployment: Deployment, run_id: str = "one", **changes: Any) -> Run:
    """A run that was broken off after it had reserved and taken rows."""
    run = deployment.run(run_id, **changes)
    steps.preflight(run)
    steps.allocate(run)
    run.workspace.write(PRIVATE, b"rows")
    return run


def held(run: Run) -> float:
    return run.ledger.balance(run.policy_name).reserved


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in a folder, with its mode."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def test_nothing_private_remains_after_a_run_and_only_its_owner_sees_what_does(deployed: Deployment) -> None:
    before = os.umask(0o022)
    try:
        run = deployed.run()
        run_all(run)
    finally:
        os.umask(before)
    assert holders(deployed) == set()
    root = run.workspace.root
    assert (root / "bundle" / "data").is_dir()
    for path in [root.parent, root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_run_that_was_broken_off_keeps_rows_and_budget_until_the_retention_and_not_longer(
    deployed: Deployment,
) -> None:
    run = after_validation(deployed.run())
    encrypted = bool(deployed.settings.workspace_keys)
    assert holders(deployed) == (set() if encrypted else {"snapshot.parquet"}), "the search finds what is there"
    before = tree(deployed.folder)
    assert sweep(deployed.settings, now=later(hours=167)) == Sweep()
    assert tree(deployed.folder).keys() == before.keys()
    assert run.workspace.exists(PRIVATE)
    assert held(run) > 0

    done = sweep(replace(deployed.settings, workspace_keys=()), now=later(hours=169))
    assert done == Sweep(settled=1), "a lost key keeps no rows"
    assert list((run.workspace.root / "private").iterdir()) == []
    assert holders(deployed) == set()
    assert held(run) == 0
    assert starts(run)["validation"] == 1
    assert run.ledger.balance(run.policy_name).spent > 0, "what started stays spent"
    with pytest.raises(ReservationReleased):
        steps.train(deployed.run())
    assert sweep(deployed.settings, now=later(hours=170)) == Sweep()


def test_files_that_came_later_make_a_run_no_younger(deployment: Deployment) -> None:
    run = reserved(deployment)
    at = later(hours=200).timestamp()
    for path in run.workspace.root.rglob("*"):
        os.utime(path, (at, at))
    assert sweep(deployment.settings, now=later(hours=200)).settled == 1


def test_a_folder_that_says_it_is_older_than_its_reservation_is_not_believed(deployment: Deployment) -> None:
    run = reserved(deployment)
    path = run.workspace.root / "public" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created_at": "2020-01-01T00:00:00+00:00"}))
    assert sweep(deployment.settings) == Sweep()
    assert run.workspace.exists(PRIVATE)


def test_a_settling_that_was_cut_off_is_finished(deployment: Deployment) -> None:
    run = reserved(deployment)
    run.ledger.record(run.policy_name, run.name, "settled", {})
    assert held(run) > 0
    assert sweep(deployment.settings, now=later(hours=169)).settled == 1
    assert held(run) == 0
    assert not run.workspace.exists(PRIVATE)


def test_settling_needs_no_workspace_key(deployed: Deployment) -> None:
    run = reserved(deployed)
    with deployed.run() as without:
        without.settings = replace(deployed.settings, workspace_keys=())
        assert steps.settle(without)["never_started"]
        if deployed.settings.workspace_keys:
            with pytest.raises(WorkspaceLocked):
                _ = without.workspace
    assert not run.workspace.exists(PRIVATE)


def test_a_settled_run_s_workspace_and_report_are_removed_after_their_days_and_its_release_stays(
    deployed: Deployment,
) -> None:
    facts = run_all(deployed.run())
    still_young = reserved(deployed, "two")
    report = deployed.settings.report_of("people", "one")
    assert report is not None
    assert report.exists()
    ledger = still_young.ledger.entries("people_policy")
    assert sweep(deployed.settings, now=later(days=29), dry_run=True).removed == 0
    settings = replace(deployed.settings, retention_hours=10_000)
    assert sweep(settings, now=later(days=31)) == Sweep(removed=1), "never one that is not settled"
    assert [path.name for path in still_young.workspace.root.parent.iterdir()] == [still_young.workspace.root.name]
    assert not report.exists()
    assert (Path(facts["publish"]["uri"].removeprefix("file://")) / "manifest.json").exists()
    assert still_young.ledger.entries("people_policy") == ledger


def test_a_removed_run_cannot_go_on(deployment: Deployment) -> None:
    steps.settle(reserved(deployment))
    assert sweep(deployment.settings, now=later(days=31)).removed == 1
    again = deployment.run()
    steps.allocate(again)
    with pytest.raises(ReservationReleased):
        steps.validate(again)


def test_a_removal_that_is_cut_off_has_taken_the_key_and_is_finished_by_the_next_sweep(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps.settle(reserved(deployed))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut_off)
        done = sweep(replace(deployed.settings, retention_hours=10_000), now=later(days=31))
    assert [failure.rpartition(": ")[2] for failure in done.failures] == ["OSError"]
    left = {path.name for path in deployed.settings.workspaces.rglob("*")}
    assert "key" not in left
    assert "plan.json" in left
    assert sweep(deployed.settings, now=later(days=31)) == Sweep(removed=1)
    assert list((deployed.settings.workspaces / "people").iterdir()) == []


def cut_off(path: Path, **_: Any) -> None:
    raise OSError("the machine went down")


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Deployment, Run]]:
    """A run that asks a person, who has forty days to answer."""
    deployment = Deployment(tmp_path)
    deployment.write(people())
    deployment.register(approval={"mode": "human", "approvers": ["ada"]})
    run = deployment.run(approval={"mode": "human", "timeout_hours": 40 * 24})
    for step in steps.STEPS[:6]:
        step(run)
    with run:
        yield deployment, run


def test_a_run_that_waits_for_a_person_is_left_alone_until_the_time_is_over(waiting: tuple[Deployment, Run]) -> None:
    deployment, run = waiting
    before = tree(run.workspace.root)
    assert sweep(deployment.settings, now=later(days=39)) == Sweep(waiting=1)
    assert tree(run.workspace.root) == before
    steps.settle(run)
    assert sweep(deployment.settings, now=later(days=39)) == Sweep(waiting=1), "settled by hand, it waits as well"
    decide(run, approved=True, by="ada", reason="checked")
    assert steps.publish(run)["uri"]


def test_a_run_that_nobody_answered_is_settled_and_removed_when_the_time_is_over(
    waiting: tuple[Deployment, Run],
) -> None:
    deployment, run = waiting
    assert sweep(deployment.settings, now=later(days=42)) == Sweep(settled=1, removed=1)
    assert not run.workspace.root.exists()


def test_an_approved_release_can_still_be_published_after_its_run_was_settled_by_a_sweep(
    waiting: tuple[Deployment, Run],
) -> None:
    deployment, run = waiting
    decide(run, approved=True, by="ada", reason="checked")
    assert sweep(deployment.settings, now=later(days=8)) == Sweep(settled=1)
    assert steps.publish(run)["uri"]


def test_a_folder_from_the_future_is_left_alone_and_counted(deployment: Deployment) -> None:
    run = reserved(deployment)
    before = tree(run.workspace.root)
    assert sweep(deployment.settings, now=later(days=-2)) == Sweep(from_the_future=1)
    assert tree(run.workspace.root) == before


def test_a_folder_that_says_it_is_another_run_s_ends_no_run(deployment: Deployment) -> None:
    run = reserved(deployment)
    shutil.copytree(run.workspace.root, run.workspace.root.with_name("copy"))
    (run.workspace.root.parent / "nobody-s" / "private").mkdir(parents=True)
    (run.workspace.root.parent / "nobody-s" / "private" / "rows").write_bytes(b"x")
    (run.workspace.root.parent / "link").symlink_to(deployment.folder)
    shutil.move(run.workspace.root, deployment.folder / "elsewhere")
    assert sweep(deployment.settings, now=later(hours=200)) == Sweep(unidentified=2)
    assert held(run) > 0


def test_temporaries_of_killed_writes_are_removed_when_no_write_can_last_that_long(deployment: Deployment) -> None:
    run = deployment.run()
    steps.preflight(run)
    names = ("dp/.model.json.0123456789abcdef", "public/.plan.json.fedcba9876543210", ".key.0123456789abcdef")
    for name in (*names, "dp/.hidden", "dp/model.json"):
        (run.workspace.root / name).write_bytes(b"half")
    assert sweep(deployment.settings, now=later(hours=23)) == Sweep()
    assert sweep(deployment.settings, now=later(hours=25)) == Sweep(temporaries=3)
    left = {str(path.relative_to(run.workspace.root)) for path in run.workspace.root.rglob("*") if path.is_file()}
    assert left == {"key", "dp/.hidden", "dp/model.json", "public/run.json"}


def test_what_fails_with_one_run_does_not_keep_the_others(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [reserved(deployment, run_id) for run_id in ("a", "b", "c")]
    real = shutil.rmtree

    def fails_once(path: Path, **options: Any) -> None:
        if path.parent != runs[1].workspace.root:
            real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fails_once)
        done = sweep(deployment.settings, now=later(hours=200))
    assert done.failures == [f"people/{runs[1].workspace.root.name}: StorageUnavailable"]
    assert [run.workspace.exists(PRIVATE) for run in runs] == [False, True, False]
    assert sweep(deployment.settings, now=later(hours=200)).failures == []
    assert not runs[1].workspace.exists(PRIVATE)


def test_a_ledger_that_is_away_ends_the_sweep_before_anything_is_erased(deployment: Deployment) -> None:
    run = reserved(deployment)
    away = replace(deployment.settings, ledger_url="postgresql+psycopg://sluice:nothing@127.0.0.1:9/ledger")
    with pytest.raises(LedgerUnavailable):
        sweep(away, now=later(days=31))
    assert run.workspace.exists(PRIVATE)


@pytest.mark.parametrize("age", [{"hours": 200}, {"days": 31}])
def test_a_dry_run_counts_the_same_and_does_nothing(deployment: Deployment, age: dict[str, float]) -> None:
    reserved(deployment, "a")
    steps.settle(reserved(deployment, "b"))
    before, now = tree(deployment.settings.workspaces), later(**age)
    promised = sweep(deployment.settings, now=now, dry_run=True)
    assert tree(deployment.settings.workspaces) == before
    assert held(deployment.run("a")) > 0
    assert promised == sweep(deployment.settings, now=now)
    assert promised.settled == 1


@pytest.mark.parametrize("prepare", [steps.preflight, steps.settle], ids=["preflight only", "settled only"])
def test_a_run_that_never_reserved_is_removed_after_its_days(
    deployment: Deployment, prepare: Callable[[Run], Any]
) -> None:
    run = deployment.run()
    prepare(run)
    assert not sweep(deployment.settings, now=later(days=29)).settled
    sweep(deployment.settings, now=later(days=31))
    assert [path for path in deployment.settings.workspaces.rglob("*") if path.is_file()] == []


def test_counts_are_numbers_only() -> None:
    counts = Sweep(failures=["people/one-0123: OSError"]).counts()
    assert counts["failures"] == 1
    assert all(type(count) is int for count in counts.values())
