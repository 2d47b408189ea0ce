"""Opens what the doctor asks: the same hosts as the server, over the same transports, and no more of a server."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx
import trio

from app.bootstrap.outbox import FOLDER
from app.bootstrap.upstreams import OPENAI_URL, ChosenModel, open_model, outside_transport
from app.clients.export_probe import export_nothing
from app.clients.jwks import SupabaseKeyHost
from app.clients.openai_probe import OpenAIProbe
from app.clients.ports import KeyHost
from app.clients.probe_request import ClockTransport
from app.clients.probing import DatabaseProbe, ModelProbe, NoteClock, Reader
from app.clients.supabase_probe import SupabaseProbe
from app.errors import StartError
from app.ops.doctor.clock import Clocks
from app.ops.doctor.examination import Neighbours, steps
from app.ops.doctor.finding import Finding
from app.ops.doctor.model import ModelChecks
from app.ops.doctor.row_security import NOBODY
from app.ops.doctor.steps import take
from app.receive.auth.tokens import TokenRules, mint
from app.settings import Settings
from telemetry.providers import build_providers

TOKEN_S = 300.0
"""How long the token of the user whom nobody knows is good for."""


async def examine(settings: Settings, anon_key: str | None) -> list[Finding]:
    """Look at everything, and return what was found.

    Args:
        settings: the server's.
        anon_key: the key that front ends have, where row-level security is to be tried with it.

    Raises:
        StartError: something cannot even be opened; in a group.
    """
    findings: list[Finding] = []
    try:
        async with trio.open_nursery() as services, _opened(settings, services, anon_key) as near:
            findings = await take(steps(settings, near, settings.data_dir / FOLDER))
            services.cancel_scope.cancel()
    except* httpx.InvalidURL:
        raise StartError("SUPABASE_URL or OPENAI_BASE_URL: no request can be made of it") from None
    return findings


@asynccontextmanager
async def _opened(settings: Settings, services: trio.Nursery, anon_key: str | None) -> AsyncIterator[Neighbours]:
    nothing = build_providers(
        service_version="", instance="", traces_endpoint_set=False, metrics_endpoint_set=False, sdk_disabled=True
    )
    clocks = Clocks()
    alone = settings.model_copy(update={"openai_fallback_model": None})  # which would stand in for the one that fails
    async with AsyncExitStack() as opened:
        model = await opened.enter_async_context(open_model(alone, services, nothing))
        database: DatabaseProbe | None = None
        keys: KeyHost | None = None
        if settings.supabase_url:
            carrier = _carrier(settings, settings.supabase_url, settings.supabase_max_connections, clocks.note)
            transport = await opened.enter_async_context(carrier)
            database = SupabaseProbe(transport, settings.supabase_url)
            keys = SupabaseKeyHost(transport, settings.supabase_url) if settings.auth == "supabase" else None
        probe = await opened.enter_async_context(_model_probe(settings, clocks.note))
        yield Neighbours(
            model=_model_checks(settings, model, probe),
            model_loads=settings.embedded_model == "local",
            database=database,
            keys=keys,
            strangers=strangers(settings, anon_key, time.time),
            export=partial(export_nothing, note=clocks.note),
            clocks=clocks,
        )


def _carrier(settings: Settings, url: str, max_connections: int | None, note: NoteClock) -> httpx.AsyncBaseTransport:
    return ClockTransport(outside_transport(settings, url, max_connections), note)


@asynccontextmanager
async def _model_probe(settings: Settings, note: NoteClock) -> AsyncIterator[ModelProbe | None]:
    if settings.embedded_model is not None:
        yield None
        return
    url = settings.openai_base_url or OPENAI_URL
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    async with _carrier(settings, url, None, note) as transport:
        yield OpenAIProbe(transport, url, key)


def _model_checks(settings: Settings, model: ChosenModel, probe: ModelProbe | None) -> ModelChecks:
    return ModelChecks(
        name=model.chat.name,
        fallback=settings.openai_fallback_model if probe else None,
        chat=model.chat,
        wait_ready=model.wait_ready,
        probe=probe,
        remark=model.remark,
    )


def strangers(settings: Settings, anon_key: str | None, clock: Callable[[], float]) -> tuple[Reader, ...]:
    """Return as whom rows must not be read: without a key, with the front ends' one, signed in as a user without rows.

    The last is only for projects whose tokens we can sign; a token of theirs needs a key beside it to pass the gateway.
    """
    found = [Reader(name=NOBODY)]
    if anon_key:
        found.append(Reader(name="the front ends' key", key=anon_key))
    if settings.supabase_jwt_secret and settings.supabase_key:
        rules = TokenRules(audience=settings.supabase_jwt_audience, issuer=settings.token_issuer)
        secret = settings.supabase_jwt_secret.get_secret_value()
        token = mint(str(uuid.uuid4()), secret, rules, now=clock(), valid_s=TOKEN_S)
        key = anon_key or settings.supabase_key.get_secret_value()
        found.append(Reader(name="a signed-in user without rows", key=key, token=token))
    return tuple(found)
