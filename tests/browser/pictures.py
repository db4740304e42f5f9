"""The README's pictures, taken of a real deployment: ``python -m tests.browser.pictures``.

Two releases of the demonstration's table: the first is let out, the second is asked about. What is kept is
docs/trigger.png, docs/grid.png, docs/approve.png and docs/report.png.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from dags import playground
from tests.browser import chromium, deployment, pages
from tests.browser.chromium import Chromium
from tests.browser.deployment import DAG, DATASET, Up

_DOCS = playground.ROOT / "docs"
_LARGEST_BYTES = 200_000
_SHARPNESS = 1.5  # pixels for each of the page's
_EDGE = 20


def main() -> int:
    """Take all of them."""
    path = chromium.executable()
    if path is None:
        print("pictures are taken with chromium or google-chrome, and there is neither", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="sluice-") as folder,
        chromium.launched(path) as browser,
        deployment.running(Path(folder)) as up,
    ):
        _take_all(browser, up)
    return 0


def _take_all(browser: Chromium, up: Up) -> None:
    admin, olga = (_logged_in(browser, up, name) for name in ("admin", "olga"))
    form = pages.open_trigger_form(admin, up.url, DAG)
    pages.type_number(pages.open_section(form, "Privacy").get_by_role("spinbutton"), "0.8")
    _keep("trigger", _around(form, edge=0))
    pages.send(form)
    pages.opened_run(admin)
    pages.wait_until_asked(admin)
    pages.open_question(olga, up.url, DATASET)
    pages.answer(olga, "Approve", "the marginals are close enough")
    expect(olga.get_by_text("Success")).to_be_visible()

    second = pages.trigger(admin, up.url, DAG, "1")
    pages.wait_until_asked(admin)
    pages.open_run(admin, up.url, DAG, second)
    expect(pages.task_row(admin, "settle")).to_be_visible()
    _keep("grid", admin.screenshot(clip=FloatRect(x=0, y=0, width=1280, height=960)))
    card = pages.open_question(olga, up.url, DATASET)
    pages.reason(olga).fill("good enough to teach with, and the budget has room")
    _keep("approve", _around(card))

    (release,) = up.released()
    page = browser.page(viewport={"width": 1120, "height": 900}, device_scale_factor=_SHARPNESS)
    page.goto((release / "quality_report.html").as_uri())
    _keep("report", _down_to(page, page.locator(".pairs")))


def _logged_in(browser: Chromium, up: Up, name: str) -> Page:
    page = browser.page(viewport={"width": 1280, "height": 2000}, device_scale_factor=_SHARPNESS)
    pages.log_in(page, up.url, name, up.passwords[name])
    return page


def _around(what: Locator, edge: int = _EDGE) -> bytes:
    box = what.bounding_box()
    assert box
    clip = FloatRect(
        x=box["x"] - edge, y=box["y"] - edge, width=box["width"] + 2 * edge, height=box["height"] + 2 * edge
    )
    return what.page.screenshot(clip=clip, animations="disabled")


def _down_to(page: Page, what: Locator) -> bytes:
    box = what.bounding_box()
    assert box
    clip = FloatRect(x=0, y=0, width=1120, height=box["y"] + box["height"] + _EDGE)
    return page.screenshot(clip=clip, full_page=True)


def _keep(name: str, picture: bytes) -> None:
    """Few colours make a small file, and these pages have few."""
    path = _DOCS / f"{name}.png"
    # The passes move the palette to where the pixels are: without them, what is small loses its colour.
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, kmeans=3).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(playground.ROOT)}: {size // 1000} kB")
    assert size <= _LARGEST_BYTES, f"{path} has {size} bytes, more than {_LARGEST_BYTES}"


if __name__ == "__main__":
    sys.exit(main())
