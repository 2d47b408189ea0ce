"""The delivery's rounds and the spans they have, and what the rows of a turn say of its span; on virtual time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from opentelemetry.trace import INVALID_SPAN, Span, get_current_span
from trio.testing import MockClock, wait_all_tasks_blocked

from app.clients.ports import LogRow
from app.save.outbox_delivery import OutboxDelivery
from app.save.outbox_values import OutboxError
from telemetry.replay_trace import ReplayTelemetry
from tests.save.keeper import MemoryKeeper
from tests.save.outbox_rows import turn_rows
from tests.save.outbox_standins import RULES, JudgingDatabase, MemoryOutbox, fault, highest, refusing
from tests.standins import MemoryDatabase, Watched, failing, open_house, question, watched

REPLAY = "outbox.replay"


def filled(*turns: int) -> MemoryOutbox:
    """Return an outbox with turns whose spans have their numbers."""
    outbox = MemoryOutbox()
    for turn in turns:
        outbox.put(*turn_rows(turn, context_data={"trace_id": f"{turn:032x}", "span_id": f"{turn:016x}"}))
    return outbox


@dataclass
class Witness(MemoryOutbox):
    """An outbox that notes which span is current for those who wait for it."""

    waited_in: list[Span] = field(default_factory=list)

    async def wait_for_work(self) -> None:
        self.waited_in.append(get_current_span())
        await super().wait_for_work()

    async def wait_for_nudge(self) -> None:
        self.waited_in.append(get_current_span())
        await super().wait_for_nudge()


@asynccontextmanager
async def delivering(
    outbox: MemoryOutbox, database: MemoryDatabase, seen: Watched, told: list[tuple[str, int]] | None = None
) -> AsyncIterator[trio.CancelScope]:
    heard = told if told is not None else []
    delivery = OutboxDelivery(
        outbox, database, RULES, jitter=highest,
        told=lambda outcome, entries: heard.append((outcome, entries)),
        telemetry=ReplayTelemetry(seen.telemetry.tracer),
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivery.run)
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel()


def rounds(seen: Watched) -> list[tuple[int, int, int, int, Any]]:
    """Return rows, delivered, set aside, failed and error of the rounds so far; each is a trace of its own."""
    assert {span.name for span in seen.spans.ended} <= {REPLAY}
    assert all(span.parent is None for span in seen.spans.ended)
    assert len({span.context.trace_id for span in seen.spans.ended if span.context}) == len(seen.spans.ended)
    keys = ("outbox.rows", "outbox.delivered", "outbox.set_aside", "outbox.failed")
    return [
        (*(int((span.attributes or {})[key]) for key in keys), (span.attributes or {}).get("error.type"))  # type: ignore[arg-type, misc]  # four numbers
        for span in seen.spans.ended
    ]


def links(seen: Watched) -> list[list[int]]:
    return [[link.context.span_id for link in span.links] for span in seen.spans.ended]


async def test_every_round_is_a_trace_with_links_to_its_turns(autojump_clock: MockClock) -> None:
    """Three batches, three traces; each is linked to the turns whose rows it carries, and to no others."""
    seen = watched()
    async with delivering(filled(*range(1, 8)), JudgingDatabase(), seen):
        await wait_all_tasks_blocked()
    assert links(seen) == [[1, 2, 3], [4, 5, 6], [7]]
    assert rounds(seen) == [(6, 6, 0, 0, None), (6, 6, 0, 0, None), (2, 2, 0, 0, None)]


async def test_spans_count_what_the_metric_counts(autojump_clock: MockClock) -> None:
    """A turn that is set aside, a round that fails, one that does not: the spans add up to what was told."""
    seen, outbox, told = watched(), filled(1, 2), list[tuple[str, int]]()
    database = JudgingDatabase(verdict=refusing("22P05", "assistant 1"))
    async with delivering(outbox, database, seen, told):
        await wait_all_tasks_blocked()
        database.verdict = lambda rows: fault("ConnectError")
        outbox.put(*turn_rows(3))
        await wait_all_tasks_blocked()
        database.verdict = lambda rows: None
        await trio.sleep(1)
    assert rounds(seen) == [(4, 2, 2, 0, None), (2, 0, 0, 2, "ConnectError"), (2, 2, 0, 0, None)]
    assert told == [("delivered", 2), ("set_aside", 2), ("failed", 2), ("delivered", 2)]
    assert links(seen) == [[1, 2], [], []]


async def test_waiting_is_inside_no_span(autojump_clock: MockClock) -> None:
    """While nothing is to be done, and while the delivery backs off, no span is open, and none is current."""
    seen, outbox = watched(), Witness()
    database = JudgingDatabase(verdict=lambda rows: fault("ConnectError"))
    async with delivering(outbox, database, seen):
        await wait_all_tasks_blocked()
        assert seen.spans.open == {}
        outbox.put(*turn_rows(1))
        for _ in range(5):
            await wait_all_tasks_blocked()
            assert seen.spans.open == {}
            await trio.sleep(1)
    assert len(outbox.waited_in) > 5
    assert set(outbox.waited_in) == {INVALID_SPAN}
    assert {error for *_, error in rounds(seen)} == {"ConnectError"}


async def test_the_database_is_asked_inside_the_rounds_span(autojump_clock: MockClock) -> None:
    """Whatever a round asks of the database, it asks while its span is current, so that the calls lie under it."""
    seen, asked_in = watched(), list[Span]()

    class Noting(JudgingDatabase):
        async def ensure_conversation(self, *args: Any) -> Any:
            asked_in.append(get_current_span())
            return await super().ensure_conversation(*args)

        async def write_rows(self, rows: Sequence[LogRow]) -> Any:
            asked_in.append(get_current_span())
            return await super().write_rows(rows)

    outbox = MemoryOutbox()
    outbox.put(*turn_rows(1), title="t")
    async with delivering(outbox, Noting(), seen):
        await wait_all_tasks_blocked()
    (replay,) = seen.spans.ended
    assert [span.get_span_context() for span in asked_in] == [replay.context] * 2


async def test_a_file_that_fails_is_why_a_round_failed(autojump_clock: MockClock) -> None:
    """Delivered, and yet not known to be: nothing is counted, the next round counts it."""
    seen, outbox = watched(), filled(1)
    outbox.fails.append(OutboxError("sqlite_full", "the disk is full"))
    async with delivering(outbox, JudgingDatabase(), seen):
        await trio.sleep(1)
    assert rounds(seen) == [(2, 0, 0, 0, "sqlite_full"), (2, 2, 0, 0, None)]


async def test_a_bug_of_ours_is_called_internal(autojump_clock: MockClock) -> None:
    """What nobody foresaw has one name, and its text is on no span."""
    seen = watched()
    database = JudgingDatabase(verdict=lambda rows: KeyError("secret"))
    async with delivering(filled(1), database, seen):
        await wait_all_tasks_blocked()
    assert rounds(seen) == [(2, 0, 0, 2, "internal")]
    assert "secret" not in seen.spans.ended[0].to_json()


@pytest.mark.parametrize("steps", range(6))
async def test_a_round_that_is_cancelled_ends_its_span_once(steps: int, autojump_clock: MockClock) -> None:
    """Cut off at any checkpoint of a round: every span that began has ended."""
    seen = watched()
    async with delivering(filled(1), JudgingDatabase(), seen) as scope:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()
    assert seen.spans.open == {}
    assert {error for *_, error in rounds(seen)} <= {"cancelled", None}


async def test_a_stalled_round_that_is_cancelled_says_so(autojump_clock: MockClock) -> None:
    """The server ends while the database does not answer: the round's span says `cancelled`."""
    seen, database = watched(), JudgingDatabase()

    async def stall(rows: Sequence[LogRow]) -> Any:
        await trio.sleep_forever()

    database.write_rows = stall  # type: ignore[method-assign]
    async with delivering(filled(1), database, seen) as scope:
        await wait_all_tasks_blocked()
        assert list(seen.spans.open.values()) == [REPLAY]
        scope.cancel()
    assert (seen.spans.open, rounds(seen)) == ({}, [(2, 0, 0, 0, "cancelled")])


@pytest.mark.parametrize("sampled", [True, False])
async def test_rows_lead_to_their_turns_span_where_there_is_one(sampled: bool, autojump_clock: MockClock) -> None:
    """Both rows name the span `chat.turn`; those of a turn that is not sampled name its trace alone."""
    seen, keeper = watched(sampled=sampled), MemoryKeeper()
    database = MemoryDatabase(before_write=[failing(fault("ConnectError"))] * 9)
    async with open_house(database, outbox=keeper, seen=seen) as house:
        await house.ask(question())
    contexts = [entry.row.context_data for entry in keeper.index.entries(9)]
    assert len(contexts) == 2
    assert all(context["trace_id"] == seen.facts[0].trace_id for context in contexts)
    if not sampled:
        assert not any("span_id" in context for context in contexts)
        return
    turn = seen.spans.named("chat.turn").context
    assert turn is not None
    assert {context["span_id"] for context in contexts} == {f"{turn.span_id:016x}"}
