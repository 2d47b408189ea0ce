"""Spans of upstream calls, over real sockets: what they say, what they must not say, and what the host is told."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import h11
import httpx
import pytest
import trio
from opentelemetry.trace import Span, format_trace_id, get_current_span

from telemetry.http_client import traced_transport
from telemetry.providers import Providers, build_providers
from tests.receivers import OtlpReceiver, ReceivedSpan, otlp_receiver

CANARY = "canary-5c1e"
QUERY = f"user_id=eq.{CANARY}&message=ilike.*{CANARY}*"
ERROR = 2  # OTLP's STATUS_CODE_ERROR


@dataclass
class Host:
    """A small HTTP/1.1 server: answers by path, and notes what it was asked."""

    url: str = ""
    targets: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    asked: trio.Event = field(default_factory=trio.Event)
    go_on: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        async with stream:
            request, body = await _read(connection, stream)
            self.targets.append(request.target.decode())
            self.headers.append({name.decode(): value.decode() for name, value in request.headers})
            self.bodies.append(body)
            self.asked.set()
            await self._answer(request.target.decode().partition("?")[0], connection, stream)

    async def _answer(self, path: str, connection: h11.Connection, stream: trio.SocketStream) -> None:
        if path == "/hang-up":
            return
        if path == "/silent":
            await stream.receive_some()
            self.left.set()
            return
        status = 500 if path == "/fails" else 200
        send = partial(_send, connection, stream)
        await send(h11.Response(status_code=status, headers=[("x-request-id", "r1"), ("connection", "close")]))
        await send(h11.Data(data=b"first"))
        if path == "/stream":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, stream, nursery.cancel_scope)
                await self.go_on.wait()
                nursery.cancel_scope.cancel()
        if not self.left.is_set():
            await send(h11.Data(data=b"second"))
            await send(h11.EndOfMessage())

    async def _watch(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
        self.left.set()
        scope.cancel()


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> tuple[h11.Request, bytes]:
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            assert request
            return request, body


async def _send(connection: h11.Connection, stream: trio.SocketStream, event: h11.Event) -> None:
    await stream.send_all(connection.send(event) or b"")


@pytest.fixture
async def host(nursery: trio.Nursery) -> Host:
    running = Host()
    listeners = await nursery.start(partial(trio.serve_tcp, running.serve, 0, host="127.0.0.1"))
    running.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    return running


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with otlp_receiver() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        yield running


@dataclass
class Traced:
    """Calls inside one span `turn`; leave the block, then look at what was received."""

    client: httpx.AsyncClient
    span: Span
    transport: httpx.AsyncBaseTransport


@asynccontextmanager
async def turn(
    inner: httpx.AsyncBaseTransport | None = None, *, send_traceparent: bool = True
) -> AsyncIterator[Traced]:
    providers = _providers()
    transport = traced_transport(
        inner or httpx.AsyncHTTPTransport(),
        tracer_provider=providers.tracer_provider,
        send_traceparent=send_traceparent,
    )
    try:
        with providers.tracer.start_as_current_span("turn") as span:
            async with httpx.AsyncClient(transport=transport, headers={"user-agent": "t", "accept": "*/*"}) as client:
                yield Traced(client, span, transport)
    finally:
        await providers.shutdown(5)


def _providers() -> Providers:
    return build_providers(service_version="1", instance="i", traces_endpoint_set=True, metrics_endpoint_set=False)


def calls(receiver: OtlpReceiver) -> list[ReceivedSpan]:
    return [span for span in receiver.spans if span.name != "turn"]


async def test_an_attempt_is_a_client_span_with_stable_attributes(
    host: Host, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The span follows the stable HTTP conventions without any setting, and is a child of the current span."""
    monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN", raising=False)
    async with turn() as traced:
        response = await traced.client.get(f"{host.url}/rest/v1/chat_logs?{QUERY}")
    assert response.text == "firstsecond"
    (span,) = calls(receiver)
    port = httpx.URL(host.url).port
    assert span.attributes == {
        "http.request.method": "GET",
        "url.full": f"{host.url}/rest/v1/chat_logs",
        "server.address": "127.0.0.1",
        "server.port": port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": port,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert (span.name, span.kind) == ("GET", 3)
    assert span.parent_id == receiver.named("turn")[0].span_id


async def test_the_host_gets_the_whole_request(host: Host, receiver: OtlpReceiver) -> None:
    """Query, headers and body reach the host as they were given."""
    async with turn() as traced:
        await traced.client.post(f"{host.url}/rpc?{QUERY}", json={"text": CANARY}, headers={"apikey": "k"})
    assert host.targets == [f"/rpc?{QUERY}"]
    assert host.headers[0]["apikey"] == "k"
    assert json.loads(host.bodies[0]) == {"text": CANARY}
    assert len(calls(receiver)) == 1


class Quoting(httpx.AsyncBaseTransport):
    """A transport whose errors quote the URL, as some do."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError(f"cannot read {request.url}") from ValueError(str(request.url))


@pytest.mark.parametrize(
    ("path", "inner", "error"),
    [
        ("/ok", None, ""),
        ("/fails", None, "500"),
        ("/hang-up", None, "RemoteProtocolError"),
        ("/quoted", Quoting(), "ReadError"),
    ],
)
async def test_nothing_of_the_query_leaves_the_process(
    path: str,
    inner: httpx.AsyncBaseTransport | None,
    error: str,
    host: Host,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No exported byte holds anything of query, fragment, credentials, headers or body, in success and in errors."""
    for name in ("REQUEST", "RESPONSE"):
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_{name}", ".*")
    url = httpx.URL(f"{host.url}{path}?{QUERY}#{CANARY}").copy_with(username=CANARY, password=CANARY)
    async with turn(inner) as traced:
        if error in {"", "500"}:
            await traced.client.post(url, content=CANARY, headers={"authorization": CANARY, "apikey": CANARY})
        else:
            with pytest.raises(httpx.TransportError):
                await traced.client.post(url, content=CANARY, headers={"authorization": CANARY, "apikey": CANARY})
    (span,) = calls(receiver)
    assert CANARY.encode() not in b"".join(receiver.bodies)
    assert span.attributes.get("error.type", "") == error
    assert span.events == []
    assert span.status[0] == (ERROR if error else 0)


async def test_a_cancelled_attempt_is_one_ended_span(host: Host, receiver: OtlpReceiver) -> None:
    """A call that is cancelled closes its connection, and its span ends with error.type `cancelled` and no text."""
    async with turn() as traced, trio.open_nursery() as nursery:
        nursery.start_soon(traced.client.get, f"{host.url}/silent?{QUERY}")
        await host.asked.wait()
        nursery.cancel_scope.cancel()
    with trio.fail_after(5):
        await host.left.wait()
    (span,) = calls(receiver)
    assert span.attributes["error.type"] == "cancelled"
    assert CANARY.encode() not in b"".join(receiver.bodies)


async def test_the_database_host_is_told_the_trace(host: Host, receiver: OtlpReceiver) -> None:
    """With `send_traceparent` the host gets the ids of the attempt's own span, also when a request is sent again."""
    async with turn(send_traceparent=True) as traced:
        request = traced.client.build_request("GET", f"{host.url}/again")
        for _ in range(2):
            await traced.client.send(request)
        trace_id = format_trace_id(traced.span.get_span_context().trace_id)
    told = [headers["traceparent"].split("-")[1:3] for headers in host.headers]
    assert sorted(told) == sorted([trace_id, span.span_id] for span in calls(receiver))
    assert len({span_id for _, span_id in told}) == 2


async def test_the_model_host_is_told_nothing(host: Host, receiver: OtlpReceiver) -> None:
    """Without `send_traceparent` no trace header reaches the host, whoever set it, while the span is still made."""
    given = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "a=b", "baggage": f"user={CANARY}"}
    async with turn(send_traceparent=False) as traced:
        await traced.client.get(f"{host.url}/ok", headers=given)
    assert not host.headers[0].keys() & given.keys()
    assert len(calls(receiver)) == 1


@pytest.mark.parametrize("send_traceparent", [True, False])
async def test_an_unsampled_call_is_not_instrumented(
    send_traceparent: bool, host: Host, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a trace that is not sampled the call has no span of its own, and nothing is exported."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    inner = Noting()
    async with turn(inner, send_traceparent=send_traceparent) as traced:
        response = await traced.client.get(f"{host.url}/ok?{QUERY}", headers={"baggage": "a=b"})
    assert response.text == "firstsecond"
    assert inner.spans == [traced.span]
    assert receiver.spans == []
    assert "traceparent" not in host.headers[0]
    assert ("baggage" in host.headers[0]) is send_traceparent


class Noting(httpx.AsyncHTTPTransport):
    """httpx's own transport, which notes the context it is called in."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.spans.append(get_current_span())
        return await super().handle_async_request(request)


async def test_a_call_outside_any_trace_just_works(host: Host, receiver: OtlpReceiver) -> None:
    """A call with no current span is sent and makes no span of its own."""
    providers = _providers()
    transport = traced_transport(
        httpx.AsyncHTTPTransport(), tracer_provider=providers.tracer_provider, send_traceparent=True
    )
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get(f"{host.url}/ok")).status_code == 200
    await providers.shutdown(5)
    assert receiver.spans == []


async def test_a_response_streams_through(host: Host, receiver: OtlpReceiver) -> None:
    """The first chunk is there before the host sends the second: nothing on the way collects the body."""
    async with turn() as traced, traced.client.stream("GET", f"{host.url}/stream") as response:
        chunks = response.aiter_raw()
        with trio.fail_after(5):
            assert await anext(chunks) == b"first"
            host.go_on.set()
            assert [chunk async for chunk in chunks] == [b"second"]
    assert len(calls(receiver)) == 1


async def test_closing_a_response_reaches_the_host(host: Host, receiver: OtlpReceiver) -> None:
    """A response that is closed half-way closes the connection, so that the host stops."""
    async with turn() as traced:
        async with traced.client.stream("GET", f"{host.url}/stream") as response:
            assert response.status_code == 200
        with trio.fail_after(5):
            await host.left.wait()
    assert len(calls(receiver)) == 1


async def test_closing_the_transport_closes_the_inner_one(receiver: OtlpReceiver) -> None:
    """`aclose`, and leaving the client's block, close the wrapped transport."""
    closed: list[str] = []

    class Inner(httpx.AsyncBaseTransport):
        async def aclose(self) -> None:
            closed.append("closed")

    async with turn(Inner()) as traced:
        await traced.transport.aclose()
        assert closed == ["closed"]
    assert closed == ["closed"] * 2
    assert calls(receiver) == []


async def test_no_metric_of_the_instrumentor_appears(host: Host, receiver: OtlpReceiver) -> None:
    """The instrumentor's own duration histogram is not collected: the stages have ours."""
    providers = _providers()
    transport = traced_transport(
        httpx.AsyncHTTPTransport(), tracer_provider=providers.tracer_provider, send_traceparent=True
    )
    with providers.tracer.start_as_current_span("turn"):
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(f"{host.url}/ok")
    data = providers.scrape()
    await providers.shutdown(5)
    assert data
    names = [metric.name for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics]
    assert [name for name in names if name.startswith("http.client")] == []
    assert len(calls(receiver)) == 1
