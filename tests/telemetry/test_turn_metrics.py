"""What a turn leaves in the histograms: its overhead however it ended, its first token, the size of its history."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.clients.breaker import Breaker
from app.clients.ports import LogRow, ModelEnd, ModelRequest, OnText
from app.clients.resilient import ResilientModel
from app.edge.turn_feed import TurnEnd
from app.errors import ModelFault
from app.turn import TURN_IDS, Plan, TurnRequest
from telemetry import names
from telemetry.stage_clock import StageClock
from tests.standins import (
    TRACE_ID,
    House,
    MemoryDatabase,
    PacedModel,
    after,
    failing,
    never,
    open_house,
    question,
    watched,
)

CONVERSATION = uuid.UUID("6f2f8b0e-0000-4000-8000-000000000001")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def slow_database() -> MemoryDatabase:
    """Return one that takes 0.1 s for the history, and for each save."""
    return MemoryDatabase(before_history=after(0.1), before_write=[after(0.1), after(0.1)])


def fails_later() -> PacedModel:
    return PacedModel(pieces=[(after(1), "Half"), (after(2), ""), (failing(ModelFault("model_error")), "")])


# What the model does -> how the turn ends, its overhead and its whole: 0.1 s before the model and 0.1 s after it.
ENDINGS: dict[str, tuple[Callable[[], PacedModel], str, float, float]] = {
    "an answer": (lambda: PacedModel(pieces=[(after(3), "Yes.")]), "ok", 0.2, 3.2),
    "a failure half-way": (fails_later, "upstream_error", 0.2, 3.2),
    "silence": (lambda: PacedModel(pieces=[(never, "")]), "timeout", 0.2, 20.2),
    "a bug": (lambda: PacedModel(pieces=[(after(3), "Hm"), (failing(KeyError()), "")]), "internal_error", 0.2, 3.2),
}


@pytest.mark.parametrize(("model", "outcome", "overhead_s", "total_s"), ENDINGS.values(), ids=ENDINGS)
async def test_the_overhead_is_the_total_without_the_model(
    model: Callable[[], PacedModel], outcome: str, overhead_s: float, total_s: float, autojump_clock: MockClock
) -> None:
    """However the model's call ends, its whole time is left out, and nothing else is."""
    async with open_house(slow_database(), model()) as house:
        await house.ask(question())
    (overhead,), (total,) = house.seen.points(names.TURN_OVERHEAD), house.seen.points(names.TURN_DURATION)
    assert (overhead.attributes, overhead.count) == ({"plan": "concurrent", "outcome": outcome}, 1)
    assert overhead.sum == pytest.approx(overhead_s)
    assert total.sum == pytest.approx(total_s)


async def test_the_overhead_of_a_cancelled_turn_is_without_the_model_too(autojump_clock: MockClock) -> None:
    """A client that leaves in the middle of the model's call has waited for that: it is not our time."""
    async with open_house(slow_database(), PacedModel(pieces=[(after(1), "a"), (never, "")])) as house:
        with trio.move_on_after(5.1):
            await house.ask(question())
    (overhead,) = house.seen.points(names.TURN_OVERHEAD)
    assert overhead.attributes == {"plan": "concurrent", "outcome": "cancelled"}
    assert overhead.sum == pytest.approx(0.2)


@dataclass
class Stumbling(PacedModel):
    """Fails after a second as often as it is told to, and then answers after three."""

    failures: int = 2

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        self.failures -= 1
        fault = ModelFault("model_error")
        fault.ask_again = True
        self.pieces = [(after(1), ""), (failing(fault), "")] if self.failures >= 0 else [(after(3), "Yes.")]
        return await super().answer(request, on_text)


async def test_every_attempt_is_the_models_time(autojump_clock: MockClock) -> None:
    """Neither what was asked in vain nor the waits before it is asked again count as overhead."""
    model = ResilientModel(Stumbling(), Breaker("model"), wait_s=lambda _retry: 0.5)
    async with open_house(slow_database(), model) as house:
        await house.ask(question())
    (overhead,), (total,) = house.seen.points(names.TURN_OVERHEAD), house.seen.points(names.TURN_DURATION)
    assert overhead.sum == pytest.approx(0.2)
    assert total.sum == pytest.approx(0.2 + 1 + 0.5 + 1 + 0.5 + 3)


@pytest.mark.parametrize(("plan", "overhead_s"), [("concurrent", 0.2), ("sequential", 0.3)])
async def test_an_agents_reply_is_the_models_time(plan: Plan, overhead_s: float, autojump_clock: MockClock) -> None:
    """Also where the rules gave it in the end, after the model had failed."""
    model = PacedModel(pieces=[(after(3), ""), (failing(ModelFault("model_error")), "")])
    async with open_house(slow_database(), model, plan=plan) as house:
        await house.ask(question(feature="agent", surface="agent"))
    (overhead,) = house.seen.points(names.TURN_OVERHEAD)
    assert overhead.attributes == {"plan": plan, "outcome": "degraded"}
    assert overhead.sum == pytest.approx(overhead_s)


async def test_waiting_for_a_slot_is_overhead(autojump_clock: MockClock) -> None:
    """What a turn waits in our own queue is not the model's time."""
    model = PacedModel(pieces=[(after(4), "Yes.")])
    async with open_house(model=model, slots=1) as house, trio.open_nursery() as asking:
        for _ in range(2):
            asking.start_soon(house.ask, question())
    (overhead,) = house.seen.points(names.TURN_OVERHEAD)
    assert overhead.count == 2
    assert overhead.sum == pytest.approx(4)


async def test_a_turn_refused_at_the_door_has_a_sample_of_its_own_outcome(autojump_clock: MockClock) -> None:
    """It took no time to speak of, so a rate of slow turns must not count it: its label says so."""
    async with open_house(model_ready=lambda: False) as house:
        await house.ask(question())
    (overhead,), (total,) = house.seen.points(names.TURN_OVERHEAD), house.seen.points(names.TURN_DURATION)
    assert overhead.attributes == {"plan": "concurrent", "outcome": "shed"}
    assert overhead.sum == total.sum == 0
    assert house.seen.points(names.HISTORY_SIZE) == []


async def streamed(house: House, request: TurnRequest) -> TurnEnd:
    turn = house.turns.begin(request, TRACE_ID)
    await turn.feed.until_over()
    turn.leave()
    assert turn.feed.end
    return turn.feed.end


async def test_a_streamed_turns_first_token_is_recorded(autojump_clock: MockClock) -> None:
    """One sample a turn, from the turn's start, the very figure of its metadata, with its trace as an exemplar."""
    seen = watched(new_clock=StageClock)
    async with open_house(model=PacedModel(pieces=[(after(1), "Yes."), (after(1), " No.")]), seen=seen) as house:
        end = await streamed(house, question())
        (point,) = seen.points(names.TURN_FIRST_TOKEN)
    assert (point.count, point.sum) == (1, end.clock.first_token()[names.FIRST_TOKEN_KEY])
    assert set(point.attributes or {}) == {"plan", "surface"}
    span = seen.spans.named(names.TURN).get_span_context()
    assert span is not None
    assert [exemplar.trace_id for exemplar in point.exemplars] == [span.trace_id]


async def test_only_streamed_turns_that_came_so_far_have_a_first_token(autojump_clock: MockClock) -> None:
    """Who is answered as a whole sees no first token; nor does a stream whose model fails before it."""
    async with open_house() as house:
        await house.ask(question())
        assert house.seen.points(names.TURN_FIRST_TOKEN) == []
    async with open_house(model=PacedModel(pieces=[(failing(ModelFault("model_error")), "")])) as house:
        await streamed(house, question())
        assert house.seen.points(names.TURN_FIRST_TOKEN) == []


async def test_a_stream_that_breaks_off_later_has_its_first_token(autojump_clock: MockClock) -> None:
    """What came was seen, whatever became of the rest."""
    async with open_house(model=fails_later()) as house:
        await streamed(house, question())
    (point,) = house.seen.points(names.TURN_FIRST_TOKEN)
    assert point.sum == pytest.approx(1)


def stored(*texts: str) -> MemoryDatabase:
    """Return a database where these have been said in turns on the page `general`."""
    rows = [
        LogRow(
            turn_id=uuid.uuid5(TURN_IDS, str(number // 2)),
            sender="assistant" if number % 2 else "user",
            user_id="u1",
            conversation_id=CONVERSATION,
            page="general",
            message=text,
            context_data={},
            created_at=NOON + timedelta(seconds=number),
        )
        for number, text in enumerate(texts)
    ]
    known: dict[str, Any] = {"rows": {row.key: row for row in rows}}
    return MemoryDatabase(conversations={CONVERSATION: ("u1", "general")}, **known)


@pytest.mark.parametrize(
    ("texts", "size"),
    [((), 0), (("Why?", "Because."), 12), (("なぜ?", "é"), 9), (("half \ud83d", "whole \U0001f600"), 18)],
    ids=["new", "ASCII", "Japanese", "surrogates"],
)
async def test_the_size_of_a_history_is_its_text_in_bytes(
    texts: tuple[str, ...], size: int, autojump_clock: MockClock
) -> None:
    """A turn's history is one sample: what its messages' texts are in UTF-8, without the question that is asked."""
    async with open_house(stored(*texts)) as house:
        await house.ask(question())
    (point,) = house.seen.points(names.HISTORY_SIZE)
    assert (point.count, point.sum, point.attributes) == (1, size, {})


async def test_a_history_that_could_not_be_read_has_no_size(autojump_clock: MockClock) -> None:
    """A database that does not answer says nothing of histories."""
    async with open_house(MemoryDatabase(before_history=never)) as house:
        await house.ask(question())
    assert house.seen.points(names.HISTORY_SIZE) == []
