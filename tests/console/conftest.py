"""One browser and one server for each module, a visitor of its own for each test, and a look back at each one's end."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser

from tests.console.browser import as_visitor, opened_browser
from tests.console.place import Place, open_place
from tests.console.visit import Console


class Visit(Protocol):
    """Opens the console of the server at a URL, in a profile of its own with these options."""

    def __call__(self, url: str, **options: Any) -> Console: ...


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("data")) as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Visitors; when the test ends, nothing may have gone wrong in any of their pages."""
    consoles: list[Console] = []

    def new(url: str, **options: Any) -> Console:
        context, watch = as_visitor(browser, url, **options)
        consoles.append(Console(context.new_page(), context, watch, url))
        return consoles[-1]

    yield new
    for console in consoles:
        console.context.close()
    for console in consoles:
        console.watch.check()


@pytest.fixture
def console(visit: Visit, place: Place) -> Console:
    """A visitor of the module's server who has the page before him."""
    return visit(place.server.url).open()
