"""A turn that is asked for again: which rows of it are found where, and what is told again of them. Virtual time."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.clients.ports import LogRow
from app.errors import CallerFault, DatabaseFault, Fault, StageTimeout
from app.fetch.earlier import EarlierFetch, given_again, merged
from app.fetch.history import conversation_id, message_of
from app.turn import AGENT_FIELDS, EarlierTurn, Finish, Plan, TokenUsage, TurnOutcome, TurnRequest
from tests.save.keeper import MemoryKeeper
from tests.save.outbox_rows import NOON
from tests.standins import TRACE_ID, MemoryDatabase, PacedModel, after, failing, never, open_house, question, watched

KEYED = question("Why?", turn_id=uuid.uuid5(uuid.NAMESPACE_DNS, "a key"))
GENERAL = conversation_id("u1", "general")
DOWN = DatabaseFault("database_unavailable", error_type="ConnectError")


def row(sender: Any, second: int, message: str, finish: Finish | None = None, **fields: Any) -> LogRow:
    context = {} if finish is None else {"finish": finish}
    base = LogRow(
        turn_id=KEYED.turn_id, sender=sender, user_id="u1", page="general", conversation_id=GENERAL, message=message,
        context_data=context, created_at=NOON + timedelta(seconds=second),
    )  # fmt: skip
    return replace(base, **fields)


ASKED, ASKED_AGAIN = row("user", 0, "Why?"), row("user", 5, "Why?")
WHOLE, OTHER = row("assistant", 6, "Because.", "stop"), row("assistant", 7, "No reason.", "length")
HALF, EMPTY = row("assistant", 1, "Bec", "cancelled"), row("assistant", 2, " ", "error")


async def find(
    stored: list[LogRow], waiting: list[LogRow], asked: TurnRequest = KEYED, database: MemoryDatabase | None = None
) -> EarlierTurn | None:
    database = database or MemoryDatabase()
    database.rows |= {each.key: each for each in stored}
    keeper = MemoryKeeper()
    if waiting:
        await keeper.put(waiting)
    seen = watched()
    with seen.telemetry.turn(turn_id=str(asked.turn_id), user_id="u1", trace_id=TRACE_ID, surface="chat") as trace:
        return await EarlierFetch(database, keeper)(asked, trace)


@pytest.mark.parametrize(
    ("stored", "waiting", "answer", "saved"),
    [
        ([ASKED, WHOLE], [], WHOLE, "database"),
        ([ASKED], [], None, "database"),
        ([WHOLE], [ASKED], WHOLE, "outbox"),
        ([ASKED], [WHOLE], WHOLE, "outbox"),
        ([], [ASKED, WHOLE], WHOLE, "outbox"),
        ([], [ASKED], None, "outbox"),
        ([ASKED, HALF], [WHOLE], WHOLE, "outbox"),
        ([ASKED, EMPTY], [ASKED_AGAIN, WHOLE], WHOLE, "outbox"),
        ([ASKED, WHOLE], [HALF], WHOLE, "database"),
        ([ASKED, WHOLE], [ASKED_AGAIN, OTHER], WHOLE, "database"),
        ([ASKED, HALF], [EMPTY], HALF, "database"),
        ([], [ASKED, EMPTY, ASKED_AGAIN, WHOLE, OTHER], WHOLE, "outbox"),
    ],
)
async def test_what_there_is_of_a_turn(
    stored: list[LogRow], waiting: list[LogRow], answer: LogRow | None, saved: str, autojump_clock: MockClock
) -> None:
    """Rows of the database and of the outbox are one turn; of its answers the whole one counts, a stored one first."""
    found = await find(stored, waiting)
    assert found is not None
    assert found.answer == (message_of(answer) if answer else None)
    assert found.saved == saved
    assert (found.conversation_id, found.whole_answer is not None) == (GENERAL, answer in (WHOLE, OTHER))


async def test_nothing_is_found(autojump_clock: MockClock) -> None:
    """Not of a turn that nobody asked for, nor of another turn, nor of another user's of that id."""
    theirs = [replace(ASKED, user_id="u2"), replace(WHOLE, user_id="u2")]
    others = [replace(each, turn_id=uuid.uuid4()) for each in (ASKED, WHOLE)]
    assert await find([], []) is None
    assert await find(theirs, theirs) is None
    assert await find(others, others) is None


@pytest.mark.parametrize("waits", [False, True])
async def test_another_message_under_the_key(waits: bool, autojump_clock: MockClock) -> None:
    """It is the caller's fault, be the first message stored or on its way, answered or not."""
    for rows in ([ASKED], [ASKED, HALF], [ASKED, WHOLE]):
        with pytest.raises(CallerFault) as caught:
            await find([] if waits else rows, rows if waits else [], replace(KEYED, message="Why not?"))
        assert (caught.value.code, caught.value.stage) == ("idempotency_mismatch", "db_fetch")


async def test_the_outbox_is_looked_at_first(autojump_clock: MockClock) -> None:
    """What is delivered while the database is asked, after it looked, is not missed."""
    keeper, database = MemoryKeeper(), MemoryDatabase()
    await keeper.put([ASKED, WHOLE])
    nothing = await database.turn("u1", KEYED.turn_id)

    async def deliver_then_miss(user_id: str, turn_id: uuid.UUID) -> EarlierTurn | None:
        keeper.deliver(database)
        return nothing

    database.turn = deliver_then_miss  # type: ignore[method-assign]  # the port has no hook for this moment
    seen = watched()
    with seen.telemetry.turn(turn_id="t", user_id="u1", trace_id=TRACE_ID, surface="chat") as trace:
        found = await EarlierFetch(database, keeper)(KEYED, trace)
    assert (found and found.whole_answer) == message_of(WHOLE)
    assert keeper.senders() == []


def test_without_an_outbox_it_is_what_is_stored() -> None:
    """Nothing that waits changes nothing."""
    stored = EarlierTurn(conversation_id=GENERAL, question=message_of(ASKED), answer=None)
    assert merged(stored, []) is stored
    assert merged(None, []) is None


CONTEXT = {
    "finish": "length",
    "model": "gpt-4o-mini",
    "trace_id": TRACE_ID,
    "token_usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    "fallback_used": "model",
    "warnings": ["project_unavailable", "fallback"],
    "project_id": 12,
    "history_count": 4,
    "performance_metrics": {"db_fetch_time": 0.1, "llm_response_time": 2.0},
}


def again(context: dict[str, Any], saved: Any = "database") -> TurnOutcome:
    answer = message_of(replace(WHOLE, context_data=context))
    return given_again(KEYED, EarlierTurn(conversation_id=GENERAL, question=None, answer=answer, saved=saved))


def test_all_that_was_told_is_told_again() -> None:
    """Text, model, usage, project, history, warnings and finish come from the row, with whose they are."""
    outcome = again(CONTEXT)
    draft = outcome.draft
    assert (outcome.turn_id, outcome.conversation_id, draft.text) == (KEYED.turn_id, GENERAL, "Because.")
    assert (draft.model, draft.finish, draft.fallback, draft.agent) == ("gpt-4o-mini", "length", "model", None)
    assert draft.usage == TokenUsage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
    assert outcome.project is not None
    assert (outcome.project.id, outcome.history_count) == (12, 4)
    assert (outcome.warnings, outcome.saved) == (("project_unavailable", "fallback"), "database")
    assert outcome.replayed == {"trace_id": TRACE_ID, "performance_metrics": CONTEXT["performance_metrics"]}


def test_one_that_waits_says_so() -> None:
    """From the outbox it is `saved: outbox`, with that warning beside its own."""
    outcome = again(CONTEXT, "outbox")
    assert (outcome.saved, outcome.warnings[-1]) == ("outbox", "save_deferred")


def test_what_a_row_does_not_tell_is_left_out() -> None:
    """A row with nothing but its finish, as an importer may have made it, can be told again."""
    outcome = again({"finish": "stop"})
    assert (outcome.draft.text, outcome.draft.usage, outcome.project, outcome.warnings) == ("Because.", None, None, ())
    assert outcome.replayed == {"trace_id": None, "performance_metrics": None}


def test_the_agents_fields_are_told_again() -> None:
    """All six of them, as they were stored."""
    fields = {name: {"of": name} for name in AGENT_FIELDS}
    agent = again({**CONTEXT, **fields}).draft.agent
    assert agent is not None
    assert agent.as_reply() == fields


async def test_a_repeat_asks_nobody_and_writes_nothing(autojump_clock: MockClock) -> None:
    """Not even with every slot of the model taken: it ends with the fetch; its text is told as a stream's is."""
    database, model = MemoryDatabase(), PacedModel()
    async with open_house(database, model, slots=1) as house:
        first = (await house.ask(KEYED)).result
        rows, writes = dict(database.rows), len(database.writes)
        model.pieces = [(never, "")]
        blocking = house.turns.begin(question("Blocks"), TRACE_ID)
        turn = house.turns.begin(KEYED, TRACE_ID)
        await turn.feed.until_over()
        assert (turn.feed.begun, turn.feed.whole_text) == (True, "Yes. And you?")
        assert turn.feed.conversation_id == str(GENERAL)
        blocking.leave()
    assert isinstance(first, TurnOutcome)
    assert turn.feed.end is not None
    result = turn.feed.end.result
    assert isinstance(result, TurnOutcome)
    assert (result.draft.text, result.draft.usage, result.turn_id) == (
        first.draft.text,
        first.draft.usage,
        first.turn_id,
    )
    assert [result.replayed is None, first.replayed is None] == [False, True]
    assert len(model.asked) == 2
    assert database.rows.items() >= rows.items()
    assert len(database.writes) == writes + 2, "only of the turn that blocks"


@pytest.mark.parametrize(("plan", "seconds"), [("concurrent", 1.0), ("sequential", 3.0)])
async def test_it_is_asked_for_beside_the_history(plan: Plan, seconds: float, autojump_clock: MockClock) -> None:
    """In the concurrent plan three questions cost the time of one; the sequential one asks one after the other."""
    database = MemoryDatabase(before_history=after(1), before_earlier=after(1), before_project=after(1))
    async with open_house(database, plan=plan) as house:
        end = await house.ask(replace(KEYED, page_id="project-1"))
    assert end.clock.seconds("db_fetch") == pytest.approx(seconds)


@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
@pytest.mark.parametrize(("before", "code"), [(failing(DOWN), "database_unavailable"), (never, "stage_timeout")])
async def test_one_that_cannot_be_looked_for_is_not_answered(
    before: Any, code: str, plan: Plan, autojump_clock: MockClock
) -> None:
    """Whether it was answered is unknown: the fetch fails as it does without the history, and the model is not paid."""
    model = PacedModel()
    async with open_house(MemoryDatabase(before_earlier=before), model, plan=plan) as house:
        fault = (await house.ask(KEYED)).result
    assert isinstance(fault, Fault)
    assert (fault.code, model.asked) == (code, [])
    if isinstance(fault, StageTimeout):
        assert fault.stage == "db_fetch"
        assert trio.current_time() == pytest.approx(5.0)


@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
async def test_a_repeats_prompt_has_none_of_its_own_rows(plan: Plan, autojump_clock: MockClock) -> None:
    """Neither its question, nor the half answer; what was said before and since is there, and the new row is last."""
    model = PacedModel()
    database = MemoryDatabase(conversations={GENERAL: ("u1", "general")})
    async with open_house(database, model, plan=plan) as house:
        await house.ask(question("Before"))
        latest = max(each.created_at for each in database.rows.values())
        asked, half = (moved(each, latest) for each in (ASKED, HALF))
        database.rows |= {asked.key: asked, half.key: half}
        await house.ask(question("After"))
        outcome = (await house.ask(KEYED)).result
    said = [message.content for message in model.asked[-1].messages[1:]]
    assert said == ["Before", "Yes. And you?", "After", "Yes. And you?", "Why?"]
    assert isinstance(outcome, TurnOutcome)
    assert (outcome.history_count, outcome.replayed, outcome.saved) == (4, None, "database")


def moved(row: LogRow, at: datetime) -> LogRow:
    return replace(row, created_at=at + (row.created_at - NOON) + timedelta(milliseconds=1))


async def test_another_conversation_under_the_key(autojump_clock: MockClock) -> None:
    """The same message on another page is no repeat."""
    model = PacedModel()
    async with open_house(MemoryDatabase(), model) as house:
        await house.ask(KEYED)
        fault = (await house.ask(replace(KEYED, page_id="notes"))).result
    assert isinstance(fault, CallerFault)
    assert (fault.code, len(model.asked)) == ("idempotency_mismatch", 1)


async def test_a_repeat_goes_on_in_the_conversation_that_stands(autojump_clock: MockClock) -> None:
    """Rows that wait under the id of a conversation which lost its page, before that is known, are of this turn."""
    keeper, database = MemoryKeeper(), MemoryDatabase(conversations={uuid.UUID(int=7): ("u1", "general")})
    await keeper.put([ASKED, WHOLE], title="Why?")
    async with open_house(database, outbox=keeper) as house:
        outcome = (await house.ask(KEYED)).result
    assert isinstance(outcome, TurnOutcome), outcome
    assert (outcome.draft.text, outcome.saved) == ("Because.", "outbox")
