"""Two processes that answer one turn at once: whose rows stand, and what each tells its client. Virtual time."""

import uuid
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.errors import DatabaseFault
from app.turn import Plan, TurnOutcome, TurnRequest
from tests.save.keeper import MemoryKeeper
from tests.standins import (
    TRACE_ID,
    House,
    MemoryDatabase,
    PacedModel,
    after,
    at_once,
    failing,
    never,
    open_house,
    question,
)

KEYED = question(turn_id=uuid.uuid5(uuid.NAMESPACE_DNS, "a key"))
DOWN = DatabaseFault("database_unavailable", error_type="ConnectError")


def outcome(result: object) -> TurnOutcome:
    assert isinstance(result, TurnOutcome)
    return result


def told(result: object) -> tuple[str, str, tuple[str, ...]]:
    """Return what a client is told: text, where it is stored, warnings."""
    answered = outcome(result)
    return answered.draft.text, answered.saved, answered.warnings


def saying(text: str, seconds: float = 1.0) -> PacedModel:
    return PacedModel(pieces=[(after(seconds), text)])


async def both(
    database: MemoryDatabase, models: tuple[PacedModel, PacedModel], asked: tuple[TurnRequest, TurnRequest], plan: Plan
) -> list[object]:
    """Ask each of two houses on one database at the same instant, and return what came of it."""
    results: list[object] = [None, None]

    async def ask(number: int) -> None:
        async with open_house(database, models[number], plan=plan) as house:
            results[number] = (await house.ask(asked[number])).result

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0)
        nursery.start_soon(ask, 1)
    return results


@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
@pytest.mark.parametrize("first", [0, 1])
async def test_two_whole_answers(first: int, plan: Plan, autojump_clock: MockClock) -> None:
    """The one that is stored first stands and says so; the other is given too, and says that it is not what stands."""
    database = MemoryDatabase()
    models = saying("One.", 1 + first), saying("Two.", 2 - first)
    results = await both(database, models, (KEYED, KEYED), plan)
    stored, other = [("One.", "Two.")[each] for each in (first, 1 - first)]
    assert told(results[first]) == (stored, "database", ())
    assert told(results[1 - first]) == (other, "no", ("superseded",))
    assert database.senders() == ["user", "assistant"]
    assert database.stored("assistant").message == stored


async def test_two_that_say_the_same(autojump_clock: MockClock) -> None:
    """Where both answers are alike, both are what stands."""
    database = MemoryDatabase()
    results = await both(database, (saying("Same."), saying("Same.", 2)), (KEYED, KEYED), "concurrent")
    assert [told(result) for result in results] == [("Same.", "database", ())] * 2


@pytest.mark.parametrize("its_own_first", [True, False])
async def test_two_messages_under_one_key_at_once(its_own_first: bool, autojump_clock: MockClock) -> None:
    """The question that has the place gets its own answer, be that there sooner or later than the other's."""
    database, messages = MemoryDatabase(), (KEYED.message, "Another?")

    def answering(message: str) -> PacedModel:
        async def pause() -> None:
            await trio.sleep(1)
            stands = database.stored("user").message == message
            await trio.sleep(1 if stands == its_own_first else 2)

        return PacedModel(pieces=[(pause, f"To {message}")])

    models = answering(messages[0]), answering(messages[1])
    results = await both(database, models, (KEYED, replace(KEYED, message=messages[1])), "concurrent")
    winner = messages.index(database.stored("user").message)
    assert told(results[winner]) == (f"To {messages[winner]}", "database", ())
    assert told(results[1 - winner]) == (f"To {messages[1 - winner]}", "no", ("superseded",))
    assert database.stored("assistant").message == f"To {messages[winner]}"


async def test_a_question_that_could_not_be_saved_takes_no_answer_with_it(autojump_clock: MockClock) -> None:
    """Tried again with the answer, it finds another message in its place: that one's answer is not this one."""
    database = MemoryDatabase()

    async def fail_while_another_asks() -> None:
        await trio.lowlevel.checkpoint()
        database.rows[KEYED.turn_id, "user"] = replace(database.rows.popitem()[1], turn_id=KEYED.turn_id)
        raise DOWN

    async with open_house(database) as house:
        await house.ask(question("Another?"))
        del database.rows[next(key for key in database.rows if key[1] == "assistant")]
        database.before_write = [fail_while_another_asks]
        result = (await house.ask(KEYED)).result
    assert told(result) == ("Yes. And you?", "no", ("superseded",))
    assert [row.message for row in database.rows.values()] == ["Another?"]


async def cut_short(house: House, asked: TurnRequest) -> None:
    """Ask, and leave after half a second."""
    with trio.move_on_after(0.5):
        await house.turns.follow(asked, TRACE_ID)


@pytest.mark.parametrize("stored_late", [False, True])
async def test_a_partial_answer_does_not_keep_the_place(stored_late: bool, autojump_clock: MockClock) -> None:
    """Stored while the repeat is answered, or long after: the whole answer stands, and its client is told so."""
    database = MemoryDatabase()
    half = PacedModel(pieces=[(at_once, "Hal"), (never, "")])
    async with open_house(database, half) as one, open_house(database, saying("Whole.")) as two:
        if stored_late:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.turns.follow, KEYED, TRACE_ID)
                await wait_all_tasks_blocked()
                result = (await two.ask(KEYED)).result
                nursery.cancel_scope.cancel()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cut_short, one, KEYED)
                await wait_all_tasks_blocked()
                result = (await two.ask(KEYED)).result
    assert told(result) == ("Whole.", "database", ())
    assert len(database.rows) == 2
    assert database.stored("assistant").message == "Whole."
    assert database.stored("assistant").context_data["finish"] == "stop"


@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
async def test_one_that_failed_is_asked_again_and_stands(plan: Plan, autojump_clock: MockClock) -> None:
    """The empty row of the failure gives way; the answer comes after everything said since."""
    database, model = MemoryDatabase(), PacedModel(before_end=failing(KeyError("a bug")))
    async with open_house(database, model, plan=plan) as house:
        await house.ask(KEYED)
        failed = database.stored("assistant")
        model.before_end = at_once
        assert told((await house.ask(question("Between"))).result)[1] == "database"
        result = (await house.ask(KEYED)).result
    assert failed.context_data["finish"] == "error"
    assert told(result) == ("Yes. And you?", "database", ())
    answer = database.rows[KEYED.turn_id, "assistant"]
    assert (answer.message, answer.context_data["finish"]) == ("Yes. And you?", "stop")
    assert answer.created_at == max(row.created_at for row in database.rows.values())


async def test_both_attempts_wait_in_the_outbox(autojump_clock: MockClock) -> None:
    """The failed one's rows and the answered one's are there together; it is told from there, and delivered as one."""
    database = MemoryDatabase(before_write=[failing(DOWN)] * 99)
    keeper, model = MemoryKeeper(), PacedModel(before_end=failing(KeyError("a bug")))
    async with open_house(database, model, outbox=keeper) as house:
        await house.ask(KEYED)
        model.before_end = at_once
        assert told((await house.ask(KEYED)).result) == ("Yes. And you?", "outbox", ("save_deferred",))
        again = outcome((await house.ask(KEYED)).result)
    assert (told(again), again.replayed is None) == (("Yes. And you?", "outbox", ("save_deferred",)), False)
    assert len(model.asked) == 2
    assert [row.context_data["finish"] for row in keeper.undelivered("u1") if row.sender == "assistant"] == ["stop"]


async def test_a_lost_acknowledgement_supersedes_nobody(autojump_clock: MockClock) -> None:
    """A row that is there because it was written by this very turn, whose first answer was lost, stands."""
    database = MemoryDatabase()
    write = database.write_rows

    async def twice(rows: Any) -> Any:
        await write(rows)
        return await write(rows)

    database.write_rows = twice  # type: ignore[method-assign]
    async with open_house(database) as house:
        assert told((await house.ask(KEYED)).result) == ("Yes. And you?", "database", ())


async def test_a_turn_without_a_key_asks_for_no_earlier_one(autojump_clock: MockClock) -> None:
    """Its id is random, so nobody can have been there: it costs no request more."""
    database = MemoryDatabase(before_earlier=failing(AssertionError("asked")))
    async with open_house(database) as house:
        assert told((await house.ask(question())).result) == ("Yes. And you?", "database", ())
