"""Finding the server: names, both address families, several addresses, and what cannot be connected to."""

import socket

import httpx
import pytest
import trio

from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import OK, Seen, answers
from tests.clients.transport.test_timeouts import full_house, only


class Names(trio.abc.HostnameResolver):
    """Resolves the names it knows to these addresses, in this order."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}

    async def getaddrinfo(  # type: ignore[override]
        self, host: bytes | None, port: int | None, *_options: int
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
        assert host is not None
        assert port is not None
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.known[host.decode()]
        ]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
def names(nursery: trio.Nursery) -> Names:
    """The resolver of this test's loop."""
    resolver = Names()
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver


async def test_ipv6_is_spoken(make: Make, serve: Serve) -> None:
    """An address in brackets; the Host header keeps them."""
    seen: list[Seen] = []
    site = await serve(answers(OK, seen=seen), host="::1")
    async with make.client() as client:
        assert (await client.get(site.url)).content == b"ok"
    assert ("host", site.url.removeprefix("http://")) in seen[0].headers


@pytest.mark.parametrize("addresses", [["::1", "127.0.0.1"], ["127.0.0.2", "::1", "127.0.0.1"]])
async def test_an_address_that_refuses_is_passed_over(
    addresses: list[str], make: Make, serve: Serve, names: Names
) -> None:
    """The next one is tried; nobody listens at the first ones."""
    names.known["chat.test"] = addresses
    site = await serve(answers(OK))
    async with make.client() as client:
        assert (await client.get(f"http://chat.test:{httpx.URL(site.url).port}")).content == b"ok"


async def test_an_address_that_does_not_answer_is_not_waited_for(
    make: Make, names: Names, nursery: trio.Nursery
) -> None:
    """Happy eyeballs (RFC 8305): a quarter of a second later the next is tried beside it."""
    names.known["chat.test"] = ["127.0.0.1", "::1"]
    with full_house() as url:
        port = httpx.URL(url).port
        assert port
        (listener,) = await trio.open_tcp_listeners(port, host="::1")

        async def answer(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.receive_some()
                await stream.send_all(OK)
                await stream.receive_some()

        nursery.start_soon(trio.serve_listeners, answer, [listener])
        async with make.client(timeout=only(connect=10)) as client:
            assert (await client.get(f"http://chat.test:{port}")).content == b"ok"


async def test_a_name_outside_ascii_is_asked_for_in_its_ascii_form(make: Make, serve: Serve, names: Names) -> None:
    """For resolving, and in the Host header."""
    names.known["xn--bcher-kva.test"] = ["127.0.0.1"]
    seen: list[Seen] = []
    site = await serve(answers(OK, seen=seen))
    port = httpx.URL(site.url).port
    async with make.client() as client:
        assert (await client.get(f"http://bücher.test:{port}")).content == b"ok"
    assert ("host", f"xn--bcher-kva.test:{port}") in seen[0].headers


async def test_nobody_listening_is_a_connect_error(make: Make) -> None:
    """And it leaves no place taken."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with make.client(max_connections=1, timeout=only(pool=5)) as client:
            for _ in range(3):
                with pytest.raises(httpx.ConnectError):
                    await client.get(f"http://127.0.0.1:{bound.getsockname()[1]}")


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a" * 64 + ".test", "a..b"])
async def test_a_name_without_an_address_is_a_connect_error(host: str, make: Make) -> None:
    """One that is unknown, and one that cannot be a name (httpcore lets that UnicodeError through)."""
    async with make.client(max_connections=1, timeout=only(pool=5)) as client:
        for _ in range(2):
            with pytest.raises(make.either((httpx.ConnectError,), (httpx.ConnectError, UnicodeError))):
                await client.get(f"http://{host}/")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///path", "/path"])
async def test_what_is_no_url_of_the_web_is_unsupported(url: str, make: Make) -> None:
    """Neither http nor https, or without a host."""
    async with make.client() as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get(url)


async def test_a_method_that_is_none_is_refused_here(make: Make, serve: Serve) -> None:
    """With characters that would end its line, or no letters of HTTP's. httpx's own TypeError is not mapped."""
    site = await serve(answers(OK))
    async with make.client() as client:
        for method in ("GET /\r\nX: y", "GÉT", ""):
            with pytest.raises(make.either(httpx.LocalProtocolError, Exception)):
                await client.request(method, site.url)
        assert (await client.get(site.url)).content == b"ok"
    assert site.connections == make.either(1, 3)  # httpcore connects first
