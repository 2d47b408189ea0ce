"""The turn nursery: who cancels a turn, who waits for it, and what one broken turn does to the others. Virtual time."""

import logging
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.errors import CallerFault, DatabaseFault, Fault, OverloadFault
from app.turn import TurnOutcome
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


async def breaking_when_cancelled() -> None:
    """Stall for ever; when that is cancelled, fail with an error of one's own, as a broken clean-up does."""
    try:
        await trio.sleep_forever()
    finally:
        raise KeyError("broken clean-up")


async def test_in_flight_counts_the_turns_that_run(autojump_clock: MockClock) -> None:
    """A turn counts from its start until its last save is over."""
    async with open_house(MemoryDatabase(), PacedModel(pieces=[(after(1), "Yes.")])) as house:
        assert house.turns.in_flight() == 0
        async with trio.open_nursery() as followers:
            followers.start_soon(house.ask, question())
            followers.start_soon(house.ask, question())
            await wait_all_tasks_blocked()
            assert house.turns.in_flight() == 2
        await wait_all_tasks_blocked()
        assert house.turns.in_flight() == 0


async def test_a_follower_that_leaves_cancels_its_own_turn_only(autojump_clock: MockClock) -> None:
    """The turn of a client that left is cancelled at once; another user's goes on to its end."""
    model = PacedModel(pieces=[(after(5), "Yes.")])
    async with open_house(MemoryDatabase(), model) as house, trio.open_nursery() as followers:
        with trio.move_on_after(1):
            followers.start_soon(house.ask, question(user_id="u2"))
            await house.ask(question())
        assert trio.current_time() == pytest.approx(1.0)
        await wait_all_tasks_blocked()
        assert model.talking == 1
    outcomes = sorted(facts.outcome for facts in house.seen.facts)
    assert outcomes == ["cancelled", "ok"]


async def test_the_nursery_waits_for_saves_that_a_cancellation_left(autojump_clock: MockClock) -> None:
    """The follower is gone at once; the turn counts as running until its shielded saves have written both rows."""
    database = MemoryDatabase(before_write=[after(1.0), after(1.0)])
    async with open_house(database, PacedModel(pieces=[(never, "")])) as house:
        with trio.move_on_after(0.5):
            await house.ask(question())
        assert trio.current_time() == pytest.approx(0.5)
        assert (house.turns.in_flight(), database.senders()) == (1, [])
    assert trio.current_time() == pytest.approx(2.0)
    assert (house.turns.in_flight(), database.senders()) == (0, ["user", "assistant"])


async def test_a_turn_that_the_servers_end_cancels_is_refused_as_draining(autojump_clock: MockClock) -> None:
    """Whoever still follows is told 503 `draining`, not a broken connection; what there is has been saved."""
    database, refused = MemoryDatabase(), list[Fault]()
    model = PacedModel(pieces=[(at_once, "Half"), (never, "")])

    async def follow(house: House) -> None:
        with pytest.raises(OverloadFault) as caught:
            await house.ask(question())
        refused.append(caught.value)

    async with trio.open_nursery() as handlers:
        with trio.move_on_after(1) as server:
            async with open_house(database, model) as house:
                handlers.start_soon(follow, house)
                await trio.sleep_forever()
    assert server.cancelled_caught
    assert [(fault.code, fault.kind.status) for fault in refused] == [("draining", 503)]
    assert database.stored("assistant").message == "Half"
    assert database.stored("assistant").context_data["finish"] == "cancelled"
    assert [facts.outcome for facts in house.seen.facts] == ["cancelled"]


async def test_an_error_that_comes_with_a_cancellation_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A real error raised while a turn is cancelled is told once, with its stack and the turn's id."""
    database = MemoryDatabase(before_history=never, before_project=breaking_when_cancelled)
    async with open_house(database) as house:
        with trio.move_on_after(1):
            await house.ask(turn := question(project_id="1"))
    (error,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (error.getMessage(), vars(error)["turn_id"]) == ("turn.failed", str(turn.turn_id))
    assert "broken clean-up" in caplog.text
    assert house.seen.spans.open == {}


async def test_an_error_that_comes_with_a_cancellation_ends_no_other_turn(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The turns beside a broken one go on: what it raised stays inside its own boundary."""
    database = MemoryDatabase(before_project=breaking_when_cancelled)
    ends = []
    async with open_house(database, PacedModel(pieces=[(after(5), "Yes.")])) as house, trio.open_nursery() as handlers:

        async def follow() -> None:
            ends.append(await house.ask(question(user_id="u2")))

        handlers.start_soon(follow)
        await trio.sleep(1)
        database.before_history = never
        with trio.move_on_after(1):
            await house.ask(question(project_id="1"))
    assert [type(end.result) for end in ends] == [TurnOutcome]


async def test_an_error_that_replaces_a_cancellation_is_logged_too(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """When the cancelled code raises only its own error, that is an ordinary failed turn."""
    async with open_house(MemoryDatabase(before_history=breaking_when_cancelled)) as house:
        with trio.move_on_after(1):
            await house.ask(question())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == ["turn.failed"]
    assert [facts.outcome for facts in house.seen.facts] == ["internal_error"]


async def test_a_bug_is_a_fault_of_ours_without_its_text(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The follower gets `internal_error`; its note names the class only, and the stack is in the log."""
    async with open_house(MemoryDatabase(before_history=failing(KeyError("private words")))) as house:
        end = await house.ask(question())
    assert isinstance(end.result, Fault)
    assert (end.result.code, "private words" in end.result.note) == ("internal_error", False)
    assert "private words" in caplog.text


@pytest.mark.parametrize(
    ("fault", "event", "level"),
    [
        (DatabaseFault("database_unavailable", "down", error_type="ConnectError"), "turn.failed", logging.WARNING),
        (CallerFault("not_found", "no such"), "turn.refused", logging.INFO),
        (OverloadFault("overloaded", "full"), "turn.refused", logging.WARNING),
    ],
)
async def test_a_fault_is_logged_once_by_who_is_to_blame(
    fault: Fault, event: str, level: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line with code, note and the turn's id; what the caller did is information, the rest a warning."""
    caplog.set_level(logging.INFO)
    async with open_house(MemoryDatabase(before_history=failing(fault))) as house:
        end = await house.ask(turn := question())
    assert end.result is fault
    (record,) = [record for record in caplog.records if record.name == "app.edge.turns"]
    assert (record.getMessage(), record.levelno) == (event, level)
    facts = vars(record)
    assert (facts["turn_id"], facts["code"], facts["note"]) == (str(turn.turn_id), fault.code, fault.note)


async def test_what_a_turn_came_to_is_told_to_telemetry(autojump_clock: MockClock) -> None:
    """A turn with a warning is `degraded`; its facts carry model, finish, where it is saved, and tokens."""
    down = DatabaseFault("database_unavailable", error_type="ConnectError")
    async with open_house(MemoryDatabase(before_project=failing(down))) as house:
        await house.ask(question(project_id="1"))
    (facts,) = house.seen.facts
    assert (facts.outcome, facts.error_type) == ("degraded", None)
    assert facts.details == {
        "model_request_id": "q1",
        "model": "paced-1",
        "finish": "stop",
        "saved": "database",
        "history_count": 0,
        "warnings": ["project_unavailable"],
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
    }


async def test_a_client_that_leaves_a_stream_cancels_its_turn(autojump_clock: MockClock) -> None:
    """Who leaves in the middle of an answer ends that turn, and nothing else in the nursery."""
    model = PacedModel(pieces=[(after(1), "One. "), (after(1), "Two. ")])
    async with open_house(model=model) as house:
        turn = house.turns.begin(question(), TRACE_ID)
        follower = turn.feed.follower()
        while "One. " not in await follower.more():
            pass
        turn.leave()
        end = await house.ask(question())
        assert isinstance(end.result, TurnOutcome)
    assert [facts.outcome for facts in house.seen.facts] == ["cancelled", "ok"]


async def test_a_turn_that_the_drain_ends_says_so(autojump_clock: MockClock) -> None:
    """Its follower is told `draining`, and telemetry tells it from a turn whose client left."""
    async with open_house(model=PacedModel(pieces=[(never, "")])) as house, trio.open_nursery() as nursery:
        nursery.start_soon(end_when_asked, house)
        end = await house.ask(question())
        assert isinstance(end.result, OverloadFault)
        assert end.result.code == "draining"
    (facts,) = house.seen.facts
    assert (facts.outcome, facts.error_type) == ("cancelled", "draining")


async def end_when_asked(house: House) -> None:
    await wait_all_tasks_blocked()
    house.turns.end()


async def test_the_same_turn_does_not_run_twice(autojump_clock: MockClock) -> None:
    """While it runs, be it told or not, it is refused with a hint when to come again; then it may run again."""
    model = PacedModel(pieces=[(after(1), "Yes.")])
    same = question()
    async with open_house(model=model) as house:
        turn = house.turns.begin(same, TRACE_ID)
        for again in (same, replace(same, message="Another?")):
            with pytest.raises(CallerFault) as caught:
                house.turns.begin(again, TRACE_ID)
            assert (caught.value.code, caught.value.retry_after_s) == ("turn_in_progress", 1.0)
        with pytest.raises(CallerFault):
            await house.ask(same)
        assert (house.turns.in_flight(), len(house.turns.table.running("u1", "general"))) == (1, 1)
        await turn.feed.until_over()
        assert isinstance((await house.ask(same)).result, TurnOutcome)
    assert len(model.asked) == 2


async def test_a_turn_that_was_cut_short_runs_until_it_is_saved(autojump_clock: MockClock) -> None:
    """Its client left, its rows are still being written: it is refused until they are."""
    database = MemoryDatabase(before_write=[after(1), after(1)])
    same = question()
    async with open_house(database, PacedModel(pieces=[(at_once, "Half"), (never, "")])) as house:
        with trio.move_on_after(0.5):
            await house.ask(same)
        with pytest.raises(CallerFault):
            await house.ask(same)
        await house.turns.over()
        assert database.senders() == ["user", "assistant"]
        with trio.move_on_after(0.5):
            await house.ask(same)


async def test_a_turn_that_could_not_begin_may_be_asked_for_again(autojump_clock: MockClock) -> None:
    """What failed leaves nothing behind that would refuse the next."""
    down = DatabaseFault("database_unavailable", error_type="ConnectError")
    database = MemoryDatabase(before_history=failing(down))
    same = question()
    async with open_house(database) as house:
        assert (await house.ask(same)).result is down
        database.before_history = at_once
        assert isinstance((await house.ask(same)).result, TurnOutcome)
