"""What a person sees and does in the browser, on an Airflow as ``make up`` has it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.chromium import Chromium
    from tests.browser.deployment import Up

collect_ignore_glob = [] if find_spec("airflow") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.airflow)
            item.add_marker(pytest.mark.scheduler)
            item.add_marker(pytest.mark.timeout(600))


# Of the package, not of the session: while a browser is driven, this thread runs an event loop, which others may mind.
@pytest.fixture(scope="package")
def browser() -> Iterator[Chromium]:
    path = chromium.executable()
    if path is None:
        pytest.skip("the web interface is NOT tested: there is neither chromium nor google-chrome")
    with chromium.launched(path) as running:
        yield running


@pytest.fixture(scope="package")
def deployment(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    from tests.browser import deployment

    with deployment.running(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest.fixture(scope="package")
def admin(browser: Chromium, deployment: Up) -> Page:
    return _logged_in(browser, deployment, "admin")


@pytest.fixture(scope="package")
def olga(browser: Chromium, deployment: Up) -> Page:
    return _logged_in(browser, deployment, "olga")


@pytest.fixture(autouse=True)
def nothing_leaves_this_host(browser: Chromium) -> Iterator[None]:
    """During every test: a page that asks another host for something fails it."""
    yield
    assert browser.asked
    assert browser.outside == []


def _logged_in(browser: Chromium, deployment: Up, name: str) -> Page:
    from tests.browser import pages

    page = browser.page(viewport={"width": 1280, "height": 1000})
    pages.log_in(page, deployment.url, name, deployment.passwords[name])
    return page
