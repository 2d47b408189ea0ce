"""One clock: spans, metrics and the reply tell the same figures; every span ends exactly once, whatever happens."""

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from trio.testing import MockClock

from app.errors import DatabaseFault, ModelFault
from telemetry import names
from telemetry.stage_clock import StageClock
from tests.standins import (
    Before,
    MemoryDatabase,
    PacedModel,
    Watched,
    after,
    at_once,
    failing,
    never,
    open_house,
    question,
    watched,
)

STAGE_SPANS = {
    "db_fetch": names.DB_FETCH,
    "fetch.conversation": names.FETCH_CONVERSATION,
    "fetch.project": names.FETCH_PROJECT,
    "llm.queue": names.LLM_QUEUE,
    "chat paced": names.LLM,
    "save.user": names.SAVE_USER,
    "db_save": names.DB_SAVE,
}


def length_ns(span: ReadableSpan) -> int:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.end_time - span.start_time


def stage_sums(seen: Watched) -> dict[str, float]:
    return {str((point.attributes or {})["stage"]): point.sum for point in seen.points(names.STAGE_DURATION)}


async def test_spans_metrics_and_reply_agree_to_the_nanosecond() -> None:
    """On the real clock, each stage's span, histogram and `performance_metrics` are one figure."""
    seen = watched(new_clock=StageClock)
    async with open_house(seen=seen) as house:
        end = await house.ask(question(page_id="project-1"))
    metrics = end.clock.performance_metrics()
    recorded = stage_sums(seen)
    for span_name, stage in STAGE_SPANS.items():
        span_s = length_ns(seen.spans.named(span_name)) / 1e9
        assert span_s == recorded[stage] == end.clock.seconds(stage)
        if stage in names.PERFORMANCE_KEYS:
            assert metrics[names.PERFORMANCE_KEYS[stage]] == span_s
    (turn,) = seen.points(names.TURN_DURATION)
    assert length_ns(seen.spans.named(names.TURN)) / 1e9 == turn.sum == metrics["total_time"]
    assert seen.facts[0].timings == metrics


async def test_an_unsampled_turn_has_its_metrics() -> None:
    """Without a sampled trace no span is kept, and every figure is still there."""
    seen = watched(sampled=False, new_clock=StageClock)
    async with open_house(seen=seen) as house:
        end = await house.ask(question())
    assert seen.spans.ended == []
    assert set(stage_sums(seen)) == set(STAGE_SPANS.values()) - {names.FETCH_PROJECT}
    assert stage_sums(seen)[names.LLM] == end.clock.seconds(names.LLM) > 0
    assert seen.facts[0].timings["total_time"] > 0


async def test_the_save_begins_where_the_model_ended(autojump_clock: MockClock) -> None:
    """`db_save` starts at the very reading that ended the model's call."""
    async with open_house() as house:
        end = await house.ask(question())
    assert end.clock.readings[names.DB_SAVE].start_ns == end.clock.readings[names.LLM].end_ns


DOWN = DatabaseFault("database_unavailable", "down", error_type="ConnectError")
ENDINGS: list[tuple[str, Before, Before, str]] = [
    ("success", at_once, at_once, "ok"),
    ("database down", failing(DOWN), at_once, "upstream_error"),
    ("model error", at_once, failing(ModelFault("model_error", error_type="http_500")), "upstream_error"),
    ("model stalls", at_once, never, "timeout"),
    ("bug", at_once, failing(KeyError("bug")), "internal_error"),
]


@pytest.mark.parametrize(("history", "model", "outcome"), [e[1:] for e in ENDINGS], ids=[e[0] for e in ENDINGS])
async def test_every_span_ends_once(history: Before, model: Before, outcome: str, autojump_clock: MockClock) -> None:
    """However a turn ends, each started span ends exactly once (the processor checks), with the turn's outcome."""
    async with open_house(MemoryDatabase(before_history=history), PacedModel(pieces=[(model, "Yes.")])) as house:
        await house.ask(question())
    spans = house.seen.spans
    assert spans.open == {}
    turn = spans.named(names.TURN)
    assert turn.attributes is not None
    assert turn.attributes["chat.outcome"] == outcome == house.seen.facts[0].outcome
    assert (turn.status.status_code is StatusCode.ERROR) == (outcome != "ok")


async def test_every_span_ends_once_when_cancelled(autojump_clock: MockClock) -> None:
    """A cancelled turn leaves no span open either."""
    async with open_house(model=PacedModel(pieces=[(after(1), "a"), (never, "")])) as house:
        with trio.move_on_after(2):
            await house.ask(question())
    assert house.seen.spans.open == {}
    assert {"chat.turn", "chat paced", "db_save"} <= house.seen.spans.names()


async def test_spans_nest_as_documented(autojump_clock: MockClock) -> None:
    """Fetches lie under `db_fetch`; all stages lie under `chat.turn`; all are one trace."""
    async with open_house() as house:
        await house.ask(question(page_id="project-1"))
    spans = {span.name: span for span in house.seen.spans.ended}
    parents = {
        name: next((other.name for other in spans.values() if span.parent and other.context == span.parent), None)
        for name, span in spans.items()
    }
    assert parents == {
        "chat.turn": None,
        "db_fetch": "chat.turn",
        "fetch.conversation": "db_fetch",
        "fetch.project": "db_fetch",
        "llm.queue": "chat.turn",
        "chat paced": "chat.turn",
        "save.user": "chat.turn",
        "db_save": "chat.turn",
    }


async def test_every_span_carries_the_conversation_and_the_hashed_user(autojump_clock: MockClock) -> None:
    """Also spans that ended before the conversation was known carry its id; the user is a keyed hash."""
    async with open_house() as house:
        end = await house.ask(question(page_id="project-1"))
    conversation = house.seen.facts[0].conversation_id
    assert conversation is not None
    for span in house.seen.spans.ended:
        attributes = dict(span.attributes or {})
        assert attributes["session.id"] == attributes["gen_ai.conversation.id"] == conversation, span.name
        assert attributes["user.id"] not in ("u1", None)
        assert len(str(attributes["user.id"])) == 16
    assert end.clock.readings


async def test_the_model_span_follows_the_genai_conventions(autojump_clock: MockClock) -> None:
    """The model's span says who was asked for what, what came, and when the first chunk did."""
    async with open_house(model=PacedModel(pieces=[(after(0.25), "Yes.")])) as house:
        await house.ask(question())
    span = house.seen.spans.named("chat paced")
    assert span.kind.name == "CLIENT"
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "test",
        "gen_ai.request.model": "paced",
        "gen_ai.request.max_tokens": 800,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "paced-1",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": pytest.approx(0.25),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "model.test",
        "server.port": 443,
    }
    attributes = dict(span.attributes or {})
    assert {name: attributes.get(name) for name in wanted} == wanted
    assert [event.name for event in span.events] == ["first_chunk"]


async def test_a_clock_set_back_makes_no_duration_negative() -> None:
    """The time of day is read once; a monotonic clock that repeats itself gives zero, never less."""
    readings = iter([1000, 900, 800, 700])
    clock = StageClock(lambda: next(readings), lambda: 5)
    assert clock.close("stage", clock.now()).seconds == 0.0


async def test_exemplars_lead_to_the_turn(autojump_clock: MockClock) -> None:
    """The duration histograms' exemplars carry the trace id of the turn that was recorded."""
    async with open_house() as house:
        await house.ask(question())
    trace_id = house.seen.spans.named(names.TURN).get_span_context()
    assert trace_id is not None
    (point,) = house.seen.points(names.TURN_DURATION)
    assert [exemplar.trace_id for exemplar in point.exemplars] == [trace_id.trace_id]
