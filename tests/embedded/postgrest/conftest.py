"""Two served databases: `api` and `client` on the shipped schema, `captured_api` on the captured requests' tables."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from postgrest import SyncPostgrestClient

from tests.embedded.postgrest.serving import CAPTURED_SCHEMA, served


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with served(tmp_path / "supabase.sqlite") as url:
        yield f"{url}/rest/v1"


@pytest.fixture
async def api(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture
async def captured_api(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        served(tmp_path / "captured.sqlite", schema=[CAPTURED_SCHEMA]) as url,
        httpx.AsyncClient(base_url=f"{url}/rest/v1") as client,
    ):
        yield client


@pytest.fixture
def client(url: str) -> Iterator[SyncPostgrestClient]:
    with httpx.Client() as http:
        yield SyncPostgrestClient(url, http_client=http)
