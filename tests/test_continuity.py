"""An older copy of the ledger is refused by the steps, by what was noted of it and by the releases themselves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synth import steps
from synth.errors import AnchorsUnavailable, TamperedArtifact
from tests.conftest import Deployment, run_all

IMPOSSIBLE = {"quality": {"max_pair_distance": 0.0001}}


def anchored(deployment: Deployment) -> Deployment:
    deployment.settings = replace(deployment.settings, anchors=str(deployment.folder / "anchors"))
    return deployment


def ledger_file(deployment: Deployment) -> Path:
    return deployment.folder / "ledger.db"


def refused(deployment: Deployment) -> Any:
    with pytest.raises(Exception, match="quality"):
        run_all(deployment.run("refused", **IMPOSSIBLE))
    steps.settle(deployment.run("refused", **IMPOSSIBLE))


def test_a_restored_backup_is_refused_after_a_run_that_released_nothing(deployment: Deployment) -> None:
    anchored(deployment)
    shutil.copy(ledger_file(deployment), deployment.folder / "backup.db")
    refused(deployment)
    steps.allocate(deployment.run("later"))
    shutil.copy(deployment.folder / "backup.db", ledger_file(deployment))
    with pytest.raises(TamperedArtifact, match="noted elsewhere"):
        steps.allocate(deployment.run("after the restore"))
    unanchored = Deployment(deployment.folder)
    assert steps.allocate(unanchored.run("after the restore")), "without anchors and releases nobody could tell"


def test_a_restored_backup_is_refused_by_the_statement_of_a_release_alone(deployment: Deployment) -> None:
    shutil.copy(ledger_file(deployment), deployment.folder / "backup.db")
    facts = run_all(deployment.run("one"))
    statement = json.loads(
        (Path(facts["publish"]["uri"].removeprefix("file://")) / "privacy_statement.json").read_text()
    )
    run = deployment.run("one")
    entries = {entry.sequence: entry.digest for entry in run.ledger.entries(run.policy_name)}
    assert entries[statement["ledger"]["sequence"]] == statement["ledger"]["digest"]
    assert statement["ledger"]["policy"] == run.policy_name
    steps.allocate(deployment.run("two"))
    shutil.copy(deployment.folder / "backup.db", ledger_file(deployment))
    with pytest.raises(TamperedArtifact, match="noted elsewhere"):
        steps.allocate(deployment.run("three"))


def test_a_run_under_way_when_the_backup_is_restored_does_not_publish(deployment: Deployment) -> None:
    anchored(deployment)
    run = deployment.run("one")
    for step in steps.BEFORE_APPROVAL:
        step(run)
    steps.approve(run)
    shutil.copy(ledger_file(deployment), deployment.folder / "backup.db")
    refused(deployment)
    shutil.copy(deployment.folder / "backup.db", ledger_file(deployment))
    with pytest.raises(TamperedArtifact, match="noted elsewhere"):
        steps.publish(deployment.run("one"))
    assert not (deployment.folder / "bucket").exists()


def test_where_nothing_can_be_noted_nothing_is_read(deployment: Deployment) -> None:
    (deployment.folder / "anchors").write_text("a file")
    anchored(deployment)
    with pytest.raises(AnchorsUnavailable) as caught:
        steps.allocate(deployment.run("one"))
    assert caught.value.retry
    (deployment.folder / "anchors").unlink()
    run_all(deployment.run("one"))


def test_rows_are_erased_though_the_head_cannot_be_noted(deployment: Deployment) -> None:
    anchored(deployment)
    run = deployment.run("one")
    for step in steps.STEPS[:4]:
        step(run)
    shutil.move(deployment.folder / "anchors", deployment.folder / "elsewhere")
    (deployment.folder / "anchors").write_text("a file")
    with pytest.raises(AnchorsUnavailable):
        steps.settle(run)
    assert not list(run.workspace.root.joinpath("private").iterdir())


def test_leftovers_and_other_policies_in_the_bucket_are_no_anchors(deployment: Deployment) -> None:
    place = deployment.folder / "bucket" / "people"
    for name, text in {
        "20260101-aaaaaaaaaaaa": "{",
        "20260102-aaaaaaaaaaaa": json.dumps({"ledger": {"policy": "others", "sequence": 9, "digest": "f" * 64}}),
        "20260103-aaaaaaaaaaaa": json.dumps({"statement_version": 1}),
    }.items():
        (place / name).mkdir(parents=True)
        (place / name / "privacy_statement.json").write_text(text)
    (place / "20260104-aaaaaaaaaaaa").mkdir()
    (place / "a file").write_text("")
    steps.allocate(deployment.run("one"))
