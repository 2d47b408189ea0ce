"""The client of `/ops/limiter` and its like: one request, its deadline, what each way to fail means for who runs it.

The token goes into one header, and into no text: whatever is raised here names the address only.
"""

import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio
from pydantic import ValidationError

from app.errors import StartError
from app.loopback import is_loopback
from app.ops.limiter_cli.document import Limiter, plain

LIMITER = "/ops/limiter"
DEADLINE_S = 5.0
MOST_BYTES = 1 << 20
"""Over twice the longest document, which is `/ops/support` (400 kB); who sends more is no server of ours."""


class UnreachableError(StartError):
    """Nobody answers there, for now: asking again may help, as while a server restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsServer:
    """Where to ask, and with which token.

    Args:
        url: without a path, or with that under which a proxy has the server.
        token: the server's `OPS_TOKEN`, if it has one.
        proxy_for: tells over which proxy to ask an address; this machine is asked without.
        deadline_s: of a whole request, from connecting to the last byte.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    proxy_for: Callable[[str], str | None] = lambda _url: None
    deadline_s: float = DEADLINE_S


class OpsClient:
    """Asks one server, over one connection; `connected` makes it."""

    def __init__(self, server: OpsServer, http: httpx.AsyncClient, path: str = LIMITER) -> None:
        self.address = f"{server.url.rstrip('/')}{path}"
        self._server = server
        self._http = http

    async def ask(self, change: Mapping[str, Any] | None = None) -> bytes:
        """Return the document as it came, after a change if one is given.

        Raises:
            UnreachableError: no answer, not in time, or from something in between that has none.
            StartError: the server refuses, or it is no server of ours.
        """
        try:
            with trio.fail_after(self._server.deadline_s):
                return await self._answer(change)
        except trio.TooSlowError:
            raise UnreachableError(f"{self.address} did not answer within {self._server.deadline_s:g} s") from None
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol):
            raise StartError("no request can be made of this address and token") from None
        except httpx.TransportError as exc:
            why = plain(str(exc)) or type(exc).__name__
            raise UnreachableError(f"nobody answers at {self.address} ({why})") from None

    async def _answer(self, change: Mapping[str, Any] | None) -> bytes:
        content = None if change is None else json.dumps(change).encode()
        headers = {"content-type": "application/json"} if content else {}
        method = "PUT" if content else "GET"
        async with self._http.stream(method, self.address, content=content, headers=headers) as response:
            body = b""
            async for piece in response.aiter_bytes():  # to the end: the deadline is the bound of that
                body += piece if len(body) <= MOST_BYTES else b""
        if len(body) > MOST_BYTES:
            raise StartError(f"{self.address} sends more than any server of ours has to say")
        if response.status_code != 200:
            raise self._refusal(response.status_code, body)
        return body

    def _refusal(self, status: int, body: bytes) -> StartError:
        match status:
            case 401 if self._server.token:
                return StartError(f"{self.address} answers 401: the token is not the server's OPS_TOKEN")
            case 401:
                return StartError(f"{self.address} answers 401: set OPS_TOKEN to the server's, or give --token")
            case 404:
                return StartError(f"{self.address} answers 404: set OPS_TOKEN on the server, and the same here")
            case 422:
                return StartError(_sentences(body))
            case _ if status >= 500:
                return UnreachableError(f"{self.address} answers {status}")
            case _:
                return StartError(f"{self.address} answers {status}, as no server of ours would")


@asynccontextmanager
async def connected(server: OpsServer, path: str = LIMITER) -> AsyncIterator[OpsClient]:
    """Open a client of that path until the block ends.

    Raises:
        StartError: the address is none.
    """
    host = _host(server.url)
    headers = [(b"authorization", b"Bearer " + server.token.encode("utf-8", "replace"))] if server.token else []
    trusted = ssl.create_default_context() if server.url.startswith("https:") else False
    proxy = None if is_loopback(host) else server.proxy_for(server.url)
    async with httpx.AsyncClient(
        headers=headers, verify=trusted, proxy=proxy, trust_env=False, timeout=server.deadline_s
    ) as http:
        yield OpsClient(server, http, path)


def document_of(body: bytes, address: str) -> Limiter:
    """Return the document that a body holds.

    Raises:
        StartError: it is not JSON, or no limiter's document.
    """
    try:
        return Limiter.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        raise StartError(f"{address} answers with something that is not JSON")
    where = plain(".".join(map(str, first["loc"]))) or "all of it"
    raise StartError(f"{address} answers with another document than a limiter's ({where}: {first['msg']})")


def text_of(body: bytes, address: str) -> str:
    """Return a body that is JSON as text, as it came.

    Raises:
        StartError: it is not.
    """
    try:
        text = body.decode()
        json.loads(text)
    except ValueError:
        raise StartError(f"{address} answers with something that is not JSON") from None
    return text


def _host(url: str) -> str:
    """Return the host of an address, without which none can be asked."""
    try:
        parts = urlsplit(url)
        httpx.URL(url, port=parts.port)
    except (ValueError, httpx.InvalidURL):  # half a bracket, or a port that is none
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StartError("--url must begin with http:// or https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise StartError("--url takes no name, password, query or fragment; a token goes into OPS_TOKEN")
    return parts.hostname


def _sentences(body: bytes) -> str:
    """Return what a problem says of each field, on one line."""
    try:
        problem = json.loads(body)
        said = problem.get("errors") or [problem["detail"]]
        return "; ".join(plain(str(sentence)) for sentence in said)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the server refuses that, and does not say why"
