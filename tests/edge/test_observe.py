"""The outermost layer of the app: ids on every response, one ended span per request, and whose `traceparent` counts."""

import ipaddress
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode, format_trace_id, get_current_span
from trio.testing import MockClock

from app.edge.observe import REQUEST, Observe
from telemetry.sampling import PeerSampler
from tests.standins import SpanCount, Watched, watched

DURATION = "http.server.request.duration"
HTTP = {"url.scheme": "http"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PROXY, STRANGER = "10.1.2.3", "203.0.113.9"
TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))

Inner = Callable[[Any, Any, Any], Awaitable[None]]


async def answering(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"ok", "more_body": False})


def answering_with(status: int, route: str | None = None) -> Inner:
    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        REQUEST.get().route = route
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return answer


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


@dataclass
class Sent:
    """What one request led to."""

    messages: list[Any]
    seen: Watched

    def header(self, name: bytes) -> str:
        (value,) = [value for key, value in self.messages[0]["headers"] if key == name]
        return str(value.decode("ascii"))

    def attributes(self) -> dict[str, Any]:
        (point,) = self.seen.points(DURATION)
        return dict(point.attributes or {})

    def span(self) -> ReadableSpan:
        assert self.seen.spans.open == {}
        (span,) = self.seen.spans.ended
        return span


class Edge:
    """An `Observe` around an app, and what its requests send."""

    def __init__(self, inner: Inner = answering, **options: Any) -> None:
        self.sent = Sent([], watched())
        tracer = options.pop("tracer", None) or self.sent.seen.tracers.get_tracer("test")
        self.app = Observe(inner, tracer, self.sent.seen.telemetry.instruments.http_duration, TRUSTED)

    async def request(
        self,
        *headers: tuple[bytes, bytes],
        method: str = "GET",
        path: str = "/x",
        client: Sequence[Any] | None = (STRANGER, 1),
    ) -> Sent:
        scope: Any = {"type": "http", "method": method, "scheme": "http", "path": path, "headers": list(headers)}
        scope["client"] = client
        await self.app(scope, receive, self.keep)
        return self.sent

    async def keep(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.messages.append(message)


def is_uuid(text: str) -> bool:
    return str(uuid.UUID(text)) == text


async def test_every_response_carries_both_ids(autojump_clock: MockClock) -> None:
    """Added to the app's own headers; the trace id is the span's, the request id a new one."""
    sent = await Edge().request()
    assert (b"x-own", b"1") in sent.messages[0]["headers"]
    assert is_uuid(sent.header(b"x-request-id"))
    context = sent.span().get_span_context()
    assert context is not None
    assert sent.header(b"x-trace-id") == format_trace_id(context.trace_id)
    assert sent.messages[1] == {"type": "http.response.body", "body": b"ok", "more_body": False}


@pytest.mark.parametrize("given", [b"abc-123", b"a", b"A.b_c:d/e+f=g", b"x" * 128])
async def test_a_decent_request_id_is_kept(given: bytes, autojump_clock: MockClock) -> None:
    """The caller's id comes back, so that both logs can be joined."""
    assert (await Edge().request((b"x-request-id", given))).header(b"x-request-id") == given.decode()


INJECTIONS = [
    b"", b" ", b"a b", b"a\r\nset-cookie: x=1", b"a\nb", b"a\n", b"a\x00", b"\xe3\x81\x82", b"\xff", b"x" * 129, b"a;b",
    b'"a"', b"<script>", b"a,b", b"{}", b"a\x7f",
]  # fmt: skip


@pytest.mark.parametrize("given", INJECTIONS, ids=repr)
async def test_any_other_request_id_is_replaced(given: bytes, autojump_clock: MockClock) -> None:
    """What could break a header or a log line, or is too long, never comes back."""
    assert is_uuid((await Edge().request((b"x-request-id", given))).header(b"x-request-id"))


async def test_the_app_sees_the_same_ids_and_span(autojump_clock: MockClock) -> None:
    """Inside, the request's facts and the current span are those of the response; after it, no span is current."""
    found = []

    async def looking(scope: Any, receive: Any, send: Any) -> None:
        facts = REQUEST.get()
        found.append((facts.request_id, facts.trace_id, get_current_span().get_span_context().trace_id))
        await answering(scope, receive, send)

    sent = await Edge(looking).request()
    ((request_id, trace_id, current),) = found
    assert (request_id, trace_id) == (sent.header(b"x-request-id"), sent.header(b"x-trace-id"))
    assert format_trace_id(current) == trace_id
    assert not get_current_span().get_span_context().is_valid


async def test_requests_do_not_share_their_facts(autojump_clock: MockClock) -> None:
    """Each request has ids of its own."""
    edge = Edge()
    await edge.request()
    await edge.request()
    starts = [message for message in edge.sent.messages if message["type"] == "http.response.start"]
    ids = {value for start in starts for name, value in start["headers"] if name in (b"x-request-id", b"x-trace-id")}
    assert len(ids) == 4


async def test_span_and_histogram_name_route_method_and_status(autojump_clock: MockClock) -> None:
    """The route, never the path, is the label, and the span's name has it."""
    sent = await Edge(answering_with(201, "/things/<id>")).request(method="POST")
    labels = {**HTTP, "http.request.method": "POST", "http.route": "/things/<id>", "http.response.status_code": 201}
    assert sent.attributes() == labels
    assert sent.span().name == "POST /things/<id>"
    assert sent.span().kind is SpanKind.SERVER
    assert dict(sent.span().attributes or {}) == {**labels, "url.path": "/things/<id>"}


async def test_an_unknown_address_has_no_route(autojump_clock: MockClock) -> None:
    """What no route matched is not labelled by its path: those are without number."""
    sent = await Edge(answering_with(404)).request()
    assert sent.attributes() == {**HTTP, "http.request.method": "GET", "http.response.status_code": 404}
    assert sent.span().name == "GET"
    assert sent.span().status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("path", ["/nowhere", "/a b\u00e9", "/\ud800", "/" + "x" * 1000])
async def test_a_path_of_no_route_is_not_shown(path: str, autojump_clock: MockClock) -> None:
    """What a stranger wrote as a path that no route matched is on no span."""
    sent = await Edge(answering_with(404)).request(path=path)
    assert "url.path" not in (sent.span().attributes or {})


@pytest.mark.parametrize(
    ("method", "label"),
    [("PATCH", "PATCH"), ("OPTIONS", "OPTIONS"), ("BREW", "_OTHER"), ("get", "_OTHER"), ("X" * 1000, "_OTHER")],
)
async def test_an_unknown_method_is_other(method: str, label: str, autojump_clock: MockClock) -> None:
    """A stranger cannot make up label values, and the span has nothing that they wrote."""
    sent = await Edge().request(method=method)
    assert sent.attributes()["http.request.method"] == label
    assert (sent.span().attributes or {})["http.request.method"] == label
    assert "http.request.method_original" not in (sent.span().attributes or {})


@pytest.mark.parametrize(("status", "error"), [(200, None), (404, None), (499, None), (500, "500"), (503, "503")])
async def test_our_errors_are_errors_and_the_callers_are_not(
    status: int, error: str | None, autojump_clock: MockClock
) -> None:
    """From 500 upwards the span has failed, and says with which status."""
    sent = await Edge(answering_with(status)).request()
    assert sent.attributes().get("error.type") == error
    assert sent.span().status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)


async def test_a_span_ends_once_when_the_app_fails(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """What an app fails with before it answers is a 500 that says nothing of it, logged once under its trace id."""

    async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
        raise KeyError("bug")

    sent = await Edge(failing).request()
    assert sent.span().status.status_code is StatusCode.ERROR
    assert sent.attributes() == {
        **HTTP,
        "http.request.method": "GET",
        "http.response.status_code": 500,
        "error.type": "500",
    }
    problem = json.loads(sent.messages[1]["body"])
    assert (problem["code"], problem["trace_id"]) == ("internal_error", sent.header(b"x-trace-id"))
    assert "bug" not in str(sent.messages)
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["trace_id"]) == ("request.failed", problem["trace_id"])


async def test_a_failure_within_an_answer_is_logged_and_ends_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What was begun is not begun again: the server sees no end of the answer, and closes."""

    async def failing_late(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("bug")

    sent = await Edge(failing_late).request()
    assert [message["type"] for message in sent.messages] == ["http.response.start"]
    assert [record.getMessage() for record in caplog.records] == ["request.failed"]


async def test_a_failure_beside_a_cancellation_is_logged_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged, the cancellation goes on, and nothing else does."""

    async def failing_in_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("bug")

    async def stalling(_scope: Any, _receive: Any, _send: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(failing_in_clean_up)

    edge = Edge(stalling)
    with trio.move_on_after(3) as client:
        await edge.request()
    assert client.cancelled_caught
    assert edge.sent.messages == []
    (record,) = caplog.records
    assert record.exc_info
    assert "bug" in repr(record.exc_info[1])


async def test_a_span_ends_once_when_the_client_leaves(autojump_clock: MockClock) -> None:
    """A cancelled request is `cancelled`, and no span stays open or current."""

    async def stalling(_scope: Any, _receive: Any, _send: Any) -> None:
        await trio.sleep_forever()

    edge = Edge(stalling)
    with trio.move_on_after(3) as client:
        await edge.request()
    assert client.cancelled_caught
    assert edge.sent.span().status.status_code is StatusCode.ERROR
    assert edge.sent.attributes() == {**HTTP, "http.request.method": "GET", "error.type": "cancelled"}
    assert not get_current_span().get_span_context().is_valid


async def test_a_client_that_leaves_in_mid_stream_leaves_one_ended_span(autojump_clock: MockClock) -> None:
    """The status was sent, so the request counts by it."""

    async def streaming(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await trio.sleep(1)

    edge = Edge(streaming)
    with trio.move_on_after(2.5):
        await edge.request()
    assert edge.sent.attributes() == {**HTTP, "http.request.method": "GET", "http.response.status_code": 200}
    assert edge.sent.span().name == "GET"


def peers(sampler: Sampler) -> tuple[Any, SpanCount]:
    provider = TracerProvider(sampler=PeerSampler(sampler), shutdown_on_exit=False)
    provider.add_span_processor(spans := SpanCount())
    return provider.get_tracer("test"), spans


FOLLOWS = [
    pytest.param(PROXY, ALWAYS_OFF, "01", True, id="a proxy can ask for sampling"),
    pytest.param(PROXY, ALWAYS_ON, "00", False, id="a proxy can ask for none"),
    pytest.param("fd00::1", ALWAYS_OFF, "01", True, id="a proxy on IPv6"),
    pytest.param(STRANGER, ALWAYS_OFF, "01", False, id="a stranger cannot force sampling"),
    pytest.param(STRANGER, ALWAYS_ON, "00", True, id="a stranger cannot switch it off"),
    pytest.param("fe80::1", ALWAYS_OFF, "01", False, id="a stranger on IPv6"),
    pytest.param("unix:", ALWAYS_OFF, "01", False, id="no address"),
    pytest.param("", ALWAYS_OFF, "01", False, id="an empty address"),
]


@pytest.mark.parametrize(("address", "root", "flags", "sampled"), FOLLOWS)
async def test_whose_sampled_flag_counts(
    address: str, root: Sampler, flags: str, sampled: bool, autojump_clock: MockClock
) -> None:
    """Everybody's trace id is joined; the flag is followed only from a trusted proxy."""
    tracer, spans = peers(ParentBased(root))
    traceparent = f"00-{TRACE}-b7ad6b7169203331-{flags}".encode()
    sent = await Edge(tracer=tracer).request((b"traceparent", traceparent), client=(address, 1))
    assert sent.header(b"x-trace-id") == TRACE
    assert len(spans.ended) == sampled
    for span in spans.ended:
        assert span.parent is not None
        assert format_trace_id(span.parent.trace_id) == TRACE


@pytest.mark.parametrize("client", [None, (), ("10.1.2.3.4", 1), (None, 1), (5, 1)])
async def test_a_client_without_an_address_is_a_stranger(
    client: Sequence[Any] | None, autojump_clock: MockClock
) -> None:
    """A server that cannot tell who is there trusts nobody."""
    tracer, spans = peers(ParentBased(ALWAYS_OFF))
    traceparent = f"00-{TRACE}-b7ad6b7169203331-01".encode()
    await Edge(tracer=tracer).request((b"traceparent", traceparent), client=client)
    assert spans.ended == []


BROKEN = [b"", b"00", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", b"ff-" + TRACE.encode() + b"-b7ad6b7169203331-01",
          b"00-xyz-b7ad6b7169203331-01", b"\xff\xfe", b"00-" + TRACE.encode() + b"-0000000000000000-01"]  # fmt: skip


@pytest.mark.parametrize("traceparent", BROKEN)
async def test_a_broken_traceparent_starts_a_new_trace(traceparent: bytes, autojump_clock: MockClock) -> None:
    """It joins nothing and breaks nothing."""
    trace_id = (await Edge().request((b"traceparent", traceparent))).header(b"x-trace-id")
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id)
    assert trace_id not in {"0" * 32, TRACE}


async def test_without_telemetry_the_trace_id_is_the_callers(autojump_clock: MockClock) -> None:
    """Switched off, the id still leads from the reply to whatever the caller knows."""
    tracer = NoOpTracerProvider().get_tracer("off")
    sent = await Edge(tracer=tracer).request((b"traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode()))
    assert sent.header(b"x-trace-id") == TRACE


async def test_without_telemetry_and_caller_the_trace_id_is_random(autojump_clock: MockClock) -> None:
    """Never all zeros, and never the same twice."""
    tracer = NoOpTracerProvider().get_tracer("off")
    ids = {(await Edge(tracer=tracer).request()).header(b"x-trace-id") for _ in range(5)}
    assert len(ids) == 5
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) and one != "0" * 32 for one in ids)


async def test_lifespan_passes_through(autojump_clock: MockClock) -> None:
    """Scope, receive and send are the server's own, and nothing is measured."""
    passed: list[Any] = []

    async def noting(*arguments: Any) -> None:
        passed.extend(arguments)

    edge = Edge(noting)
    scope: Any = {"type": "lifespan"}
    await edge.app(scope, receive, edge.keep)
    assert passed == [scope, receive, edge.keep]
    assert (edge.sent.seen.spans.ended, edge.sent.seen.points(DURATION)) == ([], [])
