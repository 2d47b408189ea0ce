"""Posting to hosts that may be cut off in the middle of it."""

import json
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


async def post_json(client: httpx.AsyncClient, url: str, value: Any, **headers: str) -> httpx.Response:
    """Post a value and return the whole response.

    Raises:
        httpx.TransportError: there was none.
    """
    data = json.dumps(value).encode()
    request = client.build_request("POST", url, content=data, headers={"content-type": "application/json", **headers})
    request.stream = Whole(data)
    return await client.send(request)
