"""The delivery's rules, on virtual time: bulk and order, what is set aside, what is sent again."""

import uuid
from collections.abc import Collection, Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.clients.ports import LogRow, RowKey
from app.save.outbox_delivery import OutboxDelivery
from app.save.outbox_rules import DeliveryRules
from tests.save.outbox_rows import log_row, turn_rows
from tests.save.outbox_standins import (
    JudgingDatabase,
    MemoryOutbox,
    both,
    delivering,
    fault,
    filled,
    highest,
    reasons,
    refusing,
)


async def test_everything_goes_in_bulk_oldest_first(autojump_clock: MockClock) -> None:
    """Full batches, in the order of the queue, as one request each; nothing is left."""
    outbox, database, told = filled(*range(7)), JudgingDatabase(), list[tuple[str, int]]()
    async with delivering(outbox, database, told):
        await wait_all_tasks_blocked()
    assert database.sent == [both(0, 1, 2), both(3, 4, 5), both(6)]
    assert trio.current_time() == pytest.approx(database.at[0]), "and without a wait"
    assert len(outbox.index) == 0
    assert told == [("delivered", 6), ("delivered", 6), ("delivered", 2)]


async def test_a_healthy_delivery_wakes_at_once(autojump_clock: MockClock) -> None:
    """A row that is put while the outbox is empty goes at the same instant."""
    outbox, database = MemoryOutbox(), JudgingDatabase()
    async with delivering(outbox, database):
        for turn in (1, 2):
            await trio.sleep(100)
            outbox.put(*turn_rows(turn))
            await wait_all_tasks_blocked()
            assert database.at[-1] == trio.current_time()
    assert database.sent == [both(1), both(2)]


@pytest.mark.parametrize("error_type", ["22P05", "22001", "23503", "23514", "23502"])
async def test_a_bad_row_sets_its_whole_turn_aside(error_type: str, autojump_clock: MockClock) -> None:
    """A refused bulk goes row by row; the turn of the bad one is set aside with its reason, the rest is delivered."""
    outbox, database = filled(1, 2, 3), JudgingDatabase(verdict=refusing(error_type, "assistant 2"))
    told: list[tuple[str, int]] = []
    async with delivering(outbox, database, told):
        await wait_all_tasks_blocked()
    assert database.sent == [both(1, 2, 3), *([name] for name in both(1, 2, 3))]
    assert reasons(outbox) == {"user 2": error_type, "assistant 2": error_type}
    assert database.stored_names() == ["user 1", "assistant 1", "user 2", "user 3", "assistant 3"]
    assert outbox.paused is None
    assert sorted(told) == [("delivered", 4), ("set_aside", 2)]


async def test_a_bad_question_takes_its_answer_with_it(autojump_clock: MockClock) -> None:
    """The rest of a turn that was set aside is not even tried."""
    outbox, database = filled(1, 2), JudgingDatabase(verdict=refusing("22P05", "user 1"))
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert database.sent == [both(1, 2), ["user 1"], ["user 2"], ["assistant 2"]]
    assert reasons(outbox) == {"user 1": "22P05", "assistant 1": "22P05"}


async def test_a_bad_row_alone_is_not_sent_twice(autojump_clock: MockClock) -> None:
    """What was refused by itself needs no second proof."""
    outbox, database = MemoryOutbox(), JudgingDatabase(verdict=refusing("22P05", "user 1"))
    outbox.put(log_row(1))
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert database.sent == [["user 1"]]
    assert reasons(outbox) == {"user 1": "22P05"}


async def test_what_cannot_be_said_on_the_wire_is_the_rows_fault(autojump_clock: MockClock) -> None:
    """Half a surrogate pair has no UTF-8: the client raises, and only that turn is set aside."""
    outbox, database = filled(1, 2), JudgingDatabase()
    outbox.put(log_row(3, message="\ud83c"))
    database.verdict = lambda rows: next((encoding(row) for row in rows if encoding(row)), None)
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert reasons(outbox) == {"\ud83c": "UnicodeEncodeError"}
    assert database.stored_names() == both(1, 2)


def encoding(row: LogRow) -> UnicodeEncodeError | None:
    try:
        row.message.encode()
    except UnicodeEncodeError as error:
        return error
    return None


async def test_a_key_that_is_taken_by_the_row_itself_is_delivered(autojump_clock: MockClock) -> None:
    """23505 is looked into: the row is there, so it leaves the outbox."""
    outbox, database = filled(1, 2), JudgingDatabase(verdict=refusing("23505", "assistant 1"))
    database.conversations[uuid.UUID(int=0)] = ("ann", "page-0")
    reply = turn_rows(1)[1]
    database.rows[reply.turn_id, "assistant"] = reply
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert len(outbox.index) == 0
    assert sorted(database.stored_names()) == sorted(both(1, 2))


async def test_a_key_that_is_taken_by_something_else_is_no_delivery(autojump_clock: MockClock) -> None:
    """A unique key of the deployment's own, or a counter that is behind: the row is not there, and is kept."""
    outbox, database = filled(1, 2), JudgingDatabase(verdict=refusing("23505", "assistant 1"))
    database.conversations[uuid.UUID(int=0)] = ("ann", "page-0")
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert reasons(outbox) == {"user 1": "23505", "assistant 1": "23505"}


async def test_a_request_that_is_too_large_goes_in_pieces(autojump_clock: MockClock) -> None:
    """A gateway with a lower bound than ours: row by row it passes."""
    outbox = filled(1, 2)
    database = JudgingDatabase(verdict=lambda rows: fault("http_413") if len(rows) > 1 else None)
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
        assert database.stored_names() == both(1, 2)


@pytest.mark.parametrize("others", [(), (2, 3)])
async def test_a_row_that_is_too_large_by_itself_sets_its_turn_aside(
    others: tuple[int, ...], autojump_clock: MockClock
) -> None:
    """No waiting makes it smaller, and everybody else's rows need not wait for it."""
    outbox, database = filled(1, *others), JudgingDatabase(verdict=refusing("http_413", "user 1"))
    async with delivering(outbox, database):
        await wait_all_tasks_blocked()
    assert database.stored_names() == both(*others)
    assert reasons(outbox) == dict.fromkeys(both(1), "http_413")
    assert outbox.paused is None


async def test_what_was_written_but_not_acknowledged_is_written_once(autojump_clock: MockClock) -> None:
    """The answer is lost after the write: it is sent again, and is there once."""
    outbox, database = filled(1), JudgingDatabase()
    lost = [True]

    async def write_then_fail(rows: Sequence[LogRow]) -> Collection[RowKey]:
        taken = await JudgingDatabase.write_rows(database, rows)
        if lost:
            lost.clear()
            raise fault("ReadTimeout")
        return taken

    database.write_rows = write_then_fail  # type: ignore[method-assign]
    async with delivering(outbox, database):
        await trio.sleep(1)
    assert database.sent == [both(1), both(1)]
    assert database.stored_names() == both(1)


async def test_cancelled_at_any_moment_it_forgets_nothing(autojump_clock: MockClock) -> None:
    """Cut off before, in and after the write, a new delivery goes on, and every row is there once."""
    database = JudgingDatabase()
    outbox = filled(*range(30))
    for moment in range(40):
        delivery = OutboxDelivery(outbox, database, DeliveryRules(max_rows=2), jitter=highest)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(delivery.run)
                for _ in range(moment % 5):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
    await OutboxDelivery(outbox, database).empty()
    assert database.stored_names() == both(*range(30))
    assert len(outbox.index) == 0
