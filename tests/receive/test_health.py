"""`/healthz` and `/readyz`, asked through the whole application."""

from typing import cast

import httpx
import pytest
import trio
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from app.clients.in_process import AsgiApp, InProcessTransport
from app.edge.application import build_application
from app.edge.observe import Observe
from app.receive.routes import Readiness, health_routes


async def asked(path: str, readiness: Readiness) -> httpx.Response:
    quart = build_application([health_routes(lambda: readiness)], max_body_bytes=1000, body_timeout_s=1)
    duration = NoOpMeterProvider().get_meter("test").create_histogram("duration")
    app = Observe(quart, NoOpTracerProvider().get_tracer("test"), duration)
    async with (
        trio.open_nursery() as nursery,
        httpx.AsyncClient(
            transport=InProcessTransport(cast("AsgiApp", app), nursery), base_url="http://test"
        ) as client,
    ):
        return await client.get(path)


@pytest.mark.parametrize(("status", "code"), [("ready", 200), ("loading", 503), ("draining", 503)])
async def test_readiness_is_a_word_and_a_status(status: str, code: int) -> None:
    """`/readyz` is 200 when turns can be served and 503 while the model loads or the server drains."""
    response = await asked("/readyz", Readiness(status=status, degraded=("model",)))
    assert (response.status_code, response.json()) == (code, {"status": status, "degraded": ["model"]})


async def test_a_draining_process_lives() -> None:
    """`/healthz` is 200 whatever the readiness, so that nobody kills a server that drains."""
    assert (await asked("/healthz", Readiness(status="draining"))).status_code == 200
