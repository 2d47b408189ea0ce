"""What a turn tells its followers: live, in order, the whole of it to whoever comes late. Virtual time."""

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from app.edge.turn_feed import Follower, QueueShown, StageShown, Told, TurnEnd, TurnFeed
from app.errors import DatabaseFault, Fault, OverloadFault
from app.generate.model_call import MAX_ANSWER_CHARS
from app.turn import TurnOutcome
from telemetry.stage_clock import StageClock
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

OUTER = ["db_fetch", "llm.queue", "llm", "db_save"]
WITHIN = ["fetch.conversation", "fetch.project", "save.user"]
SHOWN = OUTER + WITHIN


async def read(follower: Follower, into: list[tuple[float, Told]]) -> None:
    """Read to the end, with the time of each piece."""
    while news := await follower.more():
        into += [(trio.current_time(), told) for told in news]


def text_of(told: list[Told]) -> str:
    return "".join(each for each in told if isinstance(each, str))


def states(told: list[Told]) -> list[tuple[str, str]]:
    return [(each.stage, each.state) for each in told if isinstance(each, StageShown)]


async def test_each_piece_is_told_as_it_comes(autojump_clock: MockClock) -> None:
    """Stages and text reach a follower in the instant in which they happen, and the end comes last."""
    model = PacedModel([(after(1), "One. "), (after(2), "Two.")])
    seen: list[tuple[float, Told]] = []
    database = MemoryDatabase(before_history=after(0.5), before_write=[after(0.25)] * 2)
    async with open_house(database, model) as house:
        await read(house.turns.begin(question(), TRACE_ID).feed.follower(), seen)
    assert [(round(at, 3), told) for at, told in seen if isinstance(told, str)] == [(1.5, "One. "), (3.5, "Two.")]
    all_of_them = [(stage, state) for stage in OUTER for state in ("running", "done")]
    at_once_over = ("llm.queue", "running")
    told_of = [each for each in states([told for _, told in seen]) if each[0] in OUTER]
    assert [each for each in told_of if each != at_once_over] == [each for each in all_of_them if each != at_once_over]
    ended = [each for _, each in seen if isinstance(each, StageShown) and each.state == "done" and each.stage in OUTER]
    assert [each.at_s for each in ended] == pytest.approx([0.0, 0.5, 0.5, 3.5])
    assert [each.seconds for each in ended] == pytest.approx([0.5, 0.0, 3.0, 0.25])
    assert isinstance(seen[-1][1], TurnEnd)
    assert isinstance(seen[-1][1].result, TurnOutcome)


async def test_who_comes_late_is_told_the_text_as_one_piece(autojump_clock: MockClock) -> None:
    """In the middle of an answer: the latest state of each stage, the text so far, then all that follows, live."""
    model = PacedModel([(after(1), "One. "), (after(1), "Two. "), (after(1), "Three.")])
    async with open_house(model=model) as house:
        turn = house.turns.begin(question(), TRACE_ID)
        await trio.sleep(2.5)
        late = turn.feed.follower()
        first = late.take()
        over, running = ["fetch.conversation", "db_fetch", "llm.queue"], ["llm"]
        assert [each for each in states(first) if each[0] != "save.user"] == [
            *((stage, "done") for stage in over),
            *((stage, "running") for stage in running),
        ]
        assert first[-1] == "One. Two. "
        assert late.take() == []
        rest: list[tuple[float, Told]] = []
        await read(late, rest)
    assert (round(rest[0][0], 3), rest[0][1]) == (3.0, "Three.")
    assert text_of(turn.feed.follower().take()) == "One. Two. Three."


async def test_the_turn_waits_for_no_follower(autojump_clock: MockClock) -> None:
    """One that reads nothing holds up neither the turn nor the others, and has all of it in the end."""
    model = PacedModel([(after(1), f"{n} ") for n in range(5)])
    ends: list[float] = []

    async def follow(turn: Any, pause_s: float) -> None:
        follower = turn.feed.follower()
        await trio.sleep(pause_s)
        seen: list[tuple[float, Told]] = []
        await read(follower, seen)
        assert text_of([told for _, told in seen]) == "0 1 2 3 4 "
        ends.append(trio.current_time())

    async with open_house(model=model) as house, trio.open_nursery() as nursery:
        turn = house.turns.begin(question(), TRACE_ID)
        for pause_s in (0, 0, 2.5, 60):
            nursery.start_soon(follow, turn, pause_s)
        await house.turns.over()
        assert trio.current_time() == pytest.approx(5.0)
    assert ends == pytest.approx([5.0, 5.0, 5.0, 60.0])


async def test_a_turn_has_begun_when_it_waits_for_the_model(autojump_clock: MockClock) -> None:
    """The fetch is done, the conversation known; the wait for a slot is told live, with each step forward."""
    database = MemoryDatabase(before_history=after(1))
    positions: dict[int, list[tuple[float, int]]] = {}

    async def watch(house: House, number: int) -> None:
        await trio.sleep(0.1 * number)
        turn = house.turns.begin(question(user_id=f"u{number}"), TRACE_ID)
        await turn.feed.until_begun()
        assert trio.current_time() == pytest.approx(1 + 0.1 * number)
        assert turn.feed.conversation_id
        seen: list[tuple[float, Told]] = []
        await read(turn.feed.follower(), seen)
        positions[number] = [(round(at, 1), told.position) for at, told in seen if isinstance(told, QueueShown)]

    model = PacedModel([(after(2), "Yes.")])
    async with open_house(database, model, slots=1) as house, trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(watch, house, number)
    assert positions == {0: [], 1: [(1.1, 1)], 2: [(1.2, 2), (3.0, 1)], 3: [(1.3, 3), (3.0, 2), (5.0, 1)]}


async def test_who_leaves_the_queue_lets_the_others_step_forward(autojump_clock: MockClock) -> None:
    """The places behind a turn that gives up are told anew, with an estimate of the wait; one that is in has none."""
    async with open_house(model=PacedModel([(never, "")]), slots=1) as house:
        turns = []
        for number in range(3):
            turns.append(house.turns.begin(question(user_id=f"u{number}"), TRACE_ID))
            await wait_all_tasks_blocked()
        waiting = turns[2].feed.follower()
        assert [told for told in waiting.take() if isinstance(told, QueueShown)] == [QueueShown(2, 2.0)]
        turns[1].cut("stopped")
        await wait_all_tasks_blocked()
        assert waiting.take() == [QueueShown(1, 1.0)]
        turns[0].cut("stopped")
        await wait_all_tasks_blocked()
        assert [each for each in states(waiting.take()) if each[0] in OUTER] == [
            ("llm.queue", "done"),
            ("llm", "running"),
        ]
        assert not [told for told in turns[2].feed.follower().take() if isinstance(told, QueueShown)]
        house.turns.end()


async def test_what_fails_before_has_not_begun(autojump_clock: MockClock) -> None:
    """A turn whose fetch fails is over without having begun, and its end says why."""
    down = DatabaseFault("database_unavailable")
    async with open_house(MemoryDatabase(before_history=failing(down))) as house:
        turn = house.turns.begin(question(), TRACE_ID)
        await turn.feed.until_begun()
        assert (turn.feed.begun, turn.feed.end and turn.feed.end.result) == (False, down)


async def test_a_follower_is_told_when_the_server_ends_first(autojump_clock: MockClock) -> None:
    """When the turn's task is cancelled from outside, its followers come to an end without one."""
    with trio.move_on_after(2):
        async with open_house(model=PacedModel([(after(1), "Half"), (never, "")])) as house:
            follower = house.turns.begin(question(), TRACE_ID).feed.follower()
            await trio.sleep_forever()
    told = await follower.more()
    assert (text_of(told), [each for each in told if isinstance(each, TurnEnd)]) == ("Half", [])
    assert await follower.more() == []


async def test_an_answer_without_end_is_cut_off(autojump_clock: MockClock) -> None:
    """A host that talks on and on is a fault at the limit: what fits is kept, told and stored, and the slot is free."""
    piece = "x" * (MAX_ANSWER_CHARS // 3)
    database, model = MemoryDatabase(), PacedModel([(at_once, piece)] * 10)
    async with open_house(database, model, turn_timeout_s=5) as house:
        turn = house.turns.begin(question(), TRACE_ID)
        await turn.feed.until_over()
        assert house.gate.statistics().borrowed == 0
    assert turn.feed.end
    assert isinstance(turn.feed.end.result, Fault)
    assert (turn.feed.end.result.code, turn.feed.end.result.error_type) == ("model_error", "answer_too_long")
    assert len(text_of(turn.feed.follower().take())) == 3 * len(piece) == len(database.stored("assistant").message)
    assert database.stored("assistant").context_data["finish"] == "error"


@pytest.mark.parametrize(("wish", "outcome"), [("cancel", "cancelled"), ("continue", "ok")])
async def test_what_leaving_does_is_the_requests_wish(wish: Any, outcome: str, autojump_clock: MockClock) -> None:
    """A client that leaves cancels its turn, or lets it go on to its end; a JSON turn the same."""
    database = MemoryDatabase()
    async with open_house(database, PacedModel([(after(1), "Yes."), (after(1), " No.")])) as house:
        house.turns.begin(question(on_disconnect=wish), TRACE_ID)
        (streamed,) = house.turns.table.running("u1", "general")
        with trio.move_on_after(1.5):
            await house.ask(question(user_id="u2", on_disconnect=wish))
        streamed.leave()
        await house.turns.over()
    assert [facts.outcome for facts in house.seen.facts] == [outcome] * 2
    texts = {row.message for row in database.rows.values() if row.sender == "assistant"}
    assert texts == ({"Yes."} if wish == "cancel" else {"Yes. No."})


async def test_a_turn_that_is_stopped_says_whose_doing_it_was(autojump_clock: MockClock) -> None:
    """Its end is `stopped`, once it is saved as cancelled; telemetry tells it from a client that left."""
    database = MemoryDatabase()
    async with open_house(database, PacedModel([(after(1), "Half"), (never, "")])) as house:
        turn = house.turns.begin(question(on_disconnect="continue"), TRACE_ID)
        await trio.sleep(1.5)
        turn.cut("stopped")
        turn.cut("draining")
        await turn.feed.until_over()
        assert database.stored("assistant").context_data["finish"] == "cancelled"
    assert turn.feed.end
    assert isinstance(turn.feed.end.result, Fault)
    assert turn.feed.end.result.code == "stopped"
    (facts,) = house.seen.facts
    assert (facts.outcome, facts.error_type) == ("cancelled", "stopped")


async def test_over_waits_for_the_last_turn(autojump_clock: MockClock) -> None:
    """It returns at once when none runs, else with the last save of the last turn."""
    async with open_house(MemoryDatabase(before_write=[after(0.5)] * 4), PacedModel([(after(1), "Yes.")])) as house:
        await house.turns.over()
        assert trio.current_time() == 0
        for user_id in ("u1", "u2"):
            house.turns.begin(question(user_id=user_id), TRACE_ID)
        await house.turns.over()
        assert trio.current_time() == pytest.approx(1.5)


STAGE = st.builds(
    StageShown, st.sampled_from(SHOWN), st.sampled_from(["running", "done", "failed"]), st.just(0.5), st.none()
)
STEPS = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=5),
        STAGE,
        st.builds(QueueShown, st.integers(1, 9), st.just(1.0)),
        st.integers(0, 3),  # this follower reads
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
def test_whenever_they_read_all_are_told_the_same(steps: list[Any], ended: bool) -> None:
    """Four followers that read at any moments: the whole text each, the last state of each stage, the end once."""
    feed, told, stages = TurnFeed(), list[str](), dict[str, str]()
    followers = [feed.follower() for _ in range(4)]
    read_by: list[list[Told]] = [[] for _ in followers]
    for step in steps:
        match step:
            case int():
                read_by[step] += followers[step].take()
            case str():
                told.append(step)
                feed.text(step)
            case StageShown(stage, state, at_s, seconds):
                stages[stage] = state
                feed.stage(stage, state, at_s, seconds)
            case QueueShown(position, wait_s):
                feed.queue(position, wait_s)
    end = TurnEnd(OverloadFault("draining"), StageClock())
    if ended:
        feed.finish(end)
    else:
        feed.close()
    for each, follower in zip(read_by, followers, strict=True):
        each += follower.take()
        assert follower.take() == []
        assert text_of(each) == "".join(told)
        assert dict(states(each)) == stages
        assert [one for one in each if isinstance(one, TurnEnd)] == [end] * ended
        assert not ended or each[-1] is end


async def test_what_runs_side_by_side_is_told_as_that(autojump_clock: MockClock) -> None:
    """Both fetches begin with `db_fetch`, and the question's save with the model: each says when it began."""
    seen: list[tuple[float, Told]] = []
    database = MemoryDatabase(before_history=after(0.5), before_write=[after(0.25)] * 2)
    async with open_house(database, PacedModel([(after(2), "Yes.")])) as house:
        await read(house.turns.begin(question(page_id="project-1"), TRACE_ID).feed.follower(), seen)
        (facts,) = house.seen.facts
    began = {each.stage: each.at_s for _, each in seen if isinstance(each, StageShown)}
    assert began == pytest.approx(
        {"db_fetch": 0, "fetch.conversation": 0, "fetch.project": 0, "llm.queue": 0.5, "llm": 0.5, "save.user": 0.5}
        | {"db_save": 2.5}
    )
    assert {each.stage: each.at for each in facts.stages} == began
    assert [each.at for each in facts.stages] == sorted(began.values())
    assert facts.time_to_first_token == pytest.approx(2.5)
