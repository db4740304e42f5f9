"""The system's own Chromium, headless, with throw-away profiles and no way to other hosts."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# For whatever the browser does beside its pages; what these ask for is refused, and kept, one by one.
_NO_OTHER_HOST = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
_PATIENCE_MS = 60_000


def executable() -> str | None:
    """Where the browser is, if there is one."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Chromium:
    """A running browser.

    :ivar asked: every address that its pages asked for.
    :ivar complaints: errors and warnings on their consoles, and exceptions that nothing caught.
    """

    browser: Browser
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def apart(self) -> Chromium:
        """The same browser, for pages whose notes are kept by themselves."""
        return Chromium(self.browser)

    def page(self, **options: Any) -> Page:
        """A page of a profile of its own, with nobody logged in.

        :param options: of a browser context: viewport, colour scheme and so on.
        """
        context = self.browser.new_context(service_workers="block", **options)
        context.set_default_timeout(_PATIENCE_MS)
        context.route(_is_elsewhere, lambda route: route.abort())
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("console", lambda message: self._hear(message.type, message.text))
        context.on("weberror", lambda error: self._hear("error", str(error.error)))
        return context.new_page()

    @property
    def outside(self) -> list[str]:
        """What was asked of other hosts, and refused."""
        return [address for address in self.asked if _is_elsewhere(address)]

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")


@contextlib.contextmanager
def launched(path: str) -> Iterator[Chromium]:
    """The browser, from start to end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[_NO_OTHER_HOST])
        yield Chromium(browser)
        browser.close()


def _is_elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in _LOOPBACK
