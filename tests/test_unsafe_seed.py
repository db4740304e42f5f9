"""A run with an unsafe seed repeats to the bit, says NOT PRIVATE in all it leaves, and is never let out."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from synth import steps
from synth.approval import ask, decide
from synth.errors import NotPrivate, StepFailed
from synth.mechanisms import noisy_integers
from synth.randomness import poisson_mask, seeded, seeded_generator, standard_normal
from synth.release.manifest import artifact_digest, build_manifest, with_approval
from synth.release.publish import publish_bundle
from synth.release.verify import verify_release
from synth.run import Run, run_from_document
from synth.unsafe import seed_of
from tests.conftest import MIXTURE, Deployment, people, run_all

ROOT = Path(__file__).resolve().parents[1]
METHOD = {
    "name": "dpdsyn",
    "options": {"structure": "independent", "batch_size": 256, "steps": 6, "hidden_units": 4},
}
METHODS = {"independent": METHOD, "mixture": MIXTURE["method"]}
Made = tuple[Run, dict[str, dict[str, Any]]]


def deployed(folder: Path) -> Deployment:
    made = Deployment(folder)
    made.write(people())
    made.register(approval={"mode": "human", "approvers": ["ada", "olga"]})
    return made


def started(made: Deployment, run_id: str, seed: int | None, structure: str = "independent") -> Run:
    """A run whose contract names its places by their whole path, so that it outlives a test."""
    folder = made.folder
    source, bucket = {"uri": str(folder / "people.csv")}, {"uri": str(folder / "bucket")}
    method, approval = METHODS[structure], {"mode": "human"}
    contract = made.contract(source=source, publish=bucket, method=method, quality={}, approval=approval)
    return Run(contract, run_id, made.settings, unsafe_seed=seed)


def up_to_approval(made: Deployment, run_id: str, seed: int | None, structure: str = "independent") -> Made:
    run = started(made, run_id, seed, structure)
    return run, {step.__name__: step(run) for step in steps.BEFORE_APPROVAL}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployed(tmp_path_factory.mktemp("deployment"))


@pytest.fixture(scope="module")
def unsafe(place: Deployment) -> Made:
    """A run with the seed 7, as far as it can get."""
    return up_to_approval(place, "unsafe", 7)


@pytest.fixture(scope="module")
def seeded_runs(place: Deployment, unsafe: Made) -> dict[str, Run]:
    """A run with the seed 7 of each structure."""
    return {"independent": unsafe[0], "mixture": up_to_approval(place, "unsafe mixture", 7, "mixture")[0]}


def outputs(run: Run) -> dict[str, bytes]:
    """What the run's mechanisms released and what was made of it, by file."""
    noisy = {path.name: path.read_bytes()[40:] for path in (run.workspace.root / "dp").glob("*")}  # after the MAC
    data = {path.name: path.read_bytes() for path in (run.workspace.root / "bundle/data").glob("*")}
    return noisy | data


@pytest.mark.parametrize(
    ("structure", "mechanisms"),
    [("independent", {"label_model.npz"}), ("mixture", {"pairs.npz", "label_correction.npz"})],
)
def test_the_same_seed_gives_the_same_outputs_also_where_policy_and_keys_are_others(
    seeded_runs: dict[str, Run], tmp_path: Path, structure: str, mechanisms: set[str]
) -> None:
    again = outputs(up_to_approval(deployed(tmp_path), "again", 7, structure)[0])
    assert {"validation.npz", "marginals.npz", "gate_pairs.npz", "part-00000.parquet"} | mechanisms <= set(again)
    assert again == outputs(seeded_runs[structure])


@pytest.mark.parametrize(
    ("structure", "seed"),
    [("independent", 8), ("independent", None), ("mixture", 8)],
    ids=["another seed", "no seed", "another seed, mixture"],
)
def test_without_that_seed_every_mechanism_gives_another_output(
    seeded_runs: dict[str, Run], place: Deployment, structure: str, seed: int | None
) -> None:
    """Two runs without a seed differ as well, since each differs from this one by more than a rare chance."""
    other = outputs(up_to_approval(place, f"other {structure} {seed}", seed, structure)[0])
    first = outputs(seeded_runs[structure])
    same = {name for name in first if first[name] == other[name]}
    assert same <= {"model.json"}


def test_two_runs_without_a_seed_share_no_output(place: Deployment, unsafe: Made) -> None:
    """Whatever seeds the global generators of libraries have."""
    import torch

    made = []
    for run_id in ("first", "second"):
        np.random.seed(5)
        torch.manual_seed(5)
        made.append(outputs(up_to_approval(place, run_id, None)[0]))
    assert {name for name in made[0] if made[0][name] == made[1][name]} <= {"model.json"}


def test_every_step_says_not_private(unsafe: Made) -> None:
    run, facts = unsafe
    for name, fact in facts.items():
        assert fact["not_private"] is True, name
        assert fact["unsafe_seed"] == 7
        assert fact["notice"].startswith("NOT PRIVATE.")
    assert steps.check(run)["not_private"] is True


def test_the_ledger_says_not_private_before_anything_is_charged_and_at_the_gate(unsafe: Made) -> None:
    run, _ = unsafe
    entries = run.ledger.entries(run.policy_name, run.name)
    reserved = next(entry for entry in entries if entry.kind == "reserve")
    assert all(entry.sequence > reserved.sequence for entry in entries if entry.kind == "start")
    assert reserved.payload["details"]["not_private"] is True
    assert reserved.payload["details"]["unsafe_seed"] == 7
    gate = next(entry for entry in entries if entry.kind == "gate")
    assert gate.payload["not_private"] is True


@pytest.fixture(scope="module")
def bundle(unsafe: Made) -> Path:
    return unsafe[0].workspace.folder("bundle")


def test_the_card_says_not_private_in_front_matter_and_text(bundle: Path) -> None:
    _, matter, body = (bundle / "README.md").read_text().split("---\n", 2)
    document = yaml.safe_load(matter)
    assert document["not_private"] is True
    assert "not-private" in document["tags"]
    assert "differential-privacy" not in document["tags"]
    assert "**NOT PRIVATE." in body
    assert "ε" not in body


def test_the_statement_claims_nothing(bundle: Path) -> None:
    document = json.loads((bundle / "privacy_statement.json").read_text())
    assert document["not_private"] is True
    assert document["unsafe_seed"] == 7
    assert document["claim"] == {"not_private": True, "text": document["notice"]}
    assert not {"mechanisms", "cumulative", "randomness", "trust_model"} & set(document)
    assert "epsilon" not in json.dumps({**document, "notice": "", "claim": ""})
    markdown = (bundle / "privacy_statement.md").read_text()
    assert "**NOT PRIVATE." in markdown
    assert "ε" not in markdown


def test_the_report_says_not_private_and_states_no_epsilon(bundle: Path) -> None:
    document = json.loads((bundle / "quality_report.json").read_text())
    assert document["not_private"] is True
    assert document["claim"] == {"not_private": True, "text": document["notice"]}
    page = (bundle / "quality_report.html").read_text()
    assert '<p class="stamp" role="alert">NOT PRIVATE.' in page
    assert '<dd class="bad">NOT PRIVATE</dd>' in page
    assert "<title>NOT PRIVATE: " in page
    assert "ε" not in page.split("</style>")[1]


def test_the_data_say_not_private(bundle: Path) -> None:
    (part,) = (bundle / "data").glob("*.parquet")
    for file in (part, bundle / "measurements.parquet"):
        assert pq.read_schema(file).metadata[b"sluice"].startswith(b"NOT PRIVATE.")


def test_the_manifest_says_not_private_and_nothing_publishes_or_verifies_it(bundle: Path, tmp_path: Path) -> None:
    release = json.loads((bundle / "privacy_statement.json").read_text())["release"]
    manifest = build_manifest(bundle, dataset="people", version=release["version"], created_at=release["created_at"])
    assert manifest["not_private"] is True
    approved = with_approval(
        manifest, mode="human", by="olga", at="2027-01-01", artifact=artifact_digest(manifest["files"])
    )
    without = {key: value for key, value in approved.items() if key not in ("not_private", "notice")}
    for one in (approved, without):
        with pytest.raises(NotPrivate, match="--unsafe-seed"):
            publish_bundle(bundle, str(tmp_path / "bucket"), "people", release["version"], one)
    assert not (tmp_path / "bucket").exists()


def test_verification_of_a_copy_with_a_manifest_says_not_private(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    release = json.loads((bundle / "privacy_statement.json").read_text())["release"]
    manifest = build_manifest(copy, dataset="people", version=release["version"], created_at=release["created_at"])
    digest = artifact_digest(manifest["files"])
    approved = with_approval(manifest, mode="human", by="olga", at="2027-01-01", artifact=digest)
    (copy / "manifest.json").write_text(json.dumps(approved))
    (problem,) = verify_release(str(copy)).problems
    assert "NOT PRIVATE" in problem


def test_it_can_be_neither_asked_about_nor_decided_nor_published_whatever_the_ledger_holds(
    unsafe: Made, place: Deployment
) -> None:
    """Also by steps that are called without the flag."""
    run = started(place, "unsafe", None)
    assert run.unsafe_seed is None
    gate = run.ledger.find(run.policy_name, run.name, "gate")
    assert gate is not None
    refused: list[Callable[[], Any]] = [
        lambda: ask(run),
        lambda: decide(run, approved=True, by="olga", reason="good"),
        lambda: decide(run, approved=False, by="olga", reason="bad"),
        lambda: steps.approve(run),
        lambda: steps.publish(run),
    ]
    for attempt in refused:
        with pytest.raises(NotPrivate, match="--unsafe-seed"):
            attempt()
    assert run.ledger.find(run.policy_name, run.name, "decision") is None
    forged = {"approved": True, "artifact": gate.payload["artifact"], "mode": "human", "by": "olga", "reason": "x"}
    run.ledger.record(run.policy_name, run.name, "decision", {**forged, "at": "2027-01-01T00:00:00+00:00"})
    for attempt in refused:
        with pytest.raises(NotPrivate, match="--unsafe-seed"):
            attempt()
    assert not (place.folder / "bucket").exists()
    assert run.ledger.find(run.policy_name, run.name, "publishing") is None


def test_a_step_without_the_flag_does_not_shed_the_seed(deployment: Deployment) -> None:
    """Workspace and ledger each hold it: losing one of them is not enough."""
    first = deployment.run()
    first.unsafe_seed = 3
    assert steps.preflight(first)["not_private"] is True
    later = deployment.run()
    assert steps.allocate(later)["unsafe_seed"] == 3
    assert seed_of(later) == 3
    (later.workspace.root / "public/unsafe_seed.json").unlink()
    assert seed_of(deployment.run()) == 3
    assert steps.settle(deployment.run())["not_private"] is True


def test_a_run_that_reserved_without_a_seed_never_gets_one(deployment: Deployment) -> None:
    steps.allocate(deployment.run())
    late = deployment.run()
    late.unsafe_seed = 3
    for step in steps.STEPS:
        with pytest.raises(NotPrivate, match="begun without a seed"):
            step(late)
    assert seed_of(deployment.run()) is None
    assert "not_private" not in steps.settle(late)


def test_a_seed_cannot_be_exchanged(deployment: Deployment) -> None:
    for seed in (3, 4):
        run = deployment.run()
        run.unsafe_seed = seed
        if seed == 3:
            steps.allocate(run)
        else:
            with pytest.raises(NotPrivate, match="begun with another seed"):
                steps.allocate(run)
    assert seed_of(deployment.run()) == 3


def test_it_is_charged_like_any_run_and_by_a_split_of_its_own(deployment: Deployment) -> None:
    plain, seedy = deployment.run("plain"), deployment.run("seedy")
    seedy.unsafe_seed = 3
    steps.allocate(plain)
    steps.allocate(seedy)
    reserved = [run.ledger.find(run.policy_name, run.name, "reserve").payload for run in (plain, seedy)]
    assert reserved[0]["charges"] == reserved[1]["charges"]
    assert reserved[0]["split_id"] != reserved[1]["split_id"]
    assert "unsafe_seed" not in reserved[0]["details"]


def test_no_stamp_is_on_a_run_without_the_flag(deployment: Deployment) -> None:
    run = deployment.run(method=METHOD, quality={})
    facts = run_all(run)
    assert "NOT PRIVATE" not in json.dumps(facts)
    folder = Path(facts["publish"]["uri"].removeprefix("file://"))
    for path in folder.rglob("*"):
        assert path.is_dir() or b"NOT PRIVATE" not in path.read_bytes(), path
    assert not any("not_private" in str(entry.payload) for entry in run.ledger.entries(run.policy_name))


def test_only_inside_of_a_step_and_of_its_own_thread_is_anything_seeded() -> None:
    with seeded(1, "train"):
        first = standard_normal(4), poisson_mask(64, 0.5), noisy_integers(np.zeros(4), 5.0)
        elsewhere: list[Any] = []
        thread = threading.Thread(target=lambda: elsewhere.append(seeded_generator()))
        thread.start()
        thread.join()
        assert elsewhere == [None]
    assert seeded_generator() is None
    with seeded(1, "train"):
        again = standard_normal(4), poisson_mask(64, 0.5), noisy_integers(np.zeros(4), 5.0)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    with seeded(1, "check"):
        assert (standard_normal(4) != first[0]).all()
    assert (standard_normal(4) != first[0]).all()


def test_a_step_that_fails_leaves_nothing_seeded(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run = deployment.run()
    run.unsafe_seed = 3
    monkeypatch.setattr(steps, "check_columns", lambda contract: 1 / int(seeded_generator() is None))
    with pytest.raises(StepFailed, match="ZeroDivisionError"):
        steps.preflight(run)
    assert seeded_generator() is None


def modules() -> dict[str, ast.Module]:
    found = (path for folder in ("synth", "operators", "dags") for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in found}


def naming(*names: str) -> set[str]:
    """Modules whose code, not their comments, names one of these."""
    return {
        path
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id in names)
        or (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.alias) and node.name.rsplit(".")[-1] in names)
        or (isinstance(node, ast.keyword) and node.arg in names)
        or (isinstance(node, ast.arg) and node.arg in names)
        or (isinstance(node, ast.Constant) and node.value in names)
    }


def test_generators_are_seeded_in_one_place_that_only_the_steps_enter() -> None:
    assert naming("seeded") == {"synth/unsafe.py"}
    assert naming("drawing") == {"synth/boundary.py"}
    assert naming("_not_private") <= {"synth/randomness.py", "synth/release/statement.py"}


def test_no_operator_dag_contract_or_environment_can_set_the_seed() -> None:
    """Only the command line's flag, and whoever makes a Run by hand."""
    knowing = naming("unsafe_seed", "unsafe", "--unsafe-seed")
    assert not {path for path in knowing if path.startswith(("operators/", "dags/", "synth/contract/"))}
    assert naming("unsafe_seed") <= {
        "synth/assembly.py", "synth/cli/app.py", "synth/release/bundle.py", "synth/release/card.py",
        "synth/release/facts.py", "synth/release/report.py", "synth/release/stamp.py", "synth/release/statement.py",
        "synth/run.py", "synth/steps.py", "synth/unsafe.py",
    }  # fmt: skip
    assert list(inspect.signature(run_from_document).parameters) == ["document", "run_id"]
    made = {
        path: sorted(keyword.arg or "**" for keyword in node.keywords)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Run"
    }
    assert {path for path, given in made.items() if {"unsafe_seed", "**"} & set(given)} == {"synth/cli/app.py"}
    for path in (ROOT / "synth" / "settings.py", ROOT / "synth" / "run.py"):
        assert "UNSAFE" not in path.read_text("utf-8")


def test_operators_assign_nothing_to_a_run_but_who_asked_and_how() -> None:
    assigned = {
        target.attr
        for path, tree in modules().items()
        if path.startswith(("operators/", "dags/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "run"
    }
    assert assigned <= {"progress", "requested_by", "settings", "started", "storage_options"}
    calls = {
        node.func.id
        for path, tree in modules().items()
        if path.startswith(("operators/", "dags/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"setattr", "exec", "eval"}
