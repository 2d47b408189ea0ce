"""`/openapi.json`, and `/docs`, which shows it. Open to everybody; no other host is asked for anything.

Swagger UI 5.35.0 (npm `swagger-ui-dist`, Apache-2.0) is in `pages/` as it is published; `index.html` and `start.js`
are ours. The policy of these pages lets them load what this server has, and nothing else.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import trio
from quart import Blueprint, Response, request

from app.errors import CallerFault

PAGES = Path(__file__).parent / "pages"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets its styles by script, which this allows; its pictures are in its style sheet."""
KEPT_S = 3600
"""How long browsers keep the files of the pages: they change with the server's version only."""
FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
    "LICENSE.txt": "text/plain; charset=utf-8",
    "NOTICE.txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, as it is and packed: that is done once, and not on the loop."""

    body: bytes
    packed: bytes


def contract_routes() -> Blueprint:
    """Return the routes."""
    routes = Blueprint("contract", __name__)

    @routes.get("/openapi.json")
    async def openapi() -> Response:
        return await _sent(_document, "application/json")

    @routes.get("/docs")
    async def docs() -> Response:
        return _as_page(await _sent(lambda: _file("index.html"), "text/html; charset=utf-8"))

    @routes.get("/docs/<name>")
    async def file(name: str) -> Response:
        if name not in FILES:
            raise CallerFault("not_found")
        response = _as_page(await _sent(lambda: _file(name), FILES[name]))
        response.headers["cache-control"] = f"public, max-age={KEPT_S}"
        return response

    return routes


def rendered(*, indent: int | None = None) -> str:
    """Return the document as JSON."""
    from app.contract.document import document  # only now: its models would cost every start 0.1 s

    return json.dumps(document(), ensure_ascii=False, indent=indent)


@cache
def _document() -> Page:
    return _page(rendered().encode())


@cache
def _file(name: str) -> Page:
    return _page((PAGES / name).read_bytes())


def _page(body: bytes) -> Page:
    return Page(body, gzip.compress(body, mtime=0))


async def _sent(load: Callable[[], Page], content_type: str) -> Response:
    page = await trio.to_thread.run_sync(load)
    packed = bool(request.accept_encodings["gzip"])
    response = Response(page.packed if packed else page.body, content_type=content_type)
    response.vary.add("accept-encoding")
    if packed:
        response.headers["content-encoding"] = "gzip"
    return response


def _as_page(response: Response) -> Response:
    response.headers["content-security-policy"] = POLICY
    return response
