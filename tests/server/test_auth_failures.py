"""Failed authentications over sockets: each address has so many, on all routes together."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import KINDS
from app.receive.auth.tokens import TokenRules, mint
from app.settings import Settings
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running
from tests.server.streaming import sdk_body
from tests.server.wire import problem

MOST = 3
SETTINGS = {"AUTH_FAILURES_MAX": "3", "AUTH_FAILURES_WINDOW_SEC": "3600", "OPS_TOKEN": "ops-secret"}
"""One comes back in twenty minutes, so that no pace of a test's changes what is refused."""
QUESTION = f"What is a hypothesis? {AT_ONCE}"
BAD = "Bearer not/a/user"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), **SETTINGS) as process:
        yield process


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose connections are all from a proxy of ours, 127.0.0.1."""
    with running(tmp_path_factory.mktemp("data"), **SETTINGS, TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8") as process:
        yield process


@contextmanager
def calling_from(address: str, server: ServerProcess) -> Iterator[httpx.Client]:
    """Yield a client whose connections come from that address of this machine."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=server.url, transport=transport, timeout=WAIT_S) as client:
        yield client


def ask(client: httpx.Client, token: str, *lines: str, body: Any = None, **headers: str) -> httpx.Response:
    """Ask a question with a token; each of `lines` is an `X-Forwarded-For` header."""
    given = [("authorization", token), *(("x-forwarded-for", line) for line in lines), *headers.items()]
    return client.post("/chat", json=body or {"message": QUESTION}, headers=given)


def failed(client: httpx.Client, *lines: str, times: int = MOST + 1) -> list[int]:
    """Fail so often and return the statuses."""
    return [ask(client, f"{BAD}/{number}", *lines).status_code for number in range(times)]


def test_the_defaults_are_the_documented_ones() -> None:
    """Ten a minute."""
    chosen = Settings(_env_file=None)
    assert (chosen.auth_failures_max, chosen.auth_failures_window_sec) == (10, 60.0)


def test_an_address_has_so_many_failures(server: ServerProcess) -> None:
    """Three are 401, the rest 429 with `Retry-After`, whatever it says it passes on; another address has its own."""
    with calling_from("127.0.0.11", server) as here, calling_from("127.0.0.12", server) as there:
        assert failed(here) == [401, 401, 401, 429]
        refused = ask(here, BAD, "203.0.113.1", **{"remote-addr": "203.0.113.1", "forwarded": "for=203.0.113.1"})
        body = problem(refused, 429, "rate_limited")
        assert (body["retryable"], 0 < int(refused.headers["retry-after"]) <= 1200) == (True, True)
        assert not any(name.startswith("ratelimit-") for name in refused.headers)
        assert "www-authenticate" not in refused.headers
        assert ask(there, BAD).status_code == 401


def test_a_good_token_passes_whatever_is_left(server: ServerProcess) -> None:
    """One that was never seen here, too: a neighbour's guesses keep nobody out."""
    with calling_from("127.0.0.21", server) as client:
        assert failed(client) == [401, 401, 401, 429]
        assert [ask(client, f"Bearer {user}").status_code for user in ("new", "other", "new")] == [200] * 3
        assert ask(client, BAD).status_code == 429


def test_all_routes_share_the_budget(server: ServerProcess) -> None:
    """Guesses at the chat, its history, the agent and ops are one; over it, the ops token is not even compared."""
    with calling_from("127.0.0.31", server) as client:
        bearer = {"authorization": "Bearer ops-secret"}
        assert client.get("/metrics", headers=bearer).status_code == 200
        paths = ("/metrics", "/chat/history", "/ops/turns", "/conversation-agent/status", "/ops/limiter")
        statuses = [client.get(path, headers={"authorization": BAD}).status_code for path in paths]
        assert statuses == [401, 401, 401, 429, 429]
        problem(client.get("/metrics", headers=bearer), 429, "rate_limited")
        assert client.get("/healthz").status_code == 200
    assert server.http.get("/metrics", headers=bearer).status_code == 200


def test_asking_without_a_token_is_no_guess(server: ServerProcess) -> None:
    """It is 401, again and again, and takes nothing from who has one."""
    with calling_from("127.0.0.41", server) as client:
        assert {client.get(path).status_code for path in ("/metrics", "/chat/history") * 5} == {401}
        assert ask(client, "Bearer fresh").status_code == 200


def test_a_refusal_comes_in_the_form_that_its_reader_shows(server: ServerProcess) -> None:
    """Plain text for the AI SDK's body, in its reader's language."""
    with calling_from("127.0.0.51", server) as client:
        failed(client)
        refused = ask(client, BAD, body=sdk_body(QUESTION), **{"accept-language": "ja"})
        assert (refused.status_code, refused.text) == (429, KINDS["rate_limited"].japanese)
        assert refused.headers["content-type"] == "text/plain; charset=utf-8"
        assert refused.headers["x-error-code"] == "rate_limited"


@pytest.mark.parametrize("code", ["unauthenticated", "rate_limited"])
def test_a_long_chat_is_refused_in_a_sentence_too(tmp_path: Path, code: str) -> None:
    """Whether the AI SDK asks is seen without reading the body as JSON, which may be long, and anybody's."""
    most = {"unauthenticated": "1000", "rate_limited": "1"}[code]
    with running(tmp_path, **{**SETTINGS, "AUTH_FAILURES_MAX": most}) as server:
        failed(server.http, times=1)
        bodies = (
            (sdk_body("a" * 500_000), "text/plain; charset=utf-8"),
            ({"message": '"messages"'}, "application/problem+json"),
        )
        for body, content_type in bodies:
            refused = ask(server.http, BAD, body=body)
            assert (refused.headers["x-error-code"], refused.headers["content-type"]) == (code, content_type)
            assert KINDS[code].detail in refused.text


def test_refusals_are_counted_and_logged_without_who(server: ServerProcess) -> None:
    """The counter has them as `address`; no line has the address or the token."""
    with calling_from("127.0.0.61", server) as client:
        failed(client, "203.0.113.77")
    page = server.http.get("/metrics", headers={"authorization": "Bearer ops-secret"})
    (line,) = [line for line in page.text.splitlines() if line.startswith('chat_rate_limited_total{kind="address"')]
    assert float(line.rpartition(" ")[2]) >= 1
    server.wait_for_log("turn.rate_limited", kind="address")
    for secret in ("127.0.0.", "203.0.113.", "not/a/user"):
        assert not any(secret in str(line) for line in server.lines("turn.rate_limited"))


def test_a_proxy_that_is_not_named_is_hinted_at(tmp_path: Path) -> None:
    """Where refused requests were passed on by somebody, the log says what to do if that is a proxy of ours."""
    with running(tmp_path, **SETTINGS) as server:
        failed(server.http, "203.0.113.77")
        assert "TRUSTED_PROXIES" in server.wait_for_log("turn.rate_limited")["hint"]


BEHIND = {
    "IPv4": (["198.51.100.1"], ["198.51.100.1"]),
    "spoofed to the left": (["203.0.113.1, 198.51.100.2"], ["203.0.113.2, 127.0.0.1, 198.51.100.2"]),
    "in several headers": (["203.0.113.1", "198.51.100.3"], ["10.1.1.1", "198.51.100.3:4711", "10.0.0.9"]),
    "IPv6, one network": (["2001:db8::1"], ["1.1.1.1, [2001:db8::2]:443"]),
    "malformed: the proxy's own": (["203.0.113.1, unknown"], ["203.0.113.2, 1.2.3"]),
}


@pytest.mark.parametrize("name", BEHIND)
def test_behind_a_proxy_each_client_has_its_own(proxied: ServerProcess, name: str) -> None:
    """The last address that is not ours counts, however it is written and whatever is written before it."""
    first, again = BEHIND[name]
    assert failed(proxied.http, *first, times=MOST) == [401] * MOST
    assert ask(proxied.http, BAD, *again).status_code == 429
    assert ask(proxied.http, BAD, f"192.0.2.{len(name)}").status_code == 401


def test_who_is_no_proxy_of_ours_cannot_speak_for_others(proxied: ServerProcess) -> None:
    """A stranger that names a new address each time is still itself, and takes nothing from those it names."""
    with calling_from("127.0.0.2", proxied) as stranger:
        statuses = [ask(stranger, BAD, f"198.51.100.{number}").status_code for number in range(100, 106)]
    assert statuses == [401, 401, 401, 429, 429, 429]
    assert ask(proxied.http, BAD, "198.51.100.100").status_code == 401


SECRET = "a secret of more than thirty-two characters"


def test_a_class_of_stale_tabs_keeps_nobody_out(tmp_path: Path) -> None:
    """Those that were right once are 401, to be renewed, however many; forged ones are soon 429; a good one passes."""
    rules = TokenRules(audience="authenticated")

    def token(user: str, valid_s: float, secret: str = SECRET) -> str:
        return f"Bearer {mint(user, secret, rules, now=time.time(), valid_s=valid_s)}"

    with running(tmp_path, **SETTINGS, SUPABASE_JWT_SECRET=SECRET) as server:
        assert {ask(server.http, token(f"u{number}", -60)).status_code for number in range(20)} == {401}
        forged = [ask(server.http, token(f"u{number}", 60, f"{SECRET}!")).status_code for number in range(10)]
        assert forged == [401] * MOST + [429] * 7
        assert ask(server.http, token("u0", 60)).status_code == 200
        assert ask(server.http, token("u0", -60)).status_code == 401
