"""The database, the model and the keys that serve: the configured ones, or those that are embedded."""

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import httpx
import trio

from app.admit.steered_model import SteeredModel, Steering
from app.clients import supabase
from app.clients.breaker import Breaker
from app.clients.by_plan import TransportByPlan
from app.clients.in_process import InProcessTransport
from app.clients.jwks import SupabaseKeyHost
from app.clients.openai import OpenAIModel
from app.clients.pools import Pools
from app.clients.ports import ChatDatabase, ChatModel
from app.clients.resilient import ResilientModel
from app.clients.supabase import SupabaseDatabase
from app.clients.transport import TrioTransport
from app.embedded import local_model
from app.embedded.postgrest import EmbeddedDatabaseError, open_embedded_supabase
from app.embedded.scripted_model import MODEL_NAME as SCRIPTED_NAME
from app.embedded.scripted_model import ScriptedModel
from app.errors import StartError
from app.receive.auth.key_source import FetchedKeys, FixedKeys, Keys
from app.settings import EMBEDDED_SUPABASE_URL, Settings, proxy_for
from telemetry.http_client import traced_transport
from telemetry.providers import Providers

log = logging.getLogger(__name__)

OPENAI_URL = "https://api.openai.com/v1"
SCRIPTED_URL = "http://scripted-model.embedded/v1"
NEARLY = 0.9
"""Of a deadline: a call that it cuts off in vain has lasted so long even when it began a little late."""
FAILURES = 10
"""In a row. One turn alone makes up to eight if the model stumbles about its prompt (a reply and a study, each with two
retries and a fallback), and six while the database restarts."""
MAX_TOKENS, PROMPT_MAX_CHARS = 800, 48_000
"""For any model but the local one, whose context holds less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenModel:
    """The model that serves: its client, its bounds, whether it can be asked now, and what a newcomer is told of it.

    `slots` is how many answers it gives at once, None for as many as are asked for; `studies`, whether the agent may
    have it work out a state and plan beside its replies.
    """

    chat: ChatModel
    max_tokens: int = MAX_TOKENS
    prompt_max_chars: int = PROMPT_MAX_CHARS
    slots: int | None = None
    studies: bool = True
    ready: Callable[[], bool] = lambda: True
    wait_ready: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakers:
    """One for each host that a turn needs."""

    model: Breaker = field(default_factory=partial(Breaker, "model", failures=FAILURES))
    database: Breaker = field(default_factory=partial(Breaker, "database", failures=FAILURES, open_s=2.0))

    def degraded(self) -> tuple[str, ...]:
        """Return the names of those that do not let every call pass."""
        return tuple(breaker.target for breaker in (self.model, self.database) if breaker.state != "closed")


@asynccontextmanager
async def open_database(
    settings: Settings,
    services: trio.Nursery,
    providers: Providers,
    breaker: Breaker | None = None,
    pools: Pools | None = None,
) -> AsyncIterator[ChatDatabase]:
    """Yield the database: the configured Supabase project, or the embedded one under `DATA_DIR`.

    The project's connections are added to `pools`.

    Raises:
        StartError: the embedded database's file cannot be opened or written.
    """
    if settings.supabase_url and settings.supabase_key:
        transport = outside_transport(settings, settings.supabase_url, settings.supabase_max_connections)
        async with _traced(transport, providers) as traced:
            key = settings.supabase_key.get_secret_value()
            silent_s = min(supabase.SILENT_S, NEARLY * settings.db_fetch_timeout, NEARLY * settings.db_save_timeout)
            database = SupabaseDatabase(
                traced, settings.supabase_url, key, breaker,
                max_connections=settings.supabase_max_connections, silent_s=silent_s,
                as_caller=settings.supabase_rls_passthrough,
            )  # fmt: skip
            if pools is not None:
                pools.add("database", transport, lambda: database.waiting)
            yield database
        return
    try:
        async with (
            open_embedded_supabase(settings.data_dir / "supabase.sqlite3") as embedded,
            _traced(InProcessTransport(embedded, services), providers) as traced,
        ):
            yield SupabaseDatabase(traced, EMBEDDED_SUPABASE_URL, "embedded", breaker)
    except EmbeddedDatabaseError as exc:
        raise StartError(f"DATA_DIR: {exc}") from None


@asynccontextmanager
async def open_keys(settings: Settings, services: trio.Nursery, providers: Providers) -> AsyncIterator[Keys | None]:
    """Yield the keys that tokens are verified with; None in an identity mode without tokens.

    Those of a project are fetched by a task in `services`, from now on.
    """
    secret = settings.supabase_jwt_secret.get_secret_value() if settings.supabase_jwt_secret else None
    if settings.auth != "supabase":
        yield None
    elif settings.supabase_url:
        transport = outside_transport(settings, settings.supabase_url, None)
        async with _traced(transport, providers, send_traceparent=False) as traced:
            keys = FetchedKeys(SupabaseKeyHost(traced, settings.supabase_url), secret)
            services.start_soon(keys.run)
            yield keys
    else:
        assert secret, "the settings see to it"
        yield FixedKeys(secret)


def outside_transport(settings: Settings, url: str, max_connections: int | None) -> httpx.AsyncBaseTransport:
    """Return what carries calls to a host outside: ours, unless a proxy must be asked, httpx's own is wanted, or a turn
    is of the sequential plan.
    """
    proxy, limits = proxy_for(url), httpx.Limits(max_connections=max_connections)

    def make_httpx_own() -> httpx.AsyncBaseTransport:  # with the same certificates as ours: the system's
        trusted = ssl.create_default_context()
        return httpx.AsyncHTTPTransport(verify=trusted, limits=limits, proxy=proxy, trust_env=False)

    if settings.http_transport == "httpcore" or proxy is not None:
        return make_httpx_own()
    return TransportByPlan(TrioTransport(max_connections=max_connections), make_httpx_own)


def _traced(
    transport: httpx.AsyncBaseTransport, providers: Providers, *, send_traceparent: bool = True
) -> httpx.AsyncBaseTransport:
    return traced_transport(transport, tracer_provider=providers.tracer_provider, send_traceparent=send_traceparent)


@asynccontextmanager
async def open_model(
    settings: Settings,
    services: trio.Nursery,
    providers: Providers,
    breaker: Breaker | None = None,
    steering: Steering | None = None,
    pools: Pools | None = None,
) -> AsyncIterator[ChosenModel]:
    """Yield the model: the configured one, else the embedded one, whose tasks live in `services`.

    Its host keeps to `steering`, which hears each of its answers; its connections are added to `pools`.
    """
    missing = local_model.local_model_missing() if settings.embedded_model == "local" else None
    make: Callable[[httpx.AsyncBaseTransport], ChosenModel]
    if settings.embedded_model is None:
        # The limiter bounds the calls; a pool of its own would make some of them wait where nobody sees it.
        transport = outside = outside_transport(settings, settings.openai_base_url or OPENAI_URL, None)
        make = partial(_outside_model, settings)
    elif settings.embedded_model == "local" and missing is None:
        local = local_model.LocalModel()
        services.start_soon(local.run)
        outside = TrioTransport()  # to the child process
        transport = local.transport(outside)
        make = partial(_local_model, local)
    else:
        transport = outside = InProcessTransport(ScriptedModel(), services)
        make = partial(_scripted_model, missing)
    if pools is not None:
        pools.add("model", outside)
    async with _traced(transport, providers, send_traceparent=False) as traced:
        chosen = make(traced)
        resilient_model = ResilientModel(
            SteeredModel(chosen.chat, steering or Steering()),
            breaker or Breaker("model"),
            fallback=settings.openai_fallback_model,
            silent_s=settings.llm_first_token_timeout / 2,
        )
        yield replace(chosen, chat=resilient_model)


def _outside_model(settings: Settings, transport: httpx.AsyncBaseTransport) -> ChosenModel:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    base_url = settings.openai_base_url or OPENAI_URL
    provider = "openai" if base_url == OPENAI_URL else ""
    return ChosenModel(chat=OpenAIModel(transport, base_url, key, settings.openai_model, provider))


def _scripted_model(missing: str | None, transport: httpx.AsyncBaseTransport) -> ChosenModel:
    if missing:
        log.warning("local_model.missing", extra={"reason": missing, "instead": SCRIPTED_NAME})
    remark = f"NOT A REAL MODEL: {missing}" if missing else "not a real model: a deterministic script for first looks"
    return ChosenModel(chat=OpenAIModel(transport, SCRIPTED_URL, "", SCRIPTED_NAME), remark=remark)


def _local_model(local: local_model.LocalModel, transport: httpx.AsyncBaseTransport) -> ChosenModel:
    return ChosenModel(
        chat=OpenAIModel(transport, local_model.LOCAL_MODEL_URL, "", local_model.MODEL_NAME),
        max_tokens=local_model.MAX_TOKENS,
        prompt_max_chars=local_model.PROMPT_MAX_CHARS,
        slots=local_model.SLOTS,
        studies=False,
        ready=lambda: local.state == "ready",
        wait_ready=local.wait_ready,
        remark="a tiny English demo model; set OPENAI_BASE_URL (and OPENAI_API_KEY) for real use",
    )
