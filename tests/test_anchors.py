"""An older copy of the ledger is refused where its head was noted, in a folder or a bucket; without that it is not."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synth.anchors import note, note_successor, noted
from synth.contract import Policy
from synth.errors import AnchorsUnavailable, PolicyError, TamperedArtifact
from synth.ledger import Charge, Entry, Ledger
from synth.officer import register
from tests.conftest import Deployment, policy_document

CAPACITY = 1000
DOCUMENT = {"sources": ["s3://hospital/admissions"]}


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where heads are noted."""
    if request.param == "folder":
        return str(tmp_path / "anchors")
    request.getfixturevalue("server")
    return "s3://releases/anchors"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(file: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{file}") as ledger:
        ledger.register("patients", DOCUMENT, CAPACITY, "officer")
        yield ledger


def spend(ledger: Ledger, run: str, policy: str = "patients") -> Entry:
    """A run of 100 nano-nats; returns the head after it."""
    arguments: dict[str, Any] = {"plan_digest": "plan", "split_id": "split", "max_attempts": 1, "details": {}}
    ledger.reserve(policy, run, charges=[Charge("m", ("train",), 100)], **arguments)
    ledger.begin(policy, run, "m", plan_digest="plan")
    ledger.record(policy, run, "settled", {})
    return ledger.verify(policy)


def entry(sequence: int, digest: str = "a" * 64) -> Entry:
    return Entry("patients", sequence, "note", "k", "run", "{}", "{}", "now", "", digest)


def test_an_old_backup_of_the_ledger_is_refused_by_what_was_noted_and_by_nothing_else(
    ledger: Ledger, file: Path, place: str
) -> None:
    note(place, "patients", spend(ledger, "one"))
    backup = shutil.copyfile(file, file.with_suffix(".backup"))
    note(place, "patients", spend(ledger, "two"))
    ledger.verify("patients", anchors=noted(place, "patients"))

    shutil.copyfile(backup, file)
    assert ledger.balance("patients").spent == 100
    ledger.verify("patients")
    with pytest.raises(TamperedArtifact, match="intact from entry 7 on: its digest is not the one that was noted"):
        ledger.verify("patients", anchors=noted(place, "patients"))

    spend(ledger, "another")
    ledger.verify("patients")
    with pytest.raises(TamperedArtifact, match="entry 7"):
        ledger.verify("patients", anchors=noted(place, "patients"))


def test_a_policy_registered_anew_in_an_empty_ledger_is_refused(ledger: Ledger, file: Path, place: str) -> None:
    note(place, "patients", ledger.verify("patients"))
    file.unlink()
    with Ledger.open(f"sqlite:///{file}") as fresh:
        fresh.register("patients", DOCUMENT, CAPACITY, "officer")
        fresh.verify("patients")
        with pytest.raises(TamperedArtifact, match="entry 1"):
            fresh.verify("patients", anchors=noted(place, "patients"))


def test_every_head_is_noted_once_and_under_its_policy(place: str) -> None:
    assert noted(place, "patients") == {}
    for _ in range(2):
        note(place, "patients", entry(3, "b" * 64))
        note(place, "patients", entry(10**12, "c" * 64))
        note(place, "patients.2", entry(4))
    assert noted(place, "patients") == {3: "b" * 64, 10**12: "c" * 64}
    assert noted(place, "patients.2") == {4: "a" * 64}
    assert noted(place, "patient") == {}


def test_two_digests_of_one_entry_are_two_histories(place: str) -> None:
    note(place, "patients", entry(3, "b" * 64))
    note(place, "patients", entry(3, "c" * 64))
    with pytest.raises(TamperedArtifact, match="two digests were noted for entry 3"):
        noted(place, "patients")


def test_names_that_are_no_heads_are_left_alone(tmp_path: Path) -> None:
    note(str(tmp_path), "patients", entry(3))
    (tmp_path / "patients" / ".DS_Store").touch()
    (tmp_path / "patients" / "000000000004-short").touch()
    assert noted(str(tmp_path), "patients") == {3: "a" * 64}


def test_a_policy_whose_name_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("../patients", "", "a/b"):
        with pytest.raises(PolicyError):
            note(str(tmp_path / "anchors"), name, entry(3))
    assert list(tmp_path.iterdir()) == []


def test_a_listing_is_never_an_old_one(server: Any) -> None:
    place = "s3://releases/anchors"
    assert noted(place, "patients") == {}
    server.client().put_object(Bucket="releases", Key=f"anchors/patients/000000000005-{'a' * 64}", Body=b"")
    assert noted(place, "patients") == {5: "a" * 64}


def refused(place: str) -> None:
    for call in (lambda: noted(place, "patients"), lambda: note(place, "patients", entry(3))):
        with pytest.raises(AnchorsUnavailable, match="nothing is released; check that it exists") as error:
            call()
        assert error.value.retry is True
        assert error.value.__cause__ is None
        assert "secret" not in str(error.value)


def test_a_bucket_that_is_not_there_or_refuses_stops_everything(server: Any) -> None:
    refused("s3://nowhere/anchors")
    server.refuse = lambda request: "AccessDenied"
    refused("s3://releases/anchors")


def test_a_place_that_cannot_be_used_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(str(tmp_path / "file"))
    refused("nosuch://secret@place/anchors")


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "patients").touch()
    refused(str(tmp_path))


def test_a_backup_from_before_a_succession_does_not_bring_the_predecessor_back(
    ledger: Ledger, file: Path, place: str
) -> None:
    note(place, "patients", spend(ledger, "one"))
    backup = shutil.copyfile(file, file.with_suffix(".backup"))
    later = ledger.register("later", DOCUMENT, CAPACITY, "officer", succeeds="patients")
    note_successor(place, "patients", later)
    ledger.verify("patients", anchors=noted(place, "patients"))
    note(place, "later", spend(ledger, "two", "later"))

    shutil.copyfile(backup, file)
    assert ledger.policy_for_source(DOCUMENT["sources"][0]).name == "patients"
    ledger.verify("patients")
    with pytest.raises(TamperedArtifact, match="the policy that succeeded it, as was noted elsewhere, is not there"):
        ledger.verify("patients", anchors=noted(place, "patients"))


def test_the_officer_notes_a_succession_and_registers_none_on_an_old_ledger(deployment: Deployment) -> None:
    settings = dataclasses.replace(deployment.settings, anchors=str(deployment.folder / "anchors"))
    file = deployment.folder / "ledger.db"
    with Ledger.open(settings.ledger_url) as ledger:
        backup = shutil.copyfile(file, file.with_suffix(".backup"))
        note(settings.anchors or "", "people_policy", spend(ledger, "one", "people_policy"))

        def succeed(name: str) -> None:
            policy = Policy.model_validate(
                {**policy_document(deployment.folder), "name": name, "succeeds": "people_policy"}
            )
            register(ledger, settings, policy, by="officer")

        today = shutil.copyfile(file, file.with_suffix(".today"))
        shutil.copyfile(backup, file)
        with pytest.raises(TamperedArtifact, match="noted elsewhere"):
            succeed("later_policy")
        shutil.copyfile(today, file)
        succeed("later_policy")
        succeed("later_policy")
        (registration,) = ledger.entries("later_policy")
        assert noted(settings.anchors or "", "people_policy")[0] == registration.digest
