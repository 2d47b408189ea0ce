"""A server's start, and the two transports: `make` gives ours and httpx's in turn, for what both must do."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx
import pytest
import trio
import trustme

from app.clients.transport import TrioTransport
from tests.clients.transport import servers

T = TypeVar("T")


@dataclass(frozen=True)
class Make:
    """Makes clients of one kind of transport."""

    kind: str

    def transport(
        self, *, max_connections: int | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> httpx.AsyncBaseTransport:
        if self.kind == "ours":
            return TrioTransport(max_connections=max_connections, ssl_context=ssl_context)
        limits = httpx.Limits(max_connections=max_connections)
        return httpx.AsyncHTTPTransport(verify=ssl_context or True, limits=limits, trust_env=False)

    def client(
        self,
        *,
        max_connections: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.AsyncClient:
        transport = self.transport(max_connections=max_connections, ssl_context=ssl_context)
        return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)

    def either(self, ours: T, httpxs: T) -> T:
        """Return what is expected of this kind."""
        return ours if self.kind == "ours" else httpxs


@pytest.fixture(params=["ours", "httpx"])
def make(request: pytest.FixtureRequest) -> Make:
    return Make(request.param)


Serve = Callable[..., Awaitable[servers.Site]]


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    """Start servers that end with the test, which fails if it lasts too long."""

    async def alarm() -> None:
        await trio.sleep(servers.WAIT_S)
        raise AssertionError(f"the test is not over within {servers.WAIT_S} s")

    nursery.start_soon(alarm)
    return partial(servers.start, nursery)


@pytest.fixture(scope="package")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a certificate of the authority for the loopback addresses and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(context)
    return context
