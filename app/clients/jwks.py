"""The keys that Supabase Auth publishes, over HTTP: the only file that knows where, and what comes back.

Source: Supabase's documentation, "JWT Signing Keys" (`GET /auth/v1/.well-known/jwks.json`, public, `max-age=600`).
"""

import re

import httpx
import trio

from app.clients import USER_AGENT, basic_authorization
from app.clients.ports import FetchedKeySet
from app.errors import IdentityFault

FETCH_S = 5.0
MAX_BYTES = 1 << 16
"""A set of two keys is about 1 kB."""
NO_KEYS = b'{"keys": []}'
"""What a host without the address means: an Auth from before signing keys, which has the legacy secret alone."""
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})(?=[\s,\"]|$)", re.IGNORECASE)


class SupabaseKeyHost:
    """`KeyHost` over httpx. The server's key is not sent: the address is open, and the answer is for everybody.

    Args:
        transport: carries the requests.
        url: the project's URL.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, url: str) -> None:
        self._transport = transport
        self._url = httpx.URL(url.rstrip("/") + "/auth/v1/.well-known/jwks.json")
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",  # what is packed may unpack to more than we would read
            "user-agent": USER_AGENT,
            **basic_authorization(self._url),
        }

    async def fetch_keys(self) -> FetchedKeySet:
        """Return what the host answers, in time and in bounds; redirects are not followed.

        Raises:
            IdentityFault: it does not answer so.
        """
        try:
            with trio.move_on_after(FETCH_S):
                return await self._answer()
        except httpx.HTTPError as exc:
            raise _unavailable(type(exc).__name__) from exc
        raise _unavailable("timeout")

    async def _answer(self) -> FetchedKeySet:
        response = await self._transport.handle_async_request(httpx.Request("GET", self._url, headers=self._headers))
        try:
            if response.status_code == 404:
                return FetchedKeySet(body=NO_KEYS)
            if response.status_code != 200:
                raise _unavailable(f"http_{response.status_code}")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise _unavailable("packed")
            body = await _bounded(response)
        finally:
            await response.aclose()
        return FetchedKeySet(body=body, max_age_s=max_age(response.headers.get("cache-control", "")))


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    with trio.CancelScope() as reading:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > MAX_BYTES:
                reading.cancel()
    if len(body) > MAX_BYTES:
        raise _unavailable("too_large")
    return bytes(body)


def max_age(cache_control: str) -> float | None:
    """Return how long an answer may be kept by its `Cache-Control`, in seconds; None when it does not say."""
    found = _MAX_AGE.search(cache_control)
    return float(found[1]) if found else None


def _unavailable(error_type: str) -> IdentityFault:
    return IdentityFault("identity_unavailable", "the project's keys cannot be fetched", error_type=error_type)
