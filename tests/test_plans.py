"""Two plans of one pipeline, on virtual time: the same rows and replies in other times, and from one to the other."""

import pytest
import trio
from trio.testing import MockClock

from app.edge.observe import REQUEST, RequestFacts
from app.errors import Fault, ModelFault
from app.turn import Plan, TurnOutcome
from tests.standins import MemoryDatabase, PacedModel, after, at_once, failing, open_house, question

SECONDS: dict[Plan, float] = {"concurrent": 0.1 + 1.0 + 0.1, "sequential": 0.1 + 0.1 + 1.0 + 0.1 + 0.1}


@pytest.mark.parametrize("plan", ["concurrent", "sequential"])
async def test_what_each_plan_costs(plan: Plan, autojump_clock: MockClock) -> None:
    """At 100 ms a request and a 1 s model: 1.2 s side by side, 1.4 s one after the other."""
    database = MemoryDatabase(
        before_history=after(0.1), before_project=after(0.1), before_write=[after(0.1), after(0.1)]
    )
    async with open_house(database, PacedModel(pieces=[(after(1), "Yes.")]), plan=plan) as house:
        end = await house.ask(question(page_id="project-1"))
    assert end.clock.seconds("chat.turn") == pytest.approx(SECONDS[plan])
    assert database.senders() == ["user", "assistant"]
    assert house.seen.facts[0].plan == plan
    assert all((span.attributes or {})["chat.plan"] == plan for span in house.seen.spans.ended)
    assert {(point.attributes or {})["plan"] for point in house.seen.points("chat.turn.duration")} == {plan}
    assert {(point.attributes or {})["plan"] for point in house.seen.points("chat.stage.duration")} == {plan}


async def test_a_failing_model_leaves_the_same_rows_in_both(autojump_clock: MockClock) -> None:
    """Also one after the other, a failing model leaves the question and one answer row."""
    database = MemoryDatabase()
    model = PacedModel(pieces=[(at_once, "Half"), (failing(ModelFault("model_error")), "")])
    async with open_house(database, model, plan="sequential") as house:
        await house.ask(question())
    assert database.senders() == ["user", "assistant"]
    assert database.stored("assistant").message == "Half"


async def test_a_bug_before_the_model_is_asked_costs_a_second_go(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception in the concurrent plan is logged and counted, and the sequential plan answers."""
    request = RequestFacts(request_id="r", trace_id="t")
    REQUEST.set(request)
    attempts = iter([failing(KeyError("bug")), at_once])
    database = MemoryDatabase()

    async def before() -> None:
        await next(attempts)()

    database.before_history = before
    async with open_house(database) as house:
        end = await house.ask(question())
    assert isinstance(end.result, TurnOutcome)
    assert end.result.plan == house.seen.facts[0].plan == request.plan == "sequential"
    assert house.seen.facts[0].details["fallback"] == "plan"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["plan.failed"]
    assert database.senders() == ["user", "assistant"]


async def test_a_fault_is_no_bug(autojump_clock: MockClock) -> None:
    """A typed fault ends the turn under the plan it has."""
    model = PacedModel()
    async with open_house(MemoryDatabase(before_history=failing(ModelFault("model_error"))), model) as house:
        end = await house.ask(question())
    assert isinstance(end.result, Fault)
    assert house.seen.facts[0].plan == "concurrent"


async def test_once_the_model_was_asked_there_is_no_second_go(autojump_clock: MockClock) -> None:
    """A bug after that is a 500: the model is not paid twice."""
    model = PacedModel(pieces=[(failing(KeyError("bug")), "")])
    async with open_house(model=model) as house:
        end = await house.ask(question())
    assert isinstance(end.result, Fault)
    assert (end.result.code, len(model.asked)) == ("internal_error", 1)


async def test_a_cancelled_sequential_turn_leaks_nothing(autojump_clock: MockClock) -> None:
    """The other plan, too, gives its slot back and stores what it has when the client leaves."""
    for step in range(1, 14):
        database = MemoryDatabase(before_history=after(0.2), before_write=[after(0.2), after(0.2)])
        model = PacedModel(pieces=[(after(0.3), "one "), (after(0.3), "two")])
        async with open_house(database, model, plan="sequential") as house:
            with trio.move_on_after(0.05 + step * 0.1):
                await house.ask(question())
            await trio.testing.wait_all_tasks_blocked()
            assert (model.talking, house.gate.statistics().borrowed) == (0, 0)
        assert database.senders() in ([], ["user", "assistant"])
        assert house.seen.spans.open == {}
