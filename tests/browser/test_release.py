"""A release from the trigger form to the bucket, clicked by two people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from synth.release.verify import verify_release
from tests.browser import report
from tests.browser.deployment import DAG, DATASET, Up
from tests.scheduler.rest import DagRun

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.chromium import Chromium

pages = pytest.importorskip("tests.browser.pages", reason="the web interface is NOT tested: install the extra dev")
expect = pages.expect

BEFORE_APPROVAL = ("preflight", "allocate", "validate", "train", "generate", "check")


@pytest.fixture(scope="module")
def by_admin(admin: Page, deployment: Up) -> DagRun:
    """A run that admin has started with a smaller ε than the contract's, and that asks."""
    run = pages.trigger(admin, deployment.url, DAG, "0.8")
    pages.wait_until_asked(admin)
    return DagRun(deployment.account, DAG, run)


@pytest.fixture(scope="module")
def released(by_admin: DagRun, olga: Page, deployment: Up) -> Path:
    """What olga lets out of it."""
    pages.open_question(olga, deployment.url, DATASET)
    pages.answer(olga, "Approve", "the marginals are close enough")
    assert by_admin.ended(within_s=300) == "success"
    (folder,) = deployment.released()
    return folder


def runs(deployment: Up) -> int:
    count: int = deployment.account.get(f"/dags/{DAG}/dagRuns")["total_entries"]
    return count


def test_the_trigger_form_makes_a_run_stricter_and_never_looser(deployment: Up, admin: Page) -> None:
    form = pages.open_trigger_form(admin, deployment.url, DAG)
    for section, largest, tried, smaller in (("Privacy", "1", "2", "0.8"), ("Release", "6000", "6001", "500")):
        fields = pages.open_section(form, section)
        field = fields.get_by_role("spinbutton")
        expect(field).to_have_value(largest)
        expect(field).to_have_attribute("aria-valuemax", largest)
        expect(fields).to_contain_text(f"t most the contract's {int(largest):,}")
        pages.type_number(field, tried)
        expect(field).to_have_value(largest)
        pages.type_number(field, smaller)
        expect(field).to_have_value(smaller)
    pages.write_configuration(form, {"epsilon": 2, "rows": 6000})
    pages.send(form)
    expect(form).to_contain_text("Invalid input for param epsilon: 2 is greater than the maximum of 1.0")
    assert runs(deployment) == 0


def test_the_grid_shows_every_step_and_which_one_waits(by_admin: DagRun, admin: Page, deployment: Up) -> None:
    pages.open_run(admin, deployment.url, DAG, by_admin.run_id)
    for task in BEFORE_APPROVAL:
        expect(pages.task_row(admin, task)).to_contain_text("Success")
    expect(pages.task_row(admin, "approve")).to_contain_text("Awaiting Input")
    for task in ("publish", "settle"):
        expect(pages.task_row(admin, task)).to_contain_text("No Status")
    for task in by_admin.tasks():
        expect(pages.grid_cell(admin, DAG, by_admin.run_id, task)).to_be_visible()
    assert deployment.released() == []


def test_an_approver_reads_what_a_release_costs_how_good_it_is_and_who_may_decide(
    by_admin: DagRun, olga: Page, deployment: Up
) -> None:
    card = pages.open_question(olga, deployment.url, DATASET)
    (gate,) = deployment.facts(by_admin, "gate")
    assert gate["epsilon"] <= 0.8

    expect(card).to_contain_text("6,000 synthetic rows would be published")
    expect(card.get_by_role("listitem").filter(has_text="for this release")).to_contain_text("δ = 1e-06")
    expect(card).to_contain_text("changes the probability of any outcome by at most the factor e^ε")
    expect(card).to_contain_text("for all releases about these people together")
    for measurement in gate["measurements"]:
        row = card.get_by_role("row").filter(has_text=measurement["title"]).first
        expect(row).to_contain_text(f"{measurement['value']:.3f}")
        expect(row).to_contain_text(f"{measurement['low']:.3f} to {measurement['high']:.3f}")
    expect(card).to_contain_text("This would be the first release of this dataset")
    expect(card).to_contain_text(gate["artifact"])
    expect(card).to_contain_text("Who can decide: olga")
    expect(card).to_contain_text("admin started this run and cannot approve it")
    with olga.context.expect_page() as opened:
        card.get_by_role("link", name="The whole report").click(modifiers=["ControlOrMeta"])
    expect(opened.value.get_by_role("heading", level=1)).to_contain_text("RAND Health Insurance Experiment")
    opened.value.close()
    assert not [mark for mark in ("**", "##", "|", "`", "\\") if mark in card.inner_text()], "Markdown as text"


def test_the_report_keeps_its_look_behind_airflow_and_a_stranger_logs_in_first(
    by_admin: DagRun, olga: Page, deployment: Up, browser: Chromium
) -> None:
    link = pages.open_question(olga, deployment.url, DATASET).get_by_role("link", name="The whole report")
    stranger = browser.page()
    stranger.goto(str(link.get_attribute("href")))
    pages.sign_in(stranger, "admin", deployment.passwords["admin"])
    assert report.shown(stranger)
    stranger.context.close()


def test_the_form_takes_no_answer_without_a_reason(by_admin: DagRun, olga: Page, deployment: Up) -> None:
    pages.open_question(olga, deployment.url, DATASET)
    options = [olga.get_by_role("button", name=name, exact=True) for name in ("Approve", "Reject")]
    pages.reason(olga).fill("for once")
    for option in options:
        expect(option).to_be_enabled()
    pages.reason(olga).fill("")
    for option in options:
        expect(option).to_be_disabled()


def test_an_approver_s_click_publishes_and_the_ledger_has_who_and_why(
    released: Path, by_admin: DagRun, olga: Page, deployment: Up
) -> None:
    assert verify_release(str(released)).problems == ()
    (decision,) = deployment.facts(by_admin, "decision")
    assert (decision["approved"], decision["by"]) == (True, "olga")
    assert decision["reason"] == "the marginals are close enough"
    statement = json.loads((released / "privacy_statement.json").read_text())
    assert 0.7 < statement["claim"]["epsilon"] <= 0.8
    pages.open_run(olga, deployment.url, DAG, by_admin.run_id)
    for task in ("approve", "publish", "settle"):
        expect(pages.task_row(olga, task)).to_contain_text("Success")


def test_who_started_a_run_sees_what_changed_and_cannot_let_it_out(released: Path, olga: Page, deployment: Up) -> None:
    started = pages.trigger(olga, deployment.url, DAG, "1")
    pages.wait_until_asked(olga)
    card = pages.open_question(olga, deployment.url, DATASET)
    expect(card).to_contain_text("olga started this run and cannot approve it")
    expect(card).to_contain_text(f"Compared with version {released.name}")
    now = deployment.facts(DagRun(deployment.account, DAG, started), "gate")[0]["measurements"][0]
    expect(card.get_by_role("row").filter(has_text=now["title"]).last).to_contain_text(f"{now['value']:.3f} (")

    pages.answer(olga, "Approve", "mine")
    run = DagRun(deployment.account, DAG, started)
    assert run.ended(within_s=300) == "failed"
    pages.open_run(olga, deployment.url, DAG, started)
    expect(pages.task_row(olga, "approve")).to_contain_text("Failed")
    expect(pages.task_row(olga, "publish")).to_contain_text("Upstream Failed")
    pages.open_log(olga, deployment.url, DAG, started, "approve")
    expect(olga.get_by_text("cannot approve it as well").first).to_be_visible()
    assert deployment.facts(run, "decision") == []
    assert deployment.released() == [released]


def test_the_report_of_the_release_is_whole_on_screens_and_on_paper(released: Path, browser: Chromium) -> None:
    page = released / "quality_report.html"
    for width in report.WIDTHS:
        for scheme in report.SCHEMES:
            assert report.problems_on_a_screen(browser, page, width, scheme) == []
    assert report.problems_on_paper(browser, page) == []
