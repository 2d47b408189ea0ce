"""Chromium without a window, and what must not happen in it: an error in its console, a request to another host."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Request, expect, sync_playwright

from tests.needs import need_program

GET_CHROMIUM = "apt-get install chromium"
WAIT_S = 30.0  # far beyond anything that is waited for here: a test that reaches it has found a fault
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--mute-audio",
)  # fmt: skip
"""Nothing of its own goes out; a container has no sandbox to give."""
OFFLINE = "net::ERR_"
"""What the browser itself writes of a request that had no network."""


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Run Chromium until the block ends. Playwright's event loop ends with it, so that others can have theirs."""
    path = need_program("chromium", GET_CHROMIUM)
    expect.set_options(timeout=WAIT_S * 1000)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


@dataclass  # Playwright keeps its wrappers of handlers in their objects, which slots would forbid
class Watch:
    """Follows all pages of a visitor. A broken policy is an error in the browser's console too."""

    home: str
    expected: list[str] = field(default_factory=list)
    """Parts of the errors that a test brings about itself."""
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Where requests went that are not the server's."""

    def follow(self, context: BrowserContext) -> None:
        """Hear of everything from now on."""
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))
        context.on("request", self._on_request)

    def check(self) -> None:
        """Nothing has gone wrong but what was expected."""
        unexpected = [error for error in self.errors if not any(part in error for part in self.expected)]
        assert not unexpected, "\n".join(unexpected)
        assert not self.elsewhere, self.elsewhere

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.home:
            self.elsewhere.append(request.url)


def as_visitor(browser: Browser, home: str, **options: Any) -> tuple[BrowserContext, Watch]:
    """Return a visitor's own profile, who may use the clipboard, and the watch over it."""
    context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(WAIT_S * 1000)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=home)
    watch = Watch(home)
    watch.follow(context)
    return context, watch
