"""The console's page as its routes have it: read when it is first asked for, and once."""

import gzip
from pathlib import Path

import pytest
from quart_trio import QuartTrio

from app.edge.application import build_application
from app.edge.observe import REQUEST, RequestFacts
from app.ops.console_routes import page_routes


@pytest.fixture
def quart(tmp_path: Path) -> QuartTrio:
    """Serves a folder that is not there yet."""
    REQUEST.set(RequestFacts("request", "trace"))
    return build_application([page_routes(tmp_path / "console")], max_body_bytes=1000, body_timeout_s=1)


async def test_the_folder_is_read_at_the_first_request_and_not_again(quart: QuartTrio, tmp_path: Path) -> None:
    """Neither at the start nor for who comes later: what changes meanwhile is for the next process."""
    folder = tmp_path / "console"
    folder.mkdir()
    page = folder / "index.html"
    page.write_text("first {{static}}")
    client = quart.test_client()
    first = await client.get("/console")
    page.write_text("second")
    again = await client.get("/console")
    assert (await first.data).startswith(b"first console/")
    assert (await again.data, again.headers["etag"]) == (await first.data, first.headers["etag"])


async def test_a_folder_that_cannot_be_read_is_tried_again(quart: QuartTrio, tmp_path: Path) -> None:
    """It costs the one who asked a 500, and not the page."""
    client = quart.test_client()
    assert (await client.get("/console")).status_code == 500
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "index.html").write_text("page")
    assert (await client.get("/console")).status_code == 200


async def test_what_is_small_stays_as_it_is(quart: QuartTrio, tmp_path: Path) -> None:
    """Who takes gzip gets it where that saves something, under a tag of its own, and else the same as all."""
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "index.html").write_text("page")
    (tmp_path / "console" / "large.js").write_text("large\n" * 100)
    client = quart.test_client()
    small = await client.get("/console", headers={"accept-encoding": "gzip"})
    tag = small.headers["etag"]
    assert (await small.data, small.headers.get("content-encoding")) == (b"page", None)
    large = await client.get(f"/console/{tag[1:-1]}/large.js", headers={"accept-encoding": "gzip;q=0.5, br"})
    assert (gzip.decompress(await large.data), large.headers["etag"]) == (b"large\n" * 100, f'{tag[:-1]}-gzip"')
    refused = await client.get(f"/console/{tag[1:-1]}/large.js", headers={"accept-encoding": "gzip;q=0, identity"})
    assert (await refused.data, refused.headers["etag"]) == (b"large\n" * 100, tag)
