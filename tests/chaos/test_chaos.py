"""Whatever kills a worker, wherever: no uncharged look, no second output, no part of a release; a retry finishes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bucket import Server, variables
from tests.chaos.client import Harness
from tests.chaos.draw import RANDOM_STEPS, Draws, step_of
from tests.chaos.judge import holds_planted
from tests.chaos.results import counts, troubles
from tests.chaos.world import table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOTHING_WRONG = {
    "uncharged_looks": 0,
    "double_outputs": 0,
    "partial_releases": 0,
    "unfinished": 0,
    "wrong_charges": 0,
    "private_left": 0,
}
SQLITE = {"backend": "sqlite"}
MIXTURE = {**SQLITE, "structure": "mixture"}


def carried_out(warm: Harness, trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports of trials in which nothing may have gone wrong."""
    reports = list(warm.carry_out(trials))
    assert counts(reports) == {"trials": len(trials), **NOTHING_WRONG}, "\n".join(troubles(reports))
    return reports


def test_the_harness_sees_every_look_every_output_and_every_kind_of_action(
    warm: Harness, clean: dict[str, Any]
) -> None:
    """An instrument that sees nothing would find nothing wrong."""
    assert clean["outcome"] == "finished"
    assert not any(clean["problems"].values())
    mechanisms = ["gate_outcomes", "gate_pairs", "label_model", "marginals", "validation"]
    assert clean["outputs"] == mechanisms
    segments = 3  # of the label model; every other mechanism looks once
    assert (clean["looks"], clean["reads"]) == (len(mechanisms) - 1 + segments, 1)
    names = clean["boundaries"].values()
    kinds = {"reserve", "settled", "gate", "decision", "published"}
    kinds |= {f"{kind} {mechanism}" for kind in ("start", "commit") for mechanism in mechanisms}
    kinds |= {"segment segment"}
    for kind in kinds:
        for action in ("insert", "commit", "has"):
            assert f"ledger {action} {kind}" in names
    for part in ("link runs/people/chaos-*/dp/marginals.npz", "open bucket/", "rename bucket/", "link runs/"):
        assert any(f"file {part}" in name for name in names)
    assert {step_of(at) for at in clean["boundaries"]} == set(warm.steps)


def test_planted_values_are_found_where_they_are(tmp_path: Any) -> None:
    frame = table()
    frame.to_parquet(tmp_path / "rows.parquet")
    frame.to_csv(tmp_path / "rows.csv")
    assert holds_planted((tmp_path / "rows.parquet").read_bytes())
    assert holds_planted((tmp_path / "rows.csv").read_bytes())
    frame.iloc[3:].to_parquet(tmp_path / "others.parquet")
    assert not holds_planted((tmp_path / "others.parquet").read_bytes())


def test_a_worker_killed_at_any_boundary_is_made_up_for_by_a_retry(warm: Harness, clean: dict[str, Any]) -> None:
    reports = carried_out(warm, Draws(clean, SQLITE).boundaries())
    assert all(report["killed"] == 1 and report["outcome"] == "finished" for report in reports)


def test_killed_at_any_boundary_of_a_training_that_fits_a_mixture(warm: Harness) -> None:
    """What else a run does is the same for both structures."""
    undisturbed = warm.one({"kind": "clean", **MIXTURE})
    assert undisturbed["outcome"] == "finished"
    assert not any(undisturbed["problems"].values())
    assert {"marginals", "pairs", "label_correction"} <= set(undisturbed["outputs"])
    assert undisturbed["looks"] == len(undisturbed["outputs"])
    draws = Draws(undisturbed, MIXTURE)
    reports = carried_out(warm, draws.boundaries("train"))
    assert all(report["killed"] == 1 and report["outcome"] == "finished" for report in reports)
    carried_out(warm, [draws.random("train") for _ in range(3)])


def test_killed_at_boundaries_on_postgresql(warm: Harness, clean: dict[str, Any], port: int) -> None:
    """Each of the ledger, where PostgreSQL is another program; of the others every fifth."""
    trials = Draws(clean, {"backend": "postgresql"}).boundaries()
    names = clean["boundaries"]
    chosen = [t for i, t in enumerate(trials) if i % 5 == 0 or names[t["at"]].startswith("ledger commit")]
    reports = carried_out(warm, chosen)
    assert all(report["killed"] == 1 and report["outcome"] == "finished" for report in reports)


def test_killed_at_any_moment_in_train_generate_and_publish(
    warm: Harness, clean: dict[str, Any], place: dict[str, Any]
) -> None:
    draws = Draws(clean, place)
    reports = carried_out(warm, [draws.random(step) for step in RANDOM_STEPS for _ in range(5)])
    assert sum(report["killed"] for report in reports) > 3


def test_killed_again_and_again(warm: Harness, clean: dict[str, Any], place: dict[str, Any]) -> None:
    draws = Draws(clean, place)
    carried_out(warm, [draws.repeated() for _ in range(8)])


def test_two_workers_at_once_and_one_that_is_late(warm: Harness, clean: dict[str, Any], place: dict[str, Any]) -> None:
    draws = Draws(clean, place)
    kinds = (draws.together, draws.paused, draws.crossed, draws.settled)
    carried_out(warm, [kind() for kind in kinds for _ in range(7)])


def test_two_publications_crossed_at_any_file(warm: Harness, clean: dict[str, Any]) -> None:
    draws = Draws(clean, SQLITE)
    carried_out(warm, [draws.crossed("publish") for _ in range(15)])


def test_killed_while_it_uploads_to_an_object_store(warm: Harness, clean: dict[str, Any], server: Server) -> None:
    where = {**SQLITE, "bucket": variables(server.url)}
    uploads = warm.one({"kind": "clean", **where})
    assert uploads["outcome"] == "finished"
    assert not any(uploads["problems"].values())
    names = uploads["boundaries"]
    assert any(name.startswith("object put_object") and "manifest.json" in name for name in names.values())
    draws = Draws(uploads, where)
    carried_out(warm, [trial for trial in draws.boundaries("publish") if names[trial["at"]].startswith("object ")])
    carried_out(warm, [draws.crossed("publish") for _ in range(3)])


@pytest.mark.parametrize(
    ("twin", "counter", "trial"),
    [
        ("charge_after_the_look", "uncharged_looks", {"kind": "clean"}),
        ("last_writer_wins", "double_outputs", {"kind": "paused", "name": "rename runs/people/chaos-*/dp/marg"}),
        ("manifest_first", "partial_releases", {"kind": "boundary", "name": "open bucket/people/*-*/README.md"}),
        ("artifacts_written_in_place", "unfinished", {"kind": "boundary", "name": "open runs/people/chaos-*/dp/marg"}),
        ("attempts_are_forgotten", "wrong_charges", {"kind": "boundary", "name": "ledger has start marginals"}),
        ("rows_are_kept", "private_left", {"kind": "clean"}),
    ],
)
def test_a_broken_twin_is_caught(warm: Harness, twin: str, counter: str, trial: dict[str, Any]) -> None:
    spec: dict[str, Any] = {**SQLITE, "twin": twin, "kind": trial["kind"]}
    if "name" in trial:
        names = warm.one({**SQLITE, "twin": twin, "kind": "clean"})["boundaries"]
        spec["at"] = [at for at, name in names.items() if trial["name"] in name][-1]
        spec |= {"step": step_of(spec["at"]), "far": "step", "more": None}
    report = warm.one(spec)
    assert report["problems"].get(counter), report
