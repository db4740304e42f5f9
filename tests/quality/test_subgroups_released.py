"""A contract with subgroups, from its text to what is published: charged, told, judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from synth import steps
from synth.approval import ask
from synth.errors import QualityRejected, StepFailed
from synth.release.verify import verify_release
from synth.run import Run
from tests.conftest import MIXTURE, Deployment, people, run_all, starts

DECLARED: dict[str, Any] = {"subgroups": ["region", "member"], "min_subgroup_accuracy": 0.3, "max_subgroup_gap": 0.9}


PRIVACY = {"unit": {"column": "person"}, "epsilon": 4.0, "delta": 1e-5, "approximate_units": 6000}


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """So many people that each group but an empty one has enough of them in the holdout, whatever the noise."""
    made = Deployment(tmp_path)
    made.write(people(6000))
    made.register(approval={"mode": "automatic", "approvers": ["ada"]})
    return made


def started(deployment: Deployment, **changes: Any) -> Run:
    run: Run = deployment.run(**{"privacy": PRIVACY, "quality": DECLARED, **changes})
    return run


@pytest.mark.parametrize("changes", [{}, MIXTURE], ids=["independent", "mixture"])
def test_subgroups_are_charged_once_and_told_in_every_document(deployment: Deployment, changes: dict[str, Any]) -> None:
    run = started(deployment, **changes)
    facts = run_all(run)
    assert starts(run)["gate_subgroups"] == 1
    assert {"subgroup_accuracy_region", "subgroup_gap_member"} <= facts["check"]["quality"].keys()
    verification = verify_release(facts["publish"]["uri"])
    assert verification.ok, verification.problems
    folder = Path(facts["publish"]["uri"].removeprefix("file://"))
    assert len(pd.read_parquet(folder / "data")) == 1200
    statement = json.loads((folder / "privacy_statement.json").read_text(encoding="utf-8"))
    (own,) = (m for m in statement["mechanisms"] if m["name"] == "gate_subgroups")
    assert (own["branches"], own["attempts_charged"]) == (["holdout"], 1)
    assert (own["noise"]["sensitivity"], own["noise"]["queries"]) == (1, 2)
    assert statement["public_information"]["quality_thresholds"]["max_subgroup_gap"] == 0.9
    report = json.loads((folder / "quality_report.json").read_text(encoding="utf-8"))
    region = next(column for column in report["subgroups"]["columns"] if column["column"] == "region")
    noise = region["records_noise_scale"]
    assert noise == pytest.approx(own["noise"]["sigma"] * 8**0.5)
    assert sum(group["records"] for group in region["groups"]) == pytest.approx(1200, abs=6 * 3**0.5 * noise + 200)
    told = "Accuracy of gradient boosting by group: region 0."
    for document in (folder / "README.md", folder / "privacy_statement.md"):
        assert told in document.read_text(encoding="utf-8")


def test_who_approves_reads_of_the_subgroups(deployment: Deployment) -> None:
    run = started(deployment, approval={"mode": "human"})
    for step in steps.BEFORE_APPROVAL:
        step(run)
    text = ask(run).markdown()
    assert "Accuracy of gradient boosting by group: region 0." in text
    assert "| Lowest accuracy of gradient boosting in a group of region | 0." in text


def test_an_attempt_that_died_is_charged_again(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(deployment)
    for step in steps.STEPS[:5]:
        step(run)
    write = type(run.workspace).write_arrays

    def dies(self: Any, name: str, arrays: Any) -> None:
        if name == "dp/gate_subgroups.npz":
            raise MemoryError
        write(self, name, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(type(run.workspace), "write_arrays", dies)
        with pytest.raises(StepFailed):
            steps.check(run)
    retried = started(deployment)
    for step in steps.STEPS[5:]:
        facts = step(retried)
    assert starts(retried) == {**{m.name: 1 for m in run.plan.mechanisms}, "gate_subgroups": 2}
    assert verify_release(facts["uri"]).ok


@pytest.mark.parametrize(
    ("threshold", "missed"),
    [
        ({"min_subgroup_accuracy": 1.0}, "Lowest accuracy of gradient boosting in a group of region is 0"),
        ({"max_subgroup_gap": 0.0001}, "at most 0.0001 was asked"),
    ],
)
def test_a_threshold_that_is_missed_rejects_the_release(
    deployment: Deployment, threshold: dict[str, float], missed: str
) -> None:
    run = started(deployment, quality={"subgroups": ["region", "member"], **threshold})
    with pytest.raises(QualityRejected, match=missed):
        run_all(run)
    assert not (deployment.folder / "bucket").exists()


def test_a_group_with_hardly_anybody_is_told_of_and_rejects_nothing(deployment: Deployment) -> None:
    """Nobody lives in the west: whatever its noisy counts are, no accuracy is told of it or judged."""
    columns = deployment.contract().document()["schema"]
    columns["region"]["categories"].append("west")
    run = started(deployment, schema=columns, quality={"subgroups": ["region"], "min_subgroup_accuracy": 0.3})
    facts = run_all(run)
    folder = Path(facts["publish"]["uri"].removeprefix("file://"))
    assert "not enough records to say for" in (folder / "README.md").read_text(encoding="utf-8")
    report = json.loads((folder / "quality_report.json").read_text(encoding="utf-8"))
    *_, west = report["subgroups"]["columns"][0]["groups"]
    assert west["label"] == "west"
    assert not west["accuracy"]["gradient_boosting"]["enough_records"]
