"""The story of a turn, on virtual time: order, what runs beside what, degrading, failing, and what is stored."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from app.errors import DatabaseFault, Fault, ModelFault
from app.fetch.history import conversation_id
from app.turn import Project, TurnOutcome
from tests.standins import MemoryDatabase, PacedModel, after, at_once, failing, never, open_house, question

DOWN = DatabaseFault("database_unavailable", "down", error_type="ConnectError")


def answered(result: TurnOutcome | Fault) -> TurnOutcome:
    assert isinstance(result, TurnOutcome), result
    return result


def refused(result: TurnOutcome | Fault) -> Fault:
    assert isinstance(result, Fault), result
    return result


async def test_question_and_answer_are_stored_in_order(autojump_clock: MockClock) -> None:
    """A turn stores the question at its admission and the answer at its end, under one turn id."""
    database = MemoryDatabase()
    async with open_house(database) as house:
        end = await house.ask(turn := question("Why is the sky blue?"))
    outcome = answered(end.result)
    assert outcome.draft.text == "Yes. And you?"
    assert outcome.saved == "database"
    assert database.senders() == ["user", "assistant"]
    assert database.writes == [["user"], ["assistant"]]
    assert {row.turn_id for row in database.rows.values()} == {turn.turn_id}
    assert database.stored("user").message == "Why is the sky blue?"
    assert database.stored("assistant").context_data["finish"] == "stop"
    assert outcome.conversation_id == conversation_id("u1", "general")


async def test_the_floor_is_one_round_trip_the_model_and_the_last_save(autojump_clock: MockClock) -> None:
    """With 100 ms a request and a 1 s model the turn takes 1.2 s: fetches overlap, the question's save hides."""
    database = MemoryDatabase(
        before_history=after(0.1),
        before_project=after(0.1),
        before_write=[after(0.1), after(0.1)],
        projects={"1": Project(id=1, theme="rivers")},
        conversations={conversation_id("u1", "project-1"): ("u1", "project-1")},
    )
    async with open_house(database, PacedModel(pieces=[(after(1.0), "Yes.")])) as house:
        end = await house.ask(question(page_id="project-1"))
    assert answered(end.result).saved == "database"
    assert end.clock.performance_metrics() == pytest.approx(
        {
            "db_fetch_time": 0.1,
            "llm_queue_time": 0.0,
            "llm_response_time": 1.0,
            "db_save_time": 0.1,
            "total_time": 1.2,
        }
    )


async def test_the_next_turn_sees_the_last(autojump_clock: MockClock) -> None:
    """The second turn's prompt holds the first turn's question and answer, and its rows come later."""
    database, model = MemoryDatabase(), PacedModel()
    async with open_house(database, model) as house:
        await house.ask(question("one"))
        end = await house.ask(question("two"))
    assert [message.content for message in model.asked[1].messages[1:]] == ["one", "Yes. And you?", "two"]
    assert answered(end.result).history_count == 2
    assert database.senders() == ["user", "assistant", "user", "assistant"]


async def test_admission_is_later_than_what_was_seen(autojump_clock: MockClock) -> None:
    """A turn whose clock is behind the stored messages is still stored after them."""
    database = MemoryDatabase()
    async with open_house(database) as house:
        await house.ask(question("one"))
        for key, row in database.rows.items():
            database.rows[key] = replace(row, created_at=row.created_at + timedelta(hours=1))
        await house.ask(question("two"))
    assert database.senders() == ["user", "assistant", "user", "assistant"]
    assert sorted(database.rows.values(), key=lambda row: row.created_at)[2].message == "two"


async def test_a_failing_project_degrades(autojump_clock: MockClock) -> None:
    """When only the project cannot be read, the turn answers without it and says so."""
    async with open_house(MemoryDatabase(before_project=failing(DOWN))) as house:
        end = await house.ask(question(project_id="1"))
    assert answered(end.result).warnings == ("project_unavailable",)
    assert house.seen.facts[0].outcome == "degraded"


async def test_a_slow_project_gets_one_second_more(autojump_clock: MockClock) -> None:
    """A project that stalls is given up one second after the history came; the turn goes on without it."""
    database = MemoryDatabase(before_history=after(0.5), before_project=never)
    async with open_house(database) as house:
        end = await house.ask(question(page_id="project-1"))
    assert answered(end.result).warnings == ("project_unavailable",)
    assert end.clock.seconds("db_fetch") == pytest.approx(1.5)


async def test_a_page_that_names_no_project_means_no_context(autojump_clock: MockClock) -> None:
    """An unknown project in `page_id` is no fault; in `project_id` it is 404 and nothing is stored."""
    database = MemoryDatabase()
    async with open_house(database) as house:
        by_page = await house.ask(question(page_id="project-9"))
        by_id = await house.ask(question("again", project_id="9"))
    assert answered(by_page.result).warnings == ()
    assert refused(by_id.result).code == "not_found"
    assert len(database.rows) == 2


async def test_an_unknown_conversation_is_not_found(autojump_clock: MockClock) -> None:
    """A conversation that is not this user's is 404, and the model is not asked."""
    model = PacedModel()
    async with open_house(model=model) as house:
        end = await house.ask(question(conversation_id=uuid.uuid4()))
    assert (refused(end.result).code, refused(end.result).kind.status) == ("not_found", 404)
    assert model.asked == []


async def test_a_failing_history_is_503_before_the_model_is_paid(autojump_clock: MockClock) -> None:
    """Without the conversation there is no turn: 503, nothing stored, the model not asked."""
    database, model = MemoryDatabase(before_history=failing(DOWN)), PacedModel()
    async with open_house(database, model) as house:
        end = await house.ask(question(project_id="1"))
    assert (refused(end.result).code, refused(end.result).kind.status) == ("database_unavailable", 503)
    assert (model.asked, database.rows) == ([], {})


async def test_draining_refuses_before_the_database_is_asked(autojump_clock: MockClock) -> None:
    """A turn that comes while the server drains is refused at the door."""
    database = MemoryDatabase(before_history=never)
    async with open_house(database) as house:
        house.door.draining = True
        end = await house.ask(question())
    assert refused(end.result).code == "draining"
    assert refused(end.result).retry_after_s == 5.0


async def test_a_model_that_fails_leaves_the_question_and_an_error_row(autojump_clock: MockClock) -> None:
    """The question is stored, with exactly one answer row: what had come, marked as an error."""
    database = MemoryDatabase()
    fault = ModelFault("model_error", "cut", error_type="truncated")
    async with open_house(database, PacedModel(pieces=[(at_once, "Half"), (failing(fault), "")])) as house:
        end = await house.ask(question())
    assert refused(end.result) is fault
    assert database.senders() == ["user", "assistant"]
    assert database.stored("assistant").message == "Half"
    assert database.stored("assistant").context_data["finish"] == "error"
    assert house.gate.statistics().borrowed == 0


async def test_a_question_survives_a_model_that_fails_at_once(autojump_clock: MockClock) -> None:
    """A model that fails while the question is still being saved does not take that save down."""
    database = MemoryDatabase(before_write=[after(1.0), at_once])
    async with open_house(database, PacedModel(pieces=[(failing(ModelFault("model_error")), "")])) as house:
        await house.ask(question())
    assert database.senders() == ["user", "assistant"]


async def test_an_unexpected_error_is_a_500_and_stores_what_there_is(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in a stage is one logged 500; the rows of the turn are written all the same."""
    database = MemoryDatabase()
    async with open_house(database, PacedModel(pieces=[(at_once, "Half"), (failing(KeyError("bug")), "")])) as house:
        end = await house.ask(question())
    assert (refused(end.result).code, refused(end.result).kind.status) == ("internal_error", 500)
    assert database.stored("assistant").context_data["finish"] == "error"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["turn.failed"]


async def test_a_failed_save_still_answers(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that cannot be stored is given, with `saved: no`, a warning, and an error log with the turn's id."""
    database = MemoryDatabase(before_write=[failing(DOWN), failing(DOWN)])
    async with open_house(database) as house:
        end = await house.ask(turn := question())
    outcome = answered(end.result)
    assert (outcome.saved, outcome.warnings) == ("no", ("save_failed",))
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (error.getMessage(), vars(error)["turn_id"]) == ("save.failed", str(turn.turn_id))


async def test_a_save_that_breaks_in_an_unforeseen_way_still_answers(autojump_clock: MockClock) -> None:
    """Even a bug in the save costs the student nothing but the stored row."""
    async with open_house(MemoryDatabase(before_write=[failing(KeyError("bug")), failing(KeyError("bug"))])) as house:
        end = await house.ask(question())
    assert answered(end.result).saved == "no"


async def test_a_question_that_could_not_be_saved_is_written_with_the_answer(autojump_clock: MockClock) -> None:
    """When the question's own save failed, the answer's save writes both rows."""
    database = MemoryDatabase(before_write=[failing(DOWN)])
    async with open_house(database) as house:
        end = await house.ask(question())
    assert answered(end.result).saved == "database"
    assert database.senders() == ["user", "assistant"]


async def test_first_messages_that_race_end_in_one_conversation(autojump_clock: MockClock) -> None:
    """Two first messages at the same instant are stored in ONE conversation."""
    database = MemoryDatabase(before_conversation=after(0.1))
    ends = []
    async with open_house(database) as house, trio.open_nursery() as nursery:

        async def ask(text: str) -> None:
            ends.append(await house.ask(question(text)))

        nursery.start_soon(ask, "one")
        nursery.start_soon(ask, "two")
    assert len({answered(end.result).conversation_id for end in ends}) == 1
    assert len(database.conversations) == 1
    assert len(database.rows) == 4


async def test_the_slot_is_free_while_the_answer_is_saved(autojump_clock: MockClock) -> None:
    """With one slot, a second turn's model call does not wait for the first turn's save."""
    database = MemoryDatabase(before_write=[at_once, after(1.5), at_once, at_once])
    async with (
        open_house(database, PacedModel(pieces=[(after(1.0), "Yes.")]), slots=1) as house,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(house.ask, question("one"))
        await trio.sleep(0.01)
        end = await house.ask(question("two"))
    assert end.clock.seconds("llm.queue") == pytest.approx(0.99)


async def test_an_empty_answer_is_a_model_error(autojump_clock: MockClock) -> None:
    """A model that ends without a word has answered wrongly."""
    async with open_house(model=PacedModel(pieces=[(at_once, " ")])) as house:
        end = await house.ask(question())
    assert (refused(end.result).code, refused(end.result).error_type) == ("model_error", "empty_answer")


async def test_an_answer_cut_at_max_tokens_says_so(autojump_clock: MockClock) -> None:
    """`length` is stored as the way the answer ended."""
    database = MemoryDatabase()
    async with open_house(database, PacedModel(finish_reason="length")) as house:
        await house.ask(question())
    assert database.stored("assistant").context_data["finish"] == "length"
