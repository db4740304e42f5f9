"""What a person does in Airflow's web interface, a function an action.

Everything is found by what a person goes by (roles, names, texts), and waited for, because the interface fills its
pages little by little.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from playwright.sync_api import Locator, Page, expect

# An answer that comes before the scheduler has noted the end of the asking attempt fails the task; a person is slower.
_NOTED_MS = 10_000
_RUN_MS = 300_000
expect.set_options(timeout=60_000)


def log_in(page: Page, url: str, name: str, password: str) -> None:
    """From the address to the home page."""
    page.goto(url)
    sign_in(page, name, password)
    expect(page.get_by_role("button", name="Browse")).to_be_visible()


def sign_in(page: Page, name: str, password: str) -> None:
    """On the login form."""
    page.get_by_role("textbox", name="Username").fill(name)
    page.get_by_role("textbox", name="Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def open_trigger_form(page: Page, url: str, dag: str) -> Locator:
    """The form of a DAG's page."""
    page.goto(f"{url}/dags/{dag}")
    page.get_by_role("button", name="Trigger Dag").click()
    form = page.get_by_role("dialog")
    expect(_section_button(form, "Advanced Options")).to_be_visible()
    return form


def open_section(form: Locator, name: str) -> Locator:
    """A section's fields; the form shows one section at a time."""
    _section_button(form, name).click()
    section = form.get_by_role("region", name=name, exact=True)
    expect(section).to_be_visible()
    return section


def type_number(field: Locator, text: str) -> None:
    """Into a field of numbers, and leave it."""
    field.fill(text)
    field.blur()


def write_configuration(form: Locator, configuration: Mapping[str, Any]) -> None:
    """Past the fields: the text of the run's configuration."""
    section = open_section(form, "Advanced Options")
    editor, shown = section.get_by_role("textbox", name="Editor content"), section.get_by_role("code")
    expect(shown).to_contain_text("}")
    editor.press("ControlOrMeta+A")
    editor.press("Delete")  # what replaces a selection gets brackets of the editor's own
    form.page.keyboard.insert_text(json.dumps(configuration))
    expect(shown).to_contain_text("}")
    editor.blur()


def send(form: Locator) -> None:
    """Ask for the run."""
    form.get_by_role("button", name="Trigger", exact=True).click()


def trigger(page: Page, url: str, dag: str, epsilon: str) -> str:
    """Start a run with an ε of one's own; its id, with the run's page open."""
    form = open_trigger_form(page, url, dag)
    type_number(open_section(form, "Privacy").get_by_role("spinbutton"), epsilon)
    send(form)
    return opened_run(page)


def opened_run(page: Page) -> str:
    """The id of the run whose page opens."""
    address = re.compile(r"/runs/([^/?]+)")
    page.wait_for_url(address)
    found = address.search(page.url)
    assert found
    return unquote(found[1])


def open_run(page: Page, url: str, dag: str, run: str) -> None:
    """A run's page, its latest tasks first."""
    page.goto(f"{url}/dags/{dag}/runs/{run}?sort=-start_date")


def task_row(page: Page, task: str) -> Locator:
    """A task's line in the table of a run's page."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=task, exact=True))


def grid_cell(page: Page, dag: str, run: str, task: str) -> Locator:
    """A task's square in the grid beside it: a link that is a picture, where the table's is the task's name."""
    return page.locator(f'a[href^="/dags/{dag}/runs/{run}/tasks/{task}"]').filter(has_not_text=task)


def wait_until_asked(page: Page) -> None:
    """On a run's page, until its approval can be answered."""
    expect(task_row(page, "approve")).to_contain_text("Awaiting Input", timeout=_RUN_MS)
    page.wait_for_timeout(_NOTED_MS)


def open_question(page: Page, url: str, dataset: str) -> Locator:
    """The card of the one approval that is asked for, from the list of required actions."""
    page.goto(url)
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Required Actions").click()
    asked = page.get_by_role("row").filter(has_text="Approval Required")
    asked.get_by_role("link", name=f"Release {dataset}?", exact=True).click()
    approve, terms = page.get_by_role("button", name="Approve", exact=True), page.get_by_role("heading", name="costs")
    expect(approve).to_be_visible()
    return page.locator("div").filter(has=terms).filter(has=approve).last


def reason(page: Page) -> Locator:
    """The field for an answer's reason."""
    return page.get_by_role("group").filter(has_text="Reason").get_by_role("textbox")


def answer(page: Page, option: str, why: str) -> None:
    """Write a reason, click, and see that the answer has arrived."""
    reason(page).fill(why)
    page.get_by_role("button", name=option, exact=True).click()
    expect(page.get_by_text("Response received at")).to_be_visible()


def open_log(page: Page, url: str, dag: str, run: str, task: str) -> None:
    """A task's log."""
    page.goto(f"{url}/dags/{dag}/runs/{run}/tasks/{task}")


def _section_button(form: Locator, name: str) -> Locator:
    return form.get_by_role("button", name=name, exact=True)
