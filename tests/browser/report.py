"""What may be wrong with the quality report as a browser shows and prints it. Nothing of it is written to be scrolled
sideways except in a box of its own, and nothing to be cut by the edge of a sheet.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.chromium import Chromium

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
# A4 less the page's margin of 15 mm, at CSS's 96 pixels an inch.
_SHEET = {"width": round(180 / 25.4 * 96), "height": round(267 / 25.4 * 96)}
_READABLE = 4.5  # WCAG 2.2, 1.4.3: contrast of text

_BEYOND = """
() => {
  const scrolls = e => { for (; e; e = e.parentElement) if (getComputedStyle(e).overflowX === 'auto') return true; };
  const beyond = e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1);
  };
  const page = document.documentElement.scrollWidth > innerWidth ? ['the page itself'] : [];
  return page.concat([...document.querySelectorAll('body *')].filter(e => beyond(e) && !scrolls(e)).map(
    e => `${e.tagName} ${e.textContent.trim().slice(0, 40)}`));
}
"""
_SPLIT = """
height => [...document.querySelectorAll('section, figure, tr, .branch')].filter(
  e => getComputedStyle(e).breakInside !== 'avoid' || e.getBoundingClientRect().height > height).map(
  e => `${e.tagName} ${e.textContent.trim().slice(0, 40)} ${Math.round(e.getBoundingClientRect().height)}`)
"""
_CONTRASTS = """
() => {
  const rgba = text => text.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((c, i) => a * c + (1 - a) * below[i]);
  const linear = c => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const paper = rgba(getComputedStyle(document.body).backgroundColor);
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const style = getComputedStyle(e), drawn = e.tagName === 'text';
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.closest('title')) continue;
    const colour = over(rgba(drawn ? style.fill : style.color), paper);
    found.push([contrast(colour, paper), e.textContent.trim().slice(0, 40)]);
  }
  const ink = rgba(getComputedStyle(document.body).color);
  for (const cell of document.querySelectorAll('.pairs path[style*="--heat"]')) {
    const style = getComputedStyle(cell), [r, g, b] = rgba(style.fill);
    found.push([contrast(ink, over([r, g, b, Number(style.opacity)], paper)), 'a cell of the heat map']);
  }
  return found;
}
"""


def problems_on_a_screen(browser: Chromium, report: Path, width: int, scheme: str) -> list[str]:
    """What is cut off, hard to read, complained about or asked of others, at one width in one colour scheme."""
    alone = browser.apart()
    page = alone.page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(report.as_uri())
    found = [f"{width} px, beyond the page: {what}" for what in page.evaluate(_BEYOND)]
    found += [
        f"{scheme}, contrast {ratio:.2f}: {what}" for ratio, what in page.evaluate(_CONTRASTS) if ratio < _READABLE
    ]
    found += [f"asked for: {address}" for address in alone.asked[1:]]
    found += [f"on the console: {complaint}" for complaint in alone.complaints]
    page.context.close()
    return found


def shown(page: Page) -> bool:
    """Whether a page, once it has the report's charts, has its styles as well."""
    page.get_by_role("img", name="Distance of each pair of columns").wait_for()
    return page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 247)"


def ground(browser: Chromium, report: Path, **look: Any) -> str:
    """The page's background with a colour scheme, or printed (``media="print"``)."""
    page = browser.page()
    page.emulate_media(**look)
    page.goto(report.as_uri())
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.context.close()
    return colour


def problems_on_paper(browser: Chromium, report: Path) -> list[str]:
    """What a sheet of A4 would cut off or split."""
    page = browser.page(viewport=_SHEET)
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    found = [f"beyond the sheet: {what}" for what in page.evaluate(_BEYOND)]
    found += [f"split between sheets: {what}" for what in page.evaluate(_SPLIT, _SHEET["height"])]
    if not page.pdf().startswith(b"%PDF"):
        found.append("not printed at all")
    page.context.close()
    return found
