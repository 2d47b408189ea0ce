"""Rows whose place is taken: which of them stands, in whatever order and by whatever way they come. Virtual time."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from app.clients.ports import LogRow
from app.errors import DatabaseFault
from app.save.one_answer import what_stands
from app.save.outbox_delivery import OutboxDelivery
from app.save.outbox_rules import DeliveryRules
from tests.save.outbox_standins import MemoryOutbox, delivering, highest
from tests.save.repeated_rows import TURN, answer, question
from tests.standins import MemoryDatabase

WHOLE, OTHER, LONG = answer(5), answer(6, "No reason."), answer(7, "Because, ", "length")
HALF, EMPTY, BROKEN = answer(1, "Bec", "cancelled"), answer(2, "", "error"), answer(3, "Becau", "error")


async def stands(database: MemoryDatabase, row: LogRow) -> bool:
    return (await what_stands(database, row)).message == row.message


async def there(*rows: LogRow) -> MemoryDatabase:
    database = MemoryDatabase()
    for row in rows:
        await database.write_rows([row])
    return database


@pytest.mark.parametrize(
    ("row", "stored", "it_stands", "left"),
    [
        (WHOLE, HALF, True, WHOLE),
        (WHOLE, EMPTY, True, WHOLE),
        (LONG, BROKEN, True, LONG),
        (WHOLE, OTHER, False, OTHER),
        (WHOLE, LONG, False, LONG),
        (HALF, WHOLE, False, WHOLE),
        (EMPTY, WHOLE, False, WHOLE),
        (BROKEN, HALF, False, HALF),
        (WHOLE, WHOLE, True, WHOLE),
        (HALF, HALF, True, HALF),
        (WHOLE, replace(WHOLE, created_at=OTHER.created_at), True, replace(WHOLE, created_at=OTHER.created_at)),
        (WHOLE, answer(1, WHOLE.message, "cancelled"), True, WHOLE),
        (question(9), question(0), True, question(0)),
        (question(0), question(9), True, question(0)),
        (question(0, "What?"), question(9), False, question(9)),
        (question(9, "What?"), question(0), False, question(0)),
    ],
)
async def test_which_of_two_stands(
    row: LogRow, stored: LogRow, it_stands: bool, left: LogRow, autojump_clock: MockClock
) -> None:
    """A whole answer goes over one that was cut short, though that says the same; else the first has the place."""
    database = await there(stored)
    assert await stands(database, row) == it_stands
    assert database.rows[row.key] == left


@pytest.mark.parametrize("others", [[], [question()]])
async def test_a_place_that_is_empty_meanwhile_is_taken(others: list[LogRow], autojump_clock: MockClock) -> None:
    """What was there was removed: the row is written after all."""
    database = await there(*others)
    assert await what_stands(database, WHOLE) == WHOLE
    assert database.rows[WHOLE.key] == WHOLE


async def test_a_taken_place_that_cannot_be_seen_is_a_fault(autojump_clock: MockClock) -> None:
    """Reads are answered by one that lags behind: nobody can say what stands, so nothing is given up."""
    database = await there(OTHER)

    async def nothing_yet(user_id: str, turn_id: uuid.UUID) -> None:
        await trio.lowlevel.checkpoint()

    database.turn = nothing_yet  # type: ignore[method-assign]  # as before the other wrote
    with pytest.raises(DatabaseFault) as caught:
        await what_stands(database, WHOLE)
    assert caught.value.error_type == "not_readable"


async def test_a_question_is_not_younger_than_its_answer(autojump_clock: MockClock) -> None:
    """Of two requests for one turn, the question of the one that was first stands, whenever it comes."""
    first, second = question(0), question(9)
    database = await there(second, answer(5))
    assert await what_stands(database, first) == first
    assert database.rows[first.key] == first
    assert (await what_stands(database, second)).created_at == first.created_at


class Raced(MemoryDatabase):
    """A database in which somebody else replaces the answer a moment before us, as often as there is another one."""

    others: Sequence[LogRow] = ()

    async def replace_row(self, row: LogRow, written_at: datetime) -> bool:
        if self.others:
            (first, *self.others) = self.others
            self.rows[first.key] = first
        return await super().replace_row(row, written_at)


@pytest.mark.parametrize(
    ("others", "it_stands"), [([OTHER], False), ([BROKEN], True), ([BROKEN, EMPTY], True), ([BROKEN, OTHER], False)]
)
async def test_a_race_for_the_place_has_one_winner(
    others: list[LogRow], it_stands: bool, autojump_clock: MockClock
) -> None:
    """Who finds the answer changed looks again: another whole one stands, over a partial one it goes itself."""
    database = Raced()
    await database.write_rows([HALF])
    database.others = others
    assert await stands(database, WHOLE) == it_stands
    assert database.rows[WHOLE.key] == (WHOLE if it_stands else OTHER)


async def test_a_database_that_lets_nobody_replace_is_a_fault(autojump_clock: MockClock) -> None:
    """Nothing changed, and nothing was replaced: it is told, not asked for ever; the row does not count as stored."""
    database = await there(HALF)
    asked = []

    async def refuse(row: LogRow, written_at: datetime) -> bool:
        await trio.lowlevel.checkpoint()
        asked.append(written_at)
        assert len(asked) < 5
        return False

    database.replace_row = refuse  # type: ignore[method-assign]  # as where others are always faster
    with pytest.raises(DatabaseFault):
        await stands(database, WHOLE)
    assert database.rows[WHOLE.key] == HALF


@pytest.mark.parametrize("stored", [[WHOLE], []])
async def test_a_second_whole_answer_is_set_aside(stored: list[LogRow], autojump_clock: MockClock) -> None:
    """A client may hold it: it is neither stored nor dropped, but kept with its reason, alone, after a retry too."""
    database = await there(*stored)
    outbox = MemoryOutbox()
    for row in [question(), *([] if stored else [WHOLE]), OTHER, HALF]:
        outbox.put(row)
    async with delivering(outbox, database):
        await trio.sleep(1)
        (kept,) = outbox.index.entries(9)
        assert (kept.row, kept.reason) == (OTHER, "superseded")
        outbox.index.take_back(TURN)
        outbox.put(question(3))
        await trio.sleep(60)
        assert [entry.reason for entry in outbox.index.entries(9)] == ["superseded"]
    assert database.rows == {WHOLE.key: WHOLE, question().key: question()}


async def test_both_attempts_in_one_batch(autojump_clock: MockClock) -> None:
    """A turn that failed and was then answered, both in one outbox: delivered in one go, the whole answer stands."""
    outbox, database = MemoryOutbox(), MemoryDatabase()
    outbox.put(question(0), EMPTY, question(3), WHOLE)
    await OutboxDelivery(outbox, database, jitter=highest).empty()
    assert database.rows == {question().key: question(0), WHOLE.key: WHOLE}
    assert len(outbox.index) == 0


attempts = st.builds(
    answer,
    st.integers(1, 50),
    st.sampled_from(["", "Because.", "No reason."]),
    st.sampled_from(["stop", "cancelled", "error"]),
)
arrivals = st.lists(
    st.tuples(st.sampled_from(["database", "one", "two"]), attempts, st.booleans()), min_size=1, max_size=8
)
TWICE = [("one", HALF, False), ("one", WHOLE, False)]


@given(arrivals, st.sampled_from([1, 3, 4, 100]))
@example([*TWICE], 100)
@example([("two", HALF, False), ("one", WHOLE, True), ("database", EMPTY, False)], 1)
def test_the_whole_answer_stands_in_the_end(rows: list[tuple[str, LogRow, bool]], batch: int) -> None:
    """However rows of one key come, to the database or by two outboxes that deliver at any time: one row for each.

    It is a whole answer if there was one, and nothing is left in the outboxes.
    """
    trio.run(_deliver_all, rows, batch)


async def _deliver_all(rows: list[tuple[str, LogRow, bool]], batch: int) -> None:
    database, outboxes = MemoryDatabase(), {name: MemoryOutbox() for name in ("one", "two")}
    rules = DeliveryRules(max_rows=batch)
    deliveries = {name: OutboxDelivery(outbox, database, rules) for name, outbox in outboxes.items()}
    for place, row, at_once in rows:
        if place == "database":
            for each in (question(row.created_at.second), row):
                if await database.write_rows([each]):
                    await stands(database, each)
        else:
            outboxes[place].put(question(row.created_at.second), row)
            if at_once:
                await deliveries[place].empty()
    async with trio.open_nursery() as nursery:
        for delivery in deliveries.values():
            nursery.start_soon(delivery.empty)
    assert {outbox.index.waiting for outbox in outboxes.values()} == {0}
    assert database.rows.keys() == {(TURN, "user"), (TURN, "assistant")}
    answers = [row for _, row, _ in rows]
    whole = [row for row in answers if row.message and row.context_data["finish"] == "stop"]
    assert database.rows[TURN, "assistant"] in (whole or answers)
