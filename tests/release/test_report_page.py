"""The report in a real browser: on a desk's screen and a phone's, light and dark, and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import chromium, report
from tests.release.conftest import Release

if TYPE_CHECKING:
    from tests.browser.chromium import Chromium

pytest.importorskip("playwright", reason="how the report looks is NOT tested: install the extra dev")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    path = chromium.executable()
    if path is None:
        pytest.skip("how the report looks is NOT tested: there is neither chromium nor google-chrome")
    with chromium.launched(path) as running:
        yield running


@pytest.fixture(scope="module")
def page(release: Release) -> Path:
    return release.folder / "quality_report.html"


@pytest.mark.parametrize("scheme", report.SCHEMES)
@pytest.mark.parametrize("width", report.WIDTHS)
def test_on_a_screen_nothing_is_cut_off_or_hard_to_read(browser: Chromium, page: Path, width: int, scheme: str) -> None:
    assert report.problems_on_a_screen(browser, page, width, scheme) == []


@pytest.mark.parametrize("width", report.WIDTHS)
def test_columns_of_many_cells_are_shown_whole_and_readable(
    browser: Chromium, mixture_release: Release, width: int
) -> None:
    page = mixture_release.folder / "quality_report.html"
    assert report.problems_on_a_screen(browser, page, width, "dark") == []
    assert report.problems_on_paper(browser, page) == []


def test_on_paper_nothing_is_cut_off_and_no_chart_or_row_is_split(browser: Chromium, page: Path) -> None:
    assert report.problems_on_paper(browser, page) == []


def test_the_page_follows_the_colour_scheme_and_is_printed_on_white(browser: Chromium, page: Path) -> None:
    light, dark = (report.ground(browser, page, color_scheme=scheme) for scheme in report.SCHEMES)
    assert light != dark
    assert report.ground(browser, page, color_scheme="dark", media="print") == "rgb(255, 255, 255)"


@pytest.mark.parametrize(
    ("flaw", "found"),
    [
        ('<p style="width: 2000px; max-width: none">wide</p>', "beyond the page"),
        ('<p style="color: #888888">pale</p>', "contrast"),
        ('<img src="http://pictures.example/picture.png">', "asked for: http://pictures.example/picture.png"),
        ("<script>console.error('a complaint')</script>", "a complaint"),
        ("<script>throw new Error('an accident')</script>", "an accident"),
        ('<p style="width: 181mm; max-width: none">wide</p>', "beyond the sheet"),
        ('<section style="height: 268mm">long</section>', "split between sheets"),
        ('<figure style="break-inside: auto">split</figure>', "split between sheets"),
    ],
)
def test_a_flaw_in_the_page_is_found(browser: Chromium, page: Path, tmp_path: Path, flaw: str, found: str) -> None:
    broken = tmp_path / "report.html"
    broken.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{flaw}</main>"), encoding="utf-8")
    problems = report.problems_on_paper(browser, broken) + report.problems_on_a_screen(browser, broken, 1280, "light")
    assert any(found in problem for problem in problems)
