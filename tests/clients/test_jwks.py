"""The request for a project's keys, and what is made of the answers."""

from math import inf
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from app.clients import USER_AGENT
from app.clients.jwks import FETCH_S, MAX_BYTES, SupabaseKeyHost, max_age
from app.errors import IdentityFault
from app.receive.auth.key_set import parse_key_set
from tests.clients.scripts import Script, Step

URL = "https://project.supabase.test"


async def failure(step: Step) -> str:
    """Return what a fetch fails with."""
    with pytest.raises(IdentityFault) as caught:
        await SupabaseKeyHost(Script([step]), URL).fetch_keys()
    assert (caught.value.code, caught.value.kind.status) == ("identity_unavailable", 503)
    return caught.value.error_type


@pytest.mark.parametrize("url", [URL, f"{URL}/", "https://gw:pass@project.supabase.test"])
async def test_it_is_this_one_request(url: str, autojump_clock: MockClock) -> None:
    """An open address: no key of ours is sent, only a gateway's password that stands in the URL."""
    script = Script([Step(pieces=(b'{"keys"', b": []}"), headers=(("cache-control", "public, max-age=600"),))])
    fetched = await SupabaseKeyHost(script, url).fetch_keys()
    assert (fetched.body, fetched.max_age_s) == (b'{"keys": []}', 600)
    (request,) = script.requests
    assert (request.method, request.url.path) == ("GET", "/auth/v1/.well-known/jwks.json")
    assert request.headers["user-agent"] == USER_AGENT
    assert request.headers["accept-encoding"] == "identity"
    assert ("authorization" in request.headers) == ("gw:" in url)
    assert "apikey" not in request.headers


STEPS: dict[str, tuple[Step, str]] = {
    "refused": (Step(error=httpx.ConnectError("x")), "ConnectError"),
    "cut within its body": (Step(pieces=(b"{",), end=httpx.RemoteProtocolError("x")), "RemoteProtocolError"),
    "an error": (Step(status=503, pieces=(b"<html>",)), "http_503"),
    "moved": (Step(status=302, headers=(("location", "http://evil.test/"),)), "http_302"),
    "not changed": (Step(status=304), "http_304"),
    "packed": (Step(headers=(("content-encoding", "gzip"),), pieces=(b"x",)), "packed"),
    "silent": (Step(wait_s=inf), "timeout"),
    "without an end": (Step(pieces=(b"{",), end=None), "timeout"),
    "huge": (Step(pieces=(b" " * 20_000,) * 1000), "too_large"),
}


@pytest.mark.parametrize(("step", "error"), STEPS.values(), ids=STEPS)
async def test_a_host_that_fails_is_told_in_a_word(step: Step, error: str, autojump_clock: MockClock) -> None:
    """Within the deadline; a redirect is not followed, and no more is read than a set could have."""
    begun = trio.current_time()
    assert await failure(step) == error
    assert trio.current_time() - begun <= FETCH_S


async def test_an_auth_from_before_signing_keys_publishes_none(autojump_clock: MockClock) -> None:
    """It has no such address, and the project's legacy secret alone; what its error page says is not read."""
    script = Script([Step(status=404, pieces=(b'{"keys": [{"kty": "oct"}]}',))])
    fetched = await SupabaseKeyHost(script, URL).fetch_keys()
    assert parse_key_set(fetched.body).keys == ()
    assert parse_key_set(fetched.body, "a secret of 32 bytes or even more").keys != ()


async def test_no_more_is_read_than_a_set_could_have(autojump_clock: MockClock) -> None:
    """Of twenty megabytes, some kilobytes."""
    script = Script([STEPS["huge"][0]])
    with pytest.raises(IdentityFault):
        await SupabaseKeyHost(script, URL).fetch_keys()
    assert script.read <= MAX_BYTES // 20_000 + 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("no-store", None),
        ("max-age=600", 600),
        ("public, max-age=600, must-revalidate", 600),
        ('Public,MAX-AGE="60"', 60),
        ("s-maxage=5", None),
        ("max-age=-1", None),
        ("max-age=1e9", None),
        ("max-age=99999999999999", None),
        ("x-max-age=7", None),
    ],
)
def test_how_long_an_answer_may_be_kept(header: str, seconds: Any) -> None:
    """By `Cache-Control`; what is no number of seconds says nothing."""
    assert max_age(header) == seconds
