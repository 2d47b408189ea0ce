"""Posting to hosts that may be cut off in the middle of it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx


class Whole(httpx.AsyncByteStream):
    """A body in one piece. httpx's own is an async generator, about which Trio complains when it is left half-used."""

    def __init__(self, data: bytes) -> None:
        self._pieces = [data]

    def __aiter__(self) -> "Whole":
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


def _posting(client: httpx.AsyncClient, url: str, value: Any, headers: Mapping[str, str]) -> httpx.Request:
    data = json.dumps(value).encode()
    request = client.build_request("POST", url, content=data, headers={"content-type": "application/json", **headers})
    request.stream = Whole(data)
    return request


async def post_json(client: httpx.AsyncClient, url: str, value: Any, **headers: str) -> httpx.Response:
    """Post a value and return the whole response.

    Raises:
        httpx.TransportError: there was none.
    """
    return await client.send(_posting(client, url, value, headers))


@asynccontextmanager
async def posted(
    client: httpx.AsyncClient, url: str, value: Any, headers: Mapping[str, str]
) -> AsyncIterator[httpx.Response]:
    """Post a value, and let go of the response when the block ends, whether or not it was read to its end.

    Raises:
        httpx.TransportError: there was none.
    """
    response = await client.send(_posting(client, url, value, headers), stream=True)
    try:
        yield response
    finally:
        await response.aclose()
