"""A database that refuses, is away or chokes, on virtual time: when the delivery pauses, how it comes back."""

import logging
import uuid
from collections.abc import Collection

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.save.outbox_delivery import OutboxDelivery
from app.save.outbox_rules import DeliveryRules
from app.save.outbox_values import OutboxError
from app.turn import EarlierTurn
from tests.save.outbox_rows import log_row, names, turn_rows
from tests.save.outbox_standins import (
    JudgingDatabase,
    MemoryOutbox,
    both,
    delivering,
    fault,
    filled,
    highest,
    lines,
    refusing,
    waits,
)
from tests.standins import never


@pytest.fixture(autouse=True)
def _whole_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


PAUSES = ["http_401", "http_403", "http_404", "http_408", "http_429", "42501", "42P01", "PGRST301", "PGRST204"]


@pytest.mark.parametrize("error_type", PAUSES)
async def test_a_database_that_refuses_us_pauses_the_delivery(
    error_type: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, keeps everything, tries rarely, and goes on by itself when it is taken again."""
    outbox, database = filled(1), JudgingDatabase(verdict=lambda rows: fault(error_type))
    async with delivering(outbox, database):
        await trio.sleep(200)
        assert waits(database) == pytest.approx([5, 10, 20, 40, 60, 60])
        assert outbox.statistics().paused == error_type
        assert outbox.statistics().waiting == 2
        assert {entry.attempts for entry in outbox.index.entries(9)} == {7}
        outbox.put(*turn_rows(2))
        await wait_all_tasks_blocked()
        assert len(database.at) == 7, "a new row does not wake it"
        database.verdict = lambda rows: None
        await trio.sleep(60)
        assert outbox.statistics().paused is None
    assert database.stored_names() == both(1, 2)
    assert lines(caplog) == [("outbox.paused", error_type), ("outbox.resumed", None)]


@pytest.mark.parametrize("error_type", ["ConnectError", "ReadTimeout", "http_500", "http_503", "40001", "XX000"])
async def test_a_database_that_is_away_is_asked_less_and_less(
    error_type: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Waits double up to their bound; nothing is set aside, and it is no pause; the log has a line for each change."""
    outbox, database = MemoryOutbox(), JudgingDatabase(verdict=lambda rows: fault(error_type))
    outbox.put(log_row(1))
    async with delivering(outbox, database):
        await trio.sleep(120)
        assert waits(database) == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])
        assert outbox.statistics().paused is None
        database.verdict = lambda rows: None
        await trio.sleep(30)
    assert database.stored_names() == ["user 1"]
    assert lines(caplog) == [("outbox.delivery_fails", error_type), ("outbox.resumed", None)]


async def test_after_a_success_waits_begin_anew(autojump_clock: MockClock) -> None:
    """An hour of trouble yesterday does not slow down today."""
    outbox, database = filled(1), JudgingDatabase(verdict=lambda rows: fault("ConnectError"))
    async with delivering(outbox, database):
        await trio.sleep(60)
        database.verdict = lambda rows: None
        await trio.sleep(30)
        database.verdict = lambda rows: fault("ConnectError")
        database.at.clear()
        outbox.put(*turn_rows(2))
        await trio.sleep(0.5)
        assert len(database.at) == 2


async def test_a_change_of_trouble_is_told(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """From away to refused to refused for another reason: each is a line, and statistics tell the last."""
    outbox, database = filled(1), JudgingDatabase()
    async with delivering(outbox, database):
        for error_type in ("ConnectError", "PGRST301", "42501", "ReadTimeout"):
            database.verdict = lambda rows, error_type=error_type: fault(error_type)  # type: ignore[misc]
            outbox.put(log_row(9, "user"))
            outbox.nudge.set()
            await trio.sleep(60)
            assert outbox.paused == (error_type if error_type in ("PGRST301", "42501") else None)
    assert lines(caplog) == [
        ("outbox.delivery_fails", "ConnectError"),
        ("outbox.paused", "PGRST301"),
        ("outbox.paused", "42501"),
        ("outbox.delivery_fails", "ReadTimeout"),
    ]


async def test_a_nudge_ends_a_wait(autojump_clock: MockClock) -> None:
    """An operator who has put the key right need not wait for the next attempt."""
    outbox, database = filled(1), JudgingDatabase(verdict=lambda rows: fault("PGRST301"))
    async with delivering(outbox, database):
        await trio.sleep(100)
        database.verdict = lambda rows: None
        outbox.nudge.set()
        await wait_all_tasks_blocked()
        assert trio.current_time() == database.at[-1]
    assert database.stored_names() == both(1)


async def test_an_open_breaker_says_when(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """While it is open nothing is counted as an attempt, and what it says is no news of the database."""
    outbox, database = filled(1), JudgingDatabase(verdict=lambda rows: fault("breaker_open", retry_after_s=8.0))
    async with delivering(outbox, database):
        await trio.sleep(35)
        assert waits(database) == pytest.approx([10, 10, 10])
        assert {entry.attempts for entry in outbox.index.entries(9)} == {0}
        database.verdict = lambda rows: None
        await trio.sleep(10)
    assert database.stored_names() == both(1)
    assert lines(caplog) == []


async def test_a_database_that_does_not_answer_is_given_up(autojump_clock: MockClock) -> None:
    """An attempt has its time; a stalled one is a failure like another."""
    outbox, database = filled(1), JudgingDatabase(before_write=[never, never])
    async with delivering(outbox, database):
        await trio.sleep(10.1)
        assert [entry.attempts for entry in outbox.index.entries(9)] == [1, 1]
        await trio.sleep(20)
    assert database.at[1:] == pytest.approx([database.at[0] + 10.2, database.at[0] + 20.6])
    assert database.stored_names() == both(1)


async def test_one_row_that_the_database_chokes_on_holds_up_its_own_conversation_only(
    autojump_clock: MockClock,
) -> None:
    """It may be a bug in a trigger: not the row's fault, never set aside, but everybody else's rows go on."""
    outbox = filled(1)
    for turn in (2, 3):
        outbox.put(*turn_rows(turn, conversation=1))
    outbox.put(*turn_rows(4, conversation=2))
    database = JudgingDatabase(verdict=refusing("P0001", "assistant 2"))
    async with delivering(outbox, database):
        await trio.sleep(60)
        assert database.stored_names() == ["user 1", "assistant 1", "user 2", "user 4", "assistant 4"]
        assert names(outbox.index.batch(9, 999)) == ["assistant 2", "user 3", "assistant 3"]
        outbox.put(*turn_rows(5, conversation=3))
        await trio.sleep(60)
        delivered_at = database.at[database.sent.index(["assistant 5"])]
        assert pytest.approx(delivered_at + 0.2) in database.at, "what gets through brings short waits back"
        database.verdict = lambda rows: None
        await trio.sleep(60)
    assert database.stored_names()[-3:] == ["assistant 2", "user 3", "assistant 3"]


@pytest.mark.parametrize("choking", [range(1), range(3), range(8)], ids=len)
async def test_however_many_conversations_are_stuck_the_others_go_on(choking: range, autojump_clock: MockClock) -> None:
    """Be it one with more rows than a batch takes, or more than are tried before the database counts as ill."""
    outbox = MemoryOutbox()
    for turn in range(8):
        outbox.put(log_row(turn, conversation=turn % len(choking)))
    outbox.put(*turn_rows(9, conversation=9))
    database = JudgingDatabase(verdict=refusing("P0001", *[f"user {turn}" for turn in range(8)]))
    async with delivering(outbox, database):
        await trio.sleep(120)
        assert database.stored_names() == both(9)
        database.verdict = lambda rows: None
        await trio.sleep(60)
    assert database.stored_names() == [*both(9), *(f"user {turn}" for turn in range(8))]


class Forgetful(JudgingDatabase):
    """A database that takes no second row of a key, and cannot find the first one of some turns when asked for it."""

    unseen: Collection[uuid.UUID] = ()

    async def turn(self, user_id: str, turn_id: uuid.UUID) -> EarlierTurn | None:
        return None if turn_id in self.unseen else await super().turn(user_id, turn_id)


async def test_a_row_whose_place_is_taken_by_nobody_knows_what_holds_up_only_itself(autojump_clock: MockClock) -> None:
    """Reads lag behind writes, say: it is not dropped but waits, and all others go on, also those of taken places."""
    unseen, seen = (uuid.uuid5(uuid.NAMESPACE_DNS, key) for key in ("unseen", "seen"))
    outbox, database = MemoryOutbox(), Forgetful()
    database.unseen = {unseen}
    for number, turn_id in enumerate((unseen, seen)):
        row = log_row(turn_id, conversation=number)
        database.rows[row.key] = row
        outbox.put(row)
    outbox.put(log_row(3, conversation=3))
    async with delivering(outbox, database):
        await trio.sleep(60)
        assert [entry.row.turn_id for entry in outbox.index.entries(9)] == [unseen]
        assert outbox.statistics().waiting == 1
        assert "user 3" in database.stored_names()
        database.unseen = ()
        await trio.sleep(60)
    assert len(outbox.index) == 0


async def test_a_pause_is_over_when_nothing_waits_any_more(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator has deleted what was refused: nothing is left that the next answer of the database could clear."""
    outbox, database = filled(1), JudgingDatabase(verdict=lambda rows: fault("PGRST301"))
    async with delivering(outbox, database):
        await trio.sleep(100)
        assert outbox.statistics().paused == "PGRST301"
        outbox.index.remove([entry.id for entry in outbox.index.entries(9)])
        outbox.nudge.set()
        await wait_all_tasks_blocked()
        assert outbox.statistics().paused is None
    assert lines(caplog) == [("outbox.paused", "PGRST301"), ("outbox.resumed", None)]


async def test_a_delivery_that_cannot_be_noted_is_made_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The outbox's own disk fails: rows are sent again until it can be noted that they are there."""
    outbox, database = filled(1), JudgingDatabase()
    outbox.fails = [OutboxError("sqlite_ioerr")] * 3
    async with delivering(outbox, database):
        await trio.sleep(5)
    assert database.sent == [both(1)] * 4
    assert waits(database) == pytest.approx([0.2, 0.4, 0.8])
    assert len(outbox.index) == 0
    assert lines(caplog) == [("outbox.delivery_fails", "sqlite_ioerr"), ("outbox.resumed", None)]


async def test_a_bug_on_the_way_holds_up_only_its_own_conversation(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A row about which our own client stumbles is tried alone in the end; the rest is delivered, and nothing dies."""
    outbox = filled(1)
    outbox.put(*turn_rows(2, conversation=2))
    stumbling = JudgingDatabase(
        verdict=lambda rows: KeyError("bug") if any(row.message == "user 1" for row in rows) else None
    )
    async with delivering(outbox, stumbling):
        await trio.sleep(10)
        assert stumbling.stored_names() == both(2)
        assert outbox.statistics().paused is None
        stumbling.verdict = lambda rows: None
        await trio.sleep(60)
    assert stumbling.stored_names() == both(2, 1)
    assert ("outbox.delivery_broke", None) in lines(caplog)
    assert ("outbox.delivery_fails", "internal") in lines(caplog)


async def test_emptying_gives_up_with_a_reason(autojump_clock: MockClock) -> None:
    """A pause ends it at once, a database that is away after some tries; nothing is lost of either."""
    for error_type, attempts in (("PGRST301", 1), ("ConnectError", 5)):
        outbox, database = filled(1), JudgingDatabase(verdict=lambda rows, it=error_type: fault(it))  # type: ignore[misc]
        with pytest.raises(OutboxError, match=error_type) as caught:
            await OutboxDelivery(outbox, database, jitter=highest).empty()
        assert caught.value.reason == "undeliverable"
        assert len(database.sent) == attempts
        assert outbox.statistics().waiting == 2


async def test_emptying_does_not_wait_for_an_open_breaker_for_ever(autojump_clock: MockClock) -> None:
    """What the breaker says counts as a try, too; but whatever gets through brings patience back."""
    outbox, database = filled(*range(6)), JudgingDatabase()
    away, left_alone = fault("ConnectError"), fault("breaker_open", retry_after_s=10)
    faults = [away, left_alone] * 2
    database.verdict = lambda rows: faults.pop(0) if faults else None
    await OutboxDelivery(outbox, database, jitter=highest).empty()
    assert database.stored_names() == both(*range(6))

    outbox, database = filled(1), JudgingDatabase()
    database.verdict = lambda rows: away if len(database.sent) == 1 else left_alone
    with pytest.raises(OutboxError, match="ConnectError"), trio.fail_after(100):
        await OutboxDelivery(outbox, database, jitter=highest).empty()
    assert len(database.sent) == 5


async def test_emptying_has_patience_while_something_gets_through(autojump_clock: MockClock) -> None:
    """A batch, a failure, a batch: as often as it takes."""
    outbox, database = filled(*range(12)), JudgingDatabase()
    answers = iter([None, fault("ConnectError")] * 12)
    database.verdict = lambda rows: next(answers)
    await OutboxDelivery(outbox, database, DeliveryRules(max_rows=2), jitter=highest).empty(patience=2)
    assert database.stored_names() == both(*range(12))
