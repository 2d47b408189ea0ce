"""Every deadline of a turn names its stage. Each stage is stalled in turn; virtual time, default deadlines."""

import pytest
import trio
from trio.testing import MockClock

from app.errors import Fault, OverloadFault, StageTimeout
from app.turn import TurnOutcome
from telemetry import names
from tests.standins import MemoryDatabase, PacedModel, after, at_once, never, open_house, question

STALLS = [
    pytest.param(MemoryDatabase(before_history=never), PacedModel(), "db_fetch", 5.0, id="history"),
    pytest.param(MemoryDatabase(), PacedModel(pieces=[(never, "")]), "llm.first_token", 20.0, id="first token"),
    pytest.param(
        MemoryDatabase(), PacedModel(pieces=[(after(1), "a"), (never, "")]), "llm.idle", 11.0, id="between tokens"
    ),
    pytest.param(MemoryDatabase(), PacedModel(before_end=never), "llm.idle", 10.0, id="before the end"),
    pytest.param(MemoryDatabase(), PacedModel(pieces=[(after(9), "a ")] * 9), "llm", 40.0, id="whole call"),
]


@pytest.mark.parametrize(("database", "model", "stage", "seconds"), STALLS)
async def test_a_stalled_stage_is_a_504_that_names_it(
    database: MemoryDatabase, model: PacedModel, stage: str, seconds: float, autojump_clock: MockClock
) -> None:
    """A stage that stalls ends the turn at its deadline, with 504 and its name."""
    async with open_house(database, model) as house:
        end = await house.ask(question())
    assert isinstance(end.result, StageTimeout)
    assert (end.result.kind.status, end.result.stage) == (504, stage)
    assert end.clock.seconds("chat.turn") == pytest.approx(seconds)
    assert house.seen.facts[0].outcome == "timeout"
    assert house.gate.statistics().borrowed == 0


async def test_the_whole_turn_has_a_deadline(autojump_clock: MockClock) -> None:
    """A turn whose stages are each just in time ends at TURN_TIMEOUT, stage `turn`, and stores what it has."""
    database = MemoryDatabase(before_history=after(4.9))
    model = PacedModel(pieces=[(after(9), "word ")] * 4)
    async with open_house(database, model, turn_timeout_s=20) as house:
        end = await house.ask(question())
    assert isinstance(end.result, StageTimeout)
    assert end.result.stage == names.TURN
    assert end.clock.seconds("chat.turn") == pytest.approx(20.0)
    assert database.stored("assistant").message == "word "
    assert database.stored("assistant").context_data["finish"] == "error"


async def test_a_signal_of_life_is_no_token(autojump_clock: MockClock) -> None:
    """Empty pieces do not put the first token's deadline off; after the first token they show that the model lives."""
    waiting = PacedModel(pieces=[(after(9), "")] * 5)
    async with open_house(model=waiting) as house:
        end = await house.ask(question())
    assert isinstance(end.result, StageTimeout)
    assert end.result.stage == names.LLM_FIRST_TOKEN
    thinking = PacedModel(pieces=[(at_once, "Well"), (after(9), ""), (after(9), ""), (after(9), ", yes.")])
    async with open_house(model=thinking) as house:
        end = await house.ask(question())
    assert isinstance(end.result, TurnOutcome)


async def test_the_limiter_queue_has_a_deadline(autojump_clock: MockClock) -> None:
    """A turn that gets no slot in LLM_QUEUE_TIMEOUT is 503 `overloaded` with Retry-After, and stores nothing."""
    database = MemoryDatabase()
    async with (
        open_house(database, PacedModel(pieces=[(after(15), "Yes.")]), slots=1) as house,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(house.ask, question("one"))
        await trio.sleep(1)
        end = await house.ask(question("two"))
    assert isinstance(end.result, OverloadFault)
    assert (end.result.code, end.result.stage) == ("overloaded", "llm.queue")
    assert end.result.retry_after_s is not None
    assert end.result.retry_after_s >= 1
    assert end.clock.seconds("llm.queue") == pytest.approx(10.0)
    assert database.senders() == ["user", "assistant"]


async def test_a_stalled_save_answers_at_its_deadline(autojump_clock: MockClock) -> None:
    """When the database stalls on the answer's row, the reply comes after DB_SAVE_TIMEOUT, unsaved."""
    database = MemoryDatabase(before_write=[at_once, never])
    async with open_house(database) as house:
        end = await house.ask(question())
    assert isinstance(end.result, TurnOutcome)
    assert end.result.saved == "no"
    assert end.clock.seconds("db_save") == pytest.approx(2.0)
    assert house.seen.spans.named("db_save").attributes is not None
    assert dict(house.seen.spans.named("db_save").attributes or {})["error.type"] == "timeout.db_save"


async def test_a_database_that_stalls_for_good_bounds_the_turn(autojump_clock: MockClock) -> None:
    """Both saves stalled: the turn still ends, two save deadlines after it began to wait."""
    database = MemoryDatabase(before_write=[never, never])
    async with open_house(database) as house:
        end = await house.ask(question())
    assert not isinstance(end.result, Fault)
    assert end.clock.seconds("chat.turn") == pytest.approx(4.0)
