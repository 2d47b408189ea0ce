"""This machine: which hosts it is, and which requests were sent on it."""

import pytest
from werkzeug.datastructures import Headers

from app.loopback import host_name, is_from_here, is_loopback

HERE = "127.0.0.1:8000"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost", "LocalHost", "::ffff:127.0.0.1"]
)
def test_loopback_is_loopback(host: str) -> None:
    """Every loopback address, and the one name, is this machine."""
    assert is_loopback(host)
    assert is_loopback(host_name(f"{host}:80" if not host.startswith(":") else f"[{host}]:80"))


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "10.0.0.1", "127.evil.example", "localhost.evil.example", "::", "[::2]", "::ffff:10.0.0.1"],
)
def test_nothing_else_is(host: str) -> None:
    """No other address, and no name that anybody could point here, is."""
    assert not is_loopback(host)


@pytest.mark.parametrize("host", [HERE, "localhost", "LOCALHOST:1", "[::1]:8000", "127.0.0.2:80"])
@pytest.mark.parametrize(
    "passed_on",
    [
        [],
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["127.0.0.1, ::1"],
        ["::1", "127.0.0.1"],
        ["127.0.0.1:4433,[::1]:5, "],
    ],
    ids=lambda lines: "; ".join(lines) or "direct",
)
def test_who_asks_on_this_machine_does(host: str, passed_on: list[str]) -> None:
    """By any loopback name, and through a front end's development server, which says for whom it asks."""
    headers = Headers([("host", host), *(("x-forwarded-for", line) for line in passed_on)])
    assert is_from_here(headers)
    headers.add("forwarded", "for=_hidden")
    assert is_from_here(headers) == bool(passed_on)


STRANGERS: dict[str, list[tuple[str, str]]] = {
    "no host": [],
    "a page's own name": [("host", "evil.test:8000")],
    "a name that begins like us": [("host", "127.0.0.1.example.com")],
    "two names": [("host", HERE), ("host", "evil.test")],
    "through nginx": [("host", HERE), ("x-forwarded-for", "203.0.113.9")],
    "who claims to be here": [("host", HERE), ("x-forwarded-for", "127.0.0.1, 203.0.113.9")],
    "in another header": [("host", HERE), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.9")],
    "through two proxies": [("host", HERE), ("x-forwarded-for", "203.0.113.9, 127.0.0.1")],
    "from nowhere": [("host", HERE), ("x-forwarded-for", "unknown")],
    "from nobody": [("host", HERE), ("x-forwarded-for", "")],
    "who looks like a port of ours": [("host", HERE), ("x-forwarded-for", "::1:5")],
    "the standard's header alone": [("host", HERE), ("forwarded", "for=127.0.0.1")],
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_does_not(headers: list[tuple[str, str]]) -> None:
    """Neither by a name pointed at us, nor behind a proxy on this machine, whatever he writes himself."""
    assert not is_from_here(Headers(headers))
