"""https: whom it trusts, by which name it asks, and what it makes of a handshake that is none."""

import datetime
import ssl

import httpx
import pytest
import trustme

from app.clients.transport import TrioTransport
from tests.clients.transport.conftest import Make, Serve
from tests.clients.transport.servers import OK, Peer, answers, first


def presenting(authority: trustme.CA, *names: str, not_after: datetime.datetime | None = None) -> ssl.SSLContext:
    """Return a server's context with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=not_after).configure_cert(context)
    return context


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_trusted_server_is_asked(
    host: str, make: Make, serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """By address, of either family, or by name; several requests share a connection."""
    site = await serve(answers(OK), tls=server_tls, host="::1" if host == "[::1]" else "127.0.0.1")
    async with make.client(ssl_context=trusting) as client:
        for content in (b"", b"short", bytes(1 << 20)):
            response = await client.post(f"https://{host}:{httpx.URL(site.url).port}", content=content)
            assert response.content == b"ok"
    assert site.connections == 1


async def test_an_unknown_authority_is_not_trusted(make: Make, serve: Serve, trusting: ssl.SSLContext) -> None:
    """A ConnectError that says why (httpx's is empty), and nothing of the request is sent."""
    seen: list[object] = []

    async def handle(peer: Peer) -> None:
        seen.append(await peer.request())

    site = await serve(handle, tls=presenting(trustme.CA(), "127.0.0.1"))
    async with make.client(ssl_context=trusting) as client:
        with pytest.raises(httpx.ConnectError, match=make.either("certificate verify failed", "^$")):
            await client.get(site.url)
    await site.until_open(0)
    assert not seen


YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.mark.parametrize("wrong", ["name", "address", "date"])
async def test_a_certificate_that_does_not_fit_is_refused(
    wrong: str, make: Make, serve: Serve, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """One for another name or address, or one that has run out, though the authority is trusted."""
    presented = {
        "name": lambda: presenting(authority, "elsewhere.test"),
        "address": lambda: presenting(authority, "127.0.0.2"),
        "date": lambda: presenting(authority, "127.0.0.1", not_after=YESTERDAY),
    }[wrong]()
    site = await serve(answers(OK), tls=presented)
    async with make.client(ssl_context=trusting, max_connections=1) as client:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError, match=make.either("certificate verify failed", "^$")):
                await client.get(site.url)
    await site.until_open(0)


@pytest.mark.parametrize(("host", "asked"), [("localhost", "localhost"), ("127.0.0.1", None)])
async def test_the_server_learns_the_name_that_is_asked(
    host: str, asked: str | None, make: Make, serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """Server name indication, for names only (RFC 6066, 3)."""
    names: list[str | None] = []
    server_tls.sni_callback = lambda _socket, name, _context: names.append(name)
    site = await serve(answers(OK), tls=server_tls)
    async with make.client(ssl_context=trusting) as client:
        await client.get(f"https://{host}:{httpx.URL(site.url).port}")
    assert names == [asked]


async def test_the_systems_authorities_are_trusted(
    serve: Serve,
    server_tls: ssl.SSLContext,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no context is given: those of OpenSSL's default place, and no others. Ours only: httpx brings its own."""
    site = await serve(answers(OK), tls=server_tls)
    async with httpx.AsyncClient(transport=TrioTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(site.url)
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        async with httpx.AsyncClient(transport=TrioTransport()) as client:
            assert (await client.get(site.url)).content == b"ok"


async def no_tls(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.closed()


async def hangs_up(peer: Peer) -> None:
    await peer.end()


async def resets(peer: Peer) -> None:
    peer.reset()


@pytest.mark.parametrize("hostile", [no_tls, hangs_up, resets])
async def test_a_failed_handshake_is_a_connect_error(
    hostile: object, make: Make, serve: Serve, trusting: ssl.SSLContext
) -> None:
    """A server that speaks no TLS, or goes away during it."""
    site = await serve(hostile)
    async with make.client(ssl_context=trusting, max_connections=1) as client:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await client.get(site.url.replace("http:", "https:"))
    await site.until_open(0)


async def test_a_body_cut_off_under_tls_is_an_error(
    make: Make, serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """The connection ends without TLS's own farewell, in the middle: RemoteProtocolError, and the next is right."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await peer.end()

    site = await serve(first(cut), tls=server_tls)
    async with make.client(ssl_context=trusting, max_connections=1) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(site.url)
        assert (await client.get(site.url)).content == b"ok"


async def test_http_and_https_do_not_share_a_pool(
    make: Make, serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """A connection belongs to its scheme, host and port."""
    plain, secure = await serve(answers(OK)), await serve(answers(OK), tls=server_tls)
    async with make.client(ssl_context=trusting) as client:
        for _ in range(2):
            assert [(await client.get(site.url)).content for site in (plain, secure)] == [b"ok", b"ok"]
    assert (plain.connections, secure.connections) == (1, 1)


RECORD = 1 << 14
"""The most bytes of one TLS record (RFC 8446, 5.1)."""


async def test_a_surplus_answer_in_a_record_of_its_own_is_nobodys(
    serve: Serve, server_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """A second answer to one request, received with the first but not yet decrypted, is not the next request's.

    Ours only: httpcore asks the socket alone, where nothing is left to be read, and gives it to whoever asks next.
    """
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    body = bytes(RECORD - len(head % RECORD))
    surplus = head % 7 + b"surplus"

    async def says_too_much(peer: Peer) -> None:
        await peer.request()
        await peer.send(head % len(body) + body + surplus)
        await peer.closed()

    site = await serve(first(says_too_much), tls=server_tls)
    async with Make("ours").client(ssl_context=trusting) as client:
        assert (await client.get(site.url)).content == body
        for _ in range(2):
            assert (await client.get(site.url)).content == b"ok"
    assert site.connections == 2
