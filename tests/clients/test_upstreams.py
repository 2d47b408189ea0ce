"""The clients as the server joins them: whom they trust, and what their breakers are told under its settings."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from app.bootstrap.upstreams import open_database, open_model
from app.clients.breaker import Breaker, State
from app.settings import Settings
from app.turn import CURRENT_PLAN, Plan
from telemetry.providers import Providers, build_providers
from tests.clients.asking import DONE, FINISH, asked, delta
from tests.clients.test_supabase_retries import SLOW_ROWS, Narrow, overcrowd
from tests.clients.transport.servers import answers, start


def settings(**chosen: Any) -> Settings:
    return Settings(_env_file=None, embedded_llm="scripted", **chosen)


@pytest.fixture
def providers() -> Providers:
    return build_providers(
        service_version="test",
        instance="test",
        traces_endpoint_set=False,
        metrics_endpoint_set=False,
        sdk_disabled=True,
    )


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.mark.parametrize(
    ("plan", "http_transport"), [("concurrent", "trio"), ("sequential", "trio"), ("concurrent", "httpcore")]
)
async def test_a_private_authority_is_trusted_by_every_carrier(
    plan: Plan,
    http_transport: str,
    tmp_path: Path,
    providers: Providers,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that SSL_CERT_FILE names holds for ours and for httpx's own, which brings a list of its own."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    body = delta("Yes.") + FINISH + DONE
    site = await start(
        nursery, answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)), tls=context
    )
    CURRENT_PLAN.set(plan)
    chosen = settings(openai_base_url=f"{site.url}/v1", http_transport=http_transport)
    said: list[str] = []
    with trio.fail_after(20):
        async with open_model(chosen, nursery, providers) as model:
            await model.chat.answer(asked("Why?"), said.append)
    assert "".join(said) == "Yes."


@pytest.mark.parametrize(("seconds", "state"), [(11, "closed"), (29.9, "closed"), (30, "open")])
async def test_half_of_the_time_for_the_first_token_is_patience_enough(
    seconds: float, state: State, providers: Providers, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """With LLM_FIRST_TOKEN_TIMEOUT=60, ten callers who leave a silent model earlier say nothing of it."""
    breaker = Breaker("model", failures=10)
    async with open_model(settings(llm_first_token_timeout=60), nursery, providers, breaker) as model:
        for _ in range(10):
            with trio.move_on_after(seconds):
                await model.chat.answer(asked("[[fault: silent]]"), lambda _text: None)
    assert breaker.state == state


async def test_the_database_client_knows_how_many_places_there_are(
    providers: Providers, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SUPABASE_MAX_CONNECTIONS bounds it too, so that a wait for a connection is not the host's silence."""
    pool, breaker = Narrow([SLOW_ROWS]), Breaker("database", failures=1)
    monkeypatch.setattr("app.bootstrap.upstreams.TrioTransport", lambda max_connections: pool)
    chosen = settings(
        supabase_url="http://project.test", supabase_key="sb_secret_x", auth_mode="dev", supabase_max_connections=1
    )
    async with open_database(chosen, nursery, providers, breaker) as database:
        assert await overcrowd(database) == 2
    assert (len(pool.requests), breaker.state) == (3, "closed")
