"""Where a turn's rows go: the database, the outbox when that fails, the outbox first when that was asked for."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.errors import DatabaseFault
from app.fetch.history import conversation_id
from app.turn import Plan, TurnOutcome
from tests.save.keeper import DISK_FULL, MemoryKeeper
from tests.standins import TRACE_ID, MemoryDatabase, PacedModel, after, at_once, failing, never, open_house, question

DOWN = DatabaseFault("database_unavailable", error_type="ConnectError")
LEFT_ALONE = DatabaseFault("database_unavailable", error_type="breaker_open")
GENERAL = conversation_id("u1", "general")


def answered(result: object) -> TurnOutcome:
    assert isinstance(result, TurnOutcome)
    return result


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.levelno > 20]


def attributes(house: Any, span: str) -> dict[str, Any]:
    return dict(house.seen.spans.named(span).attributes or {})


async def test_a_database_that_takes_both_rows_is_all_it_needs(autojump_clock: MockClock) -> None:
    """Under `await`, with the database well, the outbox is not touched, and the span says so."""
    database, keeper = MemoryDatabase(), MemoryKeeper()
    async with open_house(database, outbox=keeper) as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, outcome.warnings) == ("database", ())
    assert (database.senders(), keeper.senders()) == (["user", "assistant"], [])
    span = attributes(house, "db_save")
    assert (span["save.mode"], span["save.deferred"]) == ("await", False)


@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
async def test_what_the_database_does_not_take_is_the_outboxs(
    plan: Plan, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With the database down after the fetch, both rows are in the outbox, in order; the reply warns, and no error."""
    database, keeper = MemoryDatabase(before_write=[failing(DOWN)] * 9), MemoryKeeper()
    async with open_house(database, outbox=keeper, plan=plan) as house:
        outcome = answered((await house.ask(question("What is it?"))).result)
    assert (outcome.saved, outcome.warnings, outcome.conversation_id) == ("outbox", ("save_deferred",), GENERAL)
    assert (database.senders(), keeper.senders()) == ([], ["user", "assistant"])
    assert events(caplog) == [("WARNING", "save.deferred")]
    span = attributes(house, "db_save")
    assert (span["save.mode"], span["save.deferred"]) == ("await", True)


async def test_a_conversation_still_to_be_made_is_queued_with_its_title(autojump_clock: MockClock) -> None:
    """When not even the conversation could be made, its rows carry its title; when it was, they do not."""
    keeper, down = MemoryKeeper(), MemoryDatabase(before_conversation=failing(DOWN))
    async with open_house(down, outbox=keeper) as house:
        await house.ask(question("What  is it?"))
    assert keeper.titles == ["What is it?", "What is it?"]
    keeper = MemoryKeeper()
    known = MemoryDatabase(conversations={GENERAL: ("u1", "general")}, before_write=[failing(DOWN)] * 2)
    async with open_house(known, outbox=keeper) as house:
        await house.ask(question())
    assert keeper.titles == [None, None]


async def test_the_question_is_queued_as_soon_as_its_own_save_failed(autojump_clock: MockClock) -> None:
    """While the model still speaks, the question is safe already: 2 s after its save began, not with the answer."""
    at = list[float]()
    keeper = MemoryKeeper(on_put=lambda rows: at.append(trio.current_time()))
    model = PacedModel(pieces=[(after(10), "Yes.")])
    async with open_house(MemoryDatabase(before_write=[never, never]), model, outbox=keeper) as house:
        start = trio.current_time()
        await house.ask(question())
    assert [moment - start for moment in at] == pytest.approx([2.0, 10.0])


async def test_a_conversation_that_waits_goes_on_waiting_in_order(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """While a row of the conversation is in the outbox, the database, though well again, is not asked to write."""
    database, keeper = MemoryDatabase(before_write=[failing(DOWN)]), MemoryKeeper()
    async with open_house(database, outbox=keeper) as house:
        await house.ask(question("one"))
        second = answered((await house.ask(question("two"))).result)
        elsewhere = answered((await house.ask(question("three", page_id="project-1"))).result)
    assert (second.saved, second.warnings) == ("outbox", ("save_deferred",))
    assert keeper.senders() == ["user", "assistant", "user", "assistant"]
    assert (elsewhere.saved, len(database.rows)) == ("database", 2)
    assert events(caplog) == [("WARNING", "save.deferred")]


async def test_once_delivered_the_database_is_asked_again(autojump_clock: MockClock) -> None:
    """A question that was delivered while the model spoke leaves nothing deferred: the answer is the database's."""
    database, keeper = MemoryDatabase(before_write=[failing(DOWN)]), MemoryKeeper()

    async def deliver() -> None:
        await trio.sleep(1)
        keeper.deliver(database)

    async with open_house(database, PacedModel(pieces=[(deliver, "Yes.")]), outbox=keeper) as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, outcome.warnings, keeper.senders()) == ("database", (), [])
    assert database.senders() == ["user", "assistant"]


async def test_an_answer_follows_its_question_that_was_set_aside(autojump_clock: MockClock) -> None:
    """No answer without its question: when the database refused that, the answer joins it in the outbox."""
    database, keeper = MemoryDatabase(before_write=[failing(DOWN)]), MemoryKeeper()
    turn = question()

    async def refuse() -> None:
        await trio.sleep(1)
        keeper.index.set_aside({turn.turn_id: "22P05"})

    async with open_house(database, PacedModel(pieces=[(refuse, "Yes.")]), outbox=keeper) as house:
        outcome = answered((await house.ask(turn)).result)
    assert (outcome.saved, database.senders()) == ("outbox", [])
    assert [entry.reason for entry in keeper.index.entries(9)] == ["22P05", "22P05"]


async def test_a_host_that_is_left_alone_costs_no_time(autojump_clock: MockClock) -> None:
    """With the breaker open, rows go to the outbox at once."""
    database, keeper = MemoryDatabase(before_write=[failing(LEFT_ALONE)] * 2), MemoryKeeper()
    async with open_house(database, outbox=keeper) as house:
        end = await house.ask(question())
    assert (answered(end.result).saved, end.clock.seconds("db_save")) == ("outbox", 0.0)


async def test_a_database_that_stalls_has_its_deadline(autojump_clock: MockClock) -> None:
    """A stalled write is the outbox's after DB_SAVE_TIMEOUT, and the stage says what was the matter."""
    database, keeper = MemoryDatabase(before_write=[at_once, never]), MemoryKeeper()
    async with open_house(database, outbox=keeper) as house:
        end = await house.ask(question())
    assert answered(end.result).saved == "outbox"
    assert end.clock.seconds("db_save") == pytest.approx(2.0)
    assert keeper.senders() == ["assistant"]
    assert attributes(house, "db_save")["error.type"] == "timeout.db_save"


@pytest.mark.parametrize("mode", ["await", "outbox"])
@pytest.mark.parametrize("broken", [DISK_FULL, KeyError("bug")], ids=["full", "bug"])
async def test_when_both_fail_the_answer_is_given_and_the_log_has_the_error(
    mode: Any, broken: Exception, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither database nor outbox: `saved: no`, `save_failed`, and an error log that has both reasons."""
    database = MemoryDatabase(before_write=[failing(DOWN)] * 9)
    keeper = MemoryKeeper(before_put=[failing(broken)] * 9)
    async with open_house(database, outbox=keeper, save_mode=mode) as house:
        outcome = answered((await house.ask(turn := question())).result)
    assert (outcome.saved, outcome.warnings) == ("no", ("save_failed",))
    assert events(caplog) == [("WARNING", "save.user.failed"), ("ERROR", "save.failed")]
    facts = vars(caplog.records[-1])
    reason = "outbox_sqlite_full" if broken is DISK_FULL else "internal"
    assert (facts["error"], facts["outbox_error"], facts["turn_id"]) == ("ConnectError", reason, str(turn.turn_id))


async def test_a_question_that_nobody_took_is_kept_with_the_answer(autojump_clock: MockClock) -> None:
    """When neither took the question in time, the answer's save tries both rows again."""
    database, keeper = MemoryDatabase(before_write=[failing(DOWN)] * 2), MemoryKeeper(before_put=[failing(DISK_FULL)])
    async with open_house(database, outbox=keeper) as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, keeper.senders()) == ("outbox", ["user", "assistant"])


async def test_an_outbox_that_stalls_has_a_deadline_too(autojump_clock: MockClock) -> None:
    """A disk that hangs costs DB_SAVE_TIMEOUT once more, and no turn."""
    database, keeper = MemoryDatabase(before_write=[at_once, never]), MemoryKeeper(before_put=[never])
    async with open_house(database, outbox=keeper) as house:
        end = await house.ask(question())
    assert answered(end.result).saved == "no"
    assert end.clock.seconds("db_save") == pytest.approx(4.0)


async def test_asked_for_the_outbox_comes_first(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Under `outbox`, the reply waits for the outbox alone, and that is no shortfall."""
    database, keeper = MemoryDatabase(before_write=[never, never]), MemoryKeeper()
    async with open_house(database, outbox=keeper, save_mode="outbox") as house:
        end = await house.ask(question())
    outcome = answered(end.result)
    assert (outcome.saved, outcome.warnings, end.clock.seconds("db_save")) == ("outbox", (), 0.0)
    assert (keeper.senders(), database.rows, events(caplog)) == (["user", "assistant"], {}, [])
    span = attributes(house, "db_save")
    assert (span["save.mode"], span["save.deferred"]) == ("outbox", False)


async def test_where_the_outbox_fails_the_database_stands_in(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Under `outbox` with a disk that is full, rows go to the database, and the log says why."""
    database, keeper = MemoryDatabase(), MemoryKeeper(before_put=[failing(DISK_FULL)] * 2)
    async with open_house(database, outbox=keeper, save_mode="outbox") as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, outcome.warnings, database.senders()) == ("database", (), ["user", "assistant"])
    assert events(caplog) == [("WARNING", "save.outbox_failed")] * 2


async def test_a_turn_is_where_its_last_row_is(autojump_clock: MockClock) -> None:
    """The question in the outbox and the answer, by way of a full disk, in the database: that is `outbox`."""
    database, keeper = MemoryDatabase(), MemoryKeeper(before_put=[at_once, failing(DISK_FULL)])
    async with open_house(database, outbox=keeper, save_mode="outbox") as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, keeper.senders(), database.senders()) == ("outbox", ["user"], ["assistant"])


async def test_the_sequential_plan_awaits_the_database(autojump_clock: MockClock) -> None:
    """Rolled back, saves are awaited whatever `SAVE_MODE` says."""
    database, keeper = MemoryDatabase(), MemoryKeeper()
    async with open_house(database, outbox=keeper, save_mode="outbox", plan="sequential") as house:
        outcome = answered((await house.ask(question())).result)
    assert (outcome.saved, keeper.senders(), attributes(house, "db_save")["save.mode"]) == ("database", [], "await")


@pytest.mark.parametrize("mode", ["await", "outbox"])
async def test_a_client_that_leaves_loses_nothing(mode: Any, autojump_clock: MockClock) -> None:
    """Cancelled in the middle, with the database down: the question and what was said are in the outbox."""
    keeper = MemoryKeeper()
    model = PacedModel(pieces=[(at_once, "Half"), (never, "")])
    async with open_house(MemoryDatabase(before_write=[never, never]), model, outbox=keeper, save_mode=mode) as house:
        with trio.move_on_after(0.5):
            await house.turns.follow(question(), TRACE_ID)
    rows = [entry.row for entry in keeper.index.entries(9)]
    assert [(row.sender, row.message) for row in rows] == [("user", "What is a hypothesis?"), ("assistant", "Half")]
    assert rows[1].context_data["finish"] == "cancelled"


async def test_the_next_turn_knows_what_is_not_delivered_yet(autojump_clock: MockClock) -> None:
    """The model is given the undelivered turn, and the new question is admitted after it."""
    database, keeper = MemoryDatabase(), MemoryKeeper()
    model = PacedModel()
    async with open_house(database, model, outbox=keeper, save_mode="outbox") as house:
        await house.ask(question("My name is Ann."))
        outcome = answered((await house.ask(question("Who am I?"))).result)
    assert [message.content for message in model.asked[1].messages[1:]] == [
        "My name is Ann.",
        "Yes. And you?",
        "Who am I?",
    ]
    assert outcome.history_count == 2
    times = [entry.row.created_at for entry in keeper.index.entries(9)]
    assert times == sorted(set(times))
