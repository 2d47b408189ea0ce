"""The trace of a delivery's round: of its own, linked to the turns whose rows it carries, and ended once."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import INVALID_SPAN, NoOpTracer, SpanKind, StatusCode, get_current_span

from telemetry.http_client import traced_transport
from telemetry.replay_trace import MAX_LINKS, ReplayTelemetry, links_to_turns
from tests.standins import Watched, watched

REPLAY = "outbox.replay"


@dataclass(frozen=True)
class Row:
    """A row of turn `number`, whose span has that number."""

    number: int
    context_data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def turn_id(self) -> uuid.UUID:
        return uuid.UUID(int=self.number)


def row(number: int) -> Row:
    return Row(number, {"trace_id": f"{number + 1000:032x}", "span_id": f"{number:016x}", "finish": "stop"})


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def replays(seen: Watched) -> ReplayTelemetry:
    return ReplayTelemetry(seen.telemetry.tracer)


def test_it_is_a_trace_of_its_own() -> None:
    """Whatever span is current, the round's is a root, INTERNAL, of a new trace, and nothing else is taken over."""
    seen = watched()
    with seen.telemetry.tracer.start_as_current_span("elsewhere") as outside:
        token = attach(baggage.set_baggage("from", "elsewhere"))
        with replays(seen).replay([row(1)]):
            inside = get_current_span().get_span_context()
            assert baggage.get_all() == {}
        assert get_current_span() is outside
        detach(token)
    span = seen.spans.named(REPLAY)
    assert span.context == inside
    assert (span.parent, span.kind) == (None, SpanKind.INTERNAL)
    assert inside.trace_id != outside.get_span_context().trace_id


def test_it_is_linked_to_each_turn_once() -> None:
    """The turns' spans, in the order of their rows, each with the turn's id."""
    seen = watched()
    with replays(seen).replay([row(2), row(2), row(1), row(2)]):
        pass
    span = seen.spans.named(REPLAY)
    assert linked(span) == [(1002, 2), (1001, 1)]
    assert [dict(link.attributes or {}) for link in span.links] == [
        {"chat.turn.id": str(uuid.UUID(int=number))} for number in (2, 1)
    ]
    assert all(link.context.trace_flags.sampled and link.context.is_remote for link in span.links)


def test_a_turn_that_was_asked_twice_has_two_spans() -> None:
    """Question and answer of one turn may come from two goes at it: both are linked."""
    first, second = row(1), Row(1, row(9).context_data)
    assert [link.context.span_id for link in links_to_turns([first, second])] == [1, 9]


WHOLE = row(1).context_data


@pytest.mark.parametrize(
    "changes",
    [
        {"span_id": None},
        {"span_id": "0" * 16},
        {"span_id": "1"},
        {"span_id": "00f067aa0ba902b7 "},
        {"span_id": "00F067AA0BA902B7"},
        {"span_id": 1},
        {"trace_id": None},
        {"trace_id": "0" * 32},
        {"trace_id": "0x" + "1" * 30},
        {"trace_id": ["1"]},
    ],
    ids=str,
)
def test_a_row_that_names_no_span_is_carried_without_a_link(changes: dict[str, Any]) -> None:
    """Older rows have no span's id, and what is in the file may be anything; the others are linked all the same."""
    odd = Row(7, {key: value for key, value in {**WHOLE, **changes}.items() if value is not None})
    assert [link.context.span_id for link in links_to_turns([Row(8), odd, row(1)])] == [1]


def test_links_are_bounded() -> None:
    """Of more turns than a span may have links, the first ones are linked, and none is dropped by the SDK."""
    seen = watched()
    with replays(seen).replay([row(number) for number in range(1, 300)]):
        pass
    span = seen.spans.named(REPLAY)
    assert [span_id for _, span_id in linked(span)] == list(range(1, MAX_LINKS + 1))
    assert span.dropped_links == 0


def test_it_says_what_became_of_the_rows() -> None:
    """How many it carried and how many came to which outcome, zeros included; what went well is no error."""
    seen = watched()
    with replays(seen).replay([row(number) for number in range(6)]) as trace:
        trace.count("delivered", 2)
        trace.count("delivered", 1)
        trace.count("set_aside", 2)
    span = seen.spans.named(REPLAY)
    assert dict(span.attributes or {}) == {
        "outbox.rows": 6, "outbox.delivered": 3, "outbox.set_aside": 2, "outbox.failed": 0,
    }  # fmt: skip
    assert span.status.status_code is StatusCode.UNSET


class Silence(Exception):
    """What a wait is cut off by: nothing that telemetry knows."""


@pytest.mark.parametrize("how", ["told", "bug", "cancelled", "cancelled in a group"])
async def test_it_ends_once_and_says_why(how: str) -> None:
    """Told of a failure, broken off by a bug or by a cancellation: one span, ended, with an `error.type` it knows."""
    seen = watched()
    with trio.CancelScope() as scope:
        try:
            with replays(seen).replay([row(1)]) as trace:
                trace.count("failed", 1)
                await end(how, trace.fail, scope)
        except Silence:
            pass
    span = seen.spans.named(REPLAY)
    assert seen.spans.open == {}
    assert span.attributes is not None
    expected = {"told": "XX000", "bug": "internal"}.get(how, "cancelled")
    assert (span.attributes["error.type"], span.attributes["outbox.failed"]) == (expected, 1)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, expected)
    assert (span.events, get_current_span()) == ((), INVALID_SPAN)


async def end(how: str, fail: Any, scope: trio.CancelScope) -> None:
    if how == "told":
        fail("XX000")
        return
    if how == "bug":
        raise Silence("with a secret in it")
    scope.cancel()
    if how == "cancelled":
        await trio.sleep_forever()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(trio.sleep_forever)


@pytest.mark.parametrize("sampled", [True, False])
async def test_its_calls_lie_under_it_or_go_unseen(sampled: bool) -> None:
    """A call of a sampled round has a span under the round's; of another one, it goes around the instrumentor."""
    seen, heard = watched(sampled=sampled), list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        return httpx.Response(201)

    transport = traced_transport(httpx.MockTransport(answer), tracer_provider=seen.tracers, send_traceparent=True)
    async with httpx.AsyncClient(transport=transport) as client:
        with replays(seen).replay([row(1)]) as trace:
            await client.post("http://database.test/rest/v1/chat_logs?on_conflict=x")
            trace.fail("XX000")
    assert ("traceparent" in heard[0].headers) is sampled
    if not sampled:
        assert seen.spans.ended == []
        return
    call, replay = seen.spans.ended
    assert (call.name, replay.name) == ("POST", REPLAY)
    assert call.parent == replay.context


def test_telemetry_that_is_off_costs_nothing_but_a_look() -> None:
    """Without a tracer, a round goes on, and nothing is current in it, whatever is outside."""
    seen = watched()
    for telemetry in (ReplayTelemetry(), ReplayTelemetry(NoOpTracer())):
        with seen.telemetry.tracer.start_as_current_span("elsewhere"), telemetry.replay([row(1)]) as trace:
            trace.count("delivered", 1)
            trace.fail("XX000")
            assert not get_current_span().get_span_context().is_valid
    assert seen.spans.names() == {"elsewhere"}
