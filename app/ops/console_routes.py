"""`/console`, a page to see the server with, and `/ops/console`, which it asks for what it shows.

The page and its files are open to everybody, as `/docs` is: there is nothing of the server's in them. What they show
is asked for under the rules of all `/ops`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trio
from quart import Blueprint, Response, request

from app.errors import CallerFault
from app.ops.console_files import ConsolePage, PageFile, is_named, read_console
from app.ops.routes import OpsRules, guarded, ops_answer

FOLDER = Path(__file__).parent / "console"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types console"
)
"""What an answer says cannot become code: markup is made by one policy of the page's own, named `console`."""
ASK_AGAIN = "no-cache"
"""The page is kept, but asked for each time: its address stays, and what it loads does not."""
FOR_EVER = "public, max-age=31536000, immutable"
"""A year, as RFC 9111 has no more: an address with a digest never means anything else."""


def console_routes(rules: OpsRules, now: Callable[[], Mapping[str, Any]]) -> tuple[Blueprint, Blueprint]:
    """Return the routes: those that are open, and that of what the page shows, which is guarded.

    Args:
        rules: who may look.
        now: gives what the page shows; must not wait.
    """
    return page_routes(), _data_routes(rules, now)


def page_routes(folder: Path = FOLDER) -> Blueprint:
    """Return the routes of the page and its files, which are read from `folder` when the first is asked for."""
    routes = Blueprint("console", __name__)
    kept: ConsolePage | None = None

    async def page() -> ConsolePage:
        nonlocal kept
        if kept is None:
            kept = await trio.to_thread.run_sync(read_console, folder)
        return kept

    @routes.get("/console")
    async def index() -> Response:
        response = _sent((await page()).index, ASK_AGAIN)
        response.headers["content-security-policy"] = POLICY
        return response

    @routes.get("/console/<digest>/<path:name>")
    async def file(digest: str, name: str) -> Response:
        now = await page()
        if digest != now.digest or name not in now.files:
            raise CallerFault("not_found")
        return _sent(now.files[name], FOR_EVER)

    return routes


def _data_routes(rules: OpsRules, now: Callable[[], Mapping[str, Any]]) -> Blueprint:
    routes = guarded(Blueprint("console_data", __name__), rules)

    @routes.get("/ops/console")
    async def console() -> Response:
        return ops_answer(rules, now())

    return routes


def _sent(file: PageFile, cache_control: str) -> Response:
    """Return the file as it is asked for: packed or not, or the word that the asker has it already."""
    packed = file.packed if request.accept_encodings["gzip"] else None
    tag = file.tag if packed is None else file.packed_tag
    if is_named(", ".join(request.headers.getlist("if-none-match")), tag):
        response = Response(b"", 304)
        del response.headers["content-type"], response.headers["content-length"]
    else:
        response = Response(file.body if packed is None else packed, content_type=file.content_type)
        if packed is not None:
            response.headers["content-encoding"] = "gzip"
    response.headers["etag"], response.headers["cache-control"] = tag, cache_control
    response.vary.add("accept-encoding")
    return response
