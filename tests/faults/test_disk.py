"""A disk that is full, read-only, or takes no larger file, at each place where a step writes."""

from __future__ import annotations

from typing import Any

import pytest

from synth import steps
from synth.errors import PublishFailed, StorageUnavailable
from tests.conftest import Deployment, people, starts
from tests.faults.disk import SmallDisk, largest_file
from tests.faults.promises import complete, leftovers, refused, released, up_to


@pytest.fixture
def workspaces_on_small_disk(on_sqlite: Deployment, disk: SmallDisk) -> Deployment:
    disk.mount(on_sqlite.folder / "runs")
    return on_sqlite


def test_no_room_for_the_snapshot_starts_nothing(workspaces_on_small_disk: Deployment, disk: SmallDisk) -> None:
    deployment = workspaces_on_small_disk
    run = deployment.run()
    up_to(run, steps.validate)
    disk.fill(leaving=8192)
    with refused(StorageUnavailable) as error:
        steps.validate(run)
    assert "a disk is full" in str(error.value)
    assert str(deployment.settings.workspaces) in str(error.value)
    assert set(starts(run).values()) == {0}
    assert list((run.workspace.root / "private").iterdir()) == []
    disk.free()
    complete(deployment)


@pytest.mark.parametrize("step", [steps.train, steps.check], ids=lambda step: step.__name__)
def test_no_room_for_an_output_is_found_before_the_mechanism_is_charged(
    workspaces_on_small_disk: Deployment, disk: SmallDisk, step: Any
) -> None:
    """Otherwise the tries of a task, on a disk that stays full, would use up the attempts of the plan."""
    run = workspaces_on_small_disk.run()
    up_to(run, step)
    before = starts(run)
    disk.fill(leaving=1 << 20)
    for _ in range(3):
        with refused(StorageUnavailable):
            step(run)
    assert starts(run) == before
    disk.free()
    complete(workspaces_on_small_disk)


def test_an_output_that_finds_the_disk_full_is_lost_and_its_attempt_stays_charged(
    workspaces_on_small_disk: Deployment, disk: SmallDisk
) -> None:
    run = workspaces_on_small_disk.run()
    up_to(run, steps.train)
    run.progress = lambda task, done, total: disk.fill() if done == total else None
    with refused(StorageUnavailable):
        steps.train(run)
    assert starts(run)["label_model"] == 1
    assert not run.workspace.exists("dp/label_model.npz")
    assert leftovers(workspaces_on_small_disk) == []
    disk.free()
    facts = complete(workspaces_on_small_disk, extra={"label_model": 1})
    assert facts["publish"]["epsilon"] > run.plan.epsilon


@pytest.mark.parametrize("leaving", [0, 8192])
def test_generation_goes_on_with_the_seed_it_began_with(
    workspaces_on_small_disk: Deployment, disk: SmallDisk, leaving: int
) -> None:
    run = workspaces_on_small_disk.run()
    up_to(run, steps.generate)
    disk.fill(leaving=leaving)
    with refused(StorageUnavailable):
        steps.generate(run)
    begun = run.workspace.exists("public/sampling_seed.json")
    assert begun == (leaving > 0)
    seed = run.workspace.read_json("public/sampling_seed.json") if begun else None
    disk.free()
    complete(workspaces_on_small_disk)
    assert seed in (None, run.workspace.read_json("public/generation.json")["seed"])


def test_a_half_built_bundle_is_built_again_and_nothing_is_measured_twice(
    workspaces_on_small_disk: Deployment, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = workspaces_on_small_disk
    run = deployment.run()
    up_to(run, steps.check)
    build = steps.build_bundle

    def fills_the_disk(*arguments: Any) -> str:
        disk.fill(leaving=16384)
        return build(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "build_bundle", fills_the_disk)
        with refused(StorageUnavailable):
            steps.check(run)
    assert run.ledger.find(run.policy_name, run.name, "gate") is None
    disk.free()
    complete(deployment)


def test_no_room_for_the_approvers_report_is_said_and_leaves_no_half_of_it(
    on_sqlite: Deployment, disk: SmallDisk
) -> None:
    disk.mount(on_sqlite.folder / "reports")
    run = on_sqlite.run()
    up_to(run, steps.check)
    disk.fill(leaving=16384)
    with refused(StorageUnavailable) as error:
        steps.check(run)
    assert str(on_sqlite.settings.reports) in str(error.value)
    assert leftovers(on_sqlite) == []
    assert not list(on_sqlite.folder.glob("reports/*/*"))
    disk.free()
    complete(on_sqlite)


def test_a_full_local_bucket_shows_nothing_and_a_retry_completes(on_sqlite: Deployment, disk: SmallDisk) -> None:
    disk.mount(on_sqlite.folder / "bucket")
    run = on_sqlite.run()
    up_to(run, steps.publish)
    for leaving in (0, 16384, 65536):
        disk.fill(leaving=leaving)
        with refused(PublishFailed):
            steps.publish(run)
        assert released(on_sqlite) == []
        disk.free()
    complete(on_sqlite)


def test_rows_that_cannot_be_erased_are_no_settled_run(workspaces_on_small_disk: Deployment, disk: SmallDisk) -> None:
    run = workspaces_on_small_disk.run()
    up_to(run, steps.train)
    disk.writable(False)
    for step in (steps.train, steps.settle):
        with refused(StorageUnavailable):
            step(run)
    assert list((run.workspace.root / "private").iterdir())
    disk.writable(True)
    steps.settle(run)
    assert list((run.workspace.root / "private").iterdir()) == []


def test_a_snapshot_larger_than_any_file_may_be_is_refused_and_leaves_nothing(
    on_sqlite: Deployment,
) -> None:
    """Needs no rights: the bound is the process's own."""
    on_sqlite.write(people(30_000))
    run = on_sqlite.run()
    up_to(run, steps.validate)
    with largest_file(200_000), refused(StorageUnavailable) as error:
        steps.validate(run)
    assert "larger than the system allows" in str(error.value)
    assert set(starts(run).values()) == {0}
    assert list((run.workspace.root / "private").iterdir()) == []
    complete(on_sqlite)


def test_a_generated_part_larger_than_any_file_may_be_is_refused_and_leaves_nothing(on_sqlite: Deployment) -> None:
    run = on_sqlite.run(rows=40_000)
    up_to(run, steps.generate)
    with largest_file(200_000), refused(StorageUnavailable):
        steps.generate(run)
    assert leftovers(on_sqlite) == []
    complete(on_sqlite, run=on_sqlite.run(rows=40_000))
