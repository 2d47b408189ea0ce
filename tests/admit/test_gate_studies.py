"""The lower class: studies have slots that no turn wants, and give them up for the first turn that does."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.admit.hall import Hall


async def test_a_study_waits_for_what_turns_leave(autojump_clock: MockClock) -> None:
    """A freed slot is the longest waiting turn's; only what is left over is a study's, however long that has waited."""
    hall = Hall(slots=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "one", 1.0)
        await wait_all_tasks_blocked()
        nursery.start_soon(hall.study, 1.0)
        await wait_all_tasks_blocked()
        nursery.start_soon(hall.turn, "two", 1.0)
        await trio.sleep(1.5)
        assert (list(hall.inside), hall.gate.statistics().studies) == (["two"], 0)
        await trio.sleep(1.0)
        assert (list(hall.inside), hall.gate.statistics().studies) == ([], 1)
    assert trio.current_time() == 3.0
    assert hall.empty()


async def test_the_newest_study_makes_way(autojump_clock: MockClock) -> None:
    """A turn that finds no free slot ends one study, the newest, in that instant; the others go on."""
    hall, done = Hall(slots=3), dict[str, bool]()

    async def study(name: str) -> None:
        done[name] = await hall.study(5.0)

    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third"):
            nursery.start_soon(study, name)
            await wait_all_tasks_blocked()
        await trio.sleep(1.0)
        await hall.turn("turn", 1.0)
        assert hall.starts["turn"] == 1.0
        assert done == {"third": False}
    assert done == {"third": False, "first": True, "second": True}
    assert not hall.told["turn"].places, "it did not have to wait, so it is told no place"
    assert hall.empty()


async def test_a_turn_that_may_not_go_ends_no_study(autojump_clock: MockClock) -> None:
    """A user with all its calls leaves studies alone: its next turn could not have their slot."""
    hall = Hall(slots=2, per_user_max=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "one", 2.0, 0.0, float("inf"), "busy")
        await wait_all_tasks_blocked()
        nursery.start_soon(hall.turn, "two", 1.0, 0.5, float("inf"), "busy")
        assert await hall.study(5.0)
    assert hall.starts["two"] == 2.0
    assert hall.empty()


async def test_after_a_cut_studies_make_way_first(autojump_clock: MockClock) -> None:
    """A cut alone ends no study; once a turn waits, as many end as it takes."""
    hall = Hall(slots=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hall.turn, "long", 10.0)
        for _ in range(3):
            nursery.start_soon(hall.study, 8.0)
        await trio.sleep(1.0)
        hall.gate.resize(2, "cut")
        await wait_all_tasks_blocked()
        assert hall.gate.statistics().studies == 3
        await hall.turn("turn", 1.0)
        assert hall.starts["turn"] == 1.0
        assert hall.gate.statistics().studies == 0
    assert hall.empty()


async def test_a_slot_taken_back_before_the_study_began_is_no_end(autojump_clock: MockClock) -> None:
    """A slot that comes free and is wanted in the same instant is the turn's; the study waits on for the next."""
    for _ in range(20):  # which of the two comes first is drawn by Trio
        hall, begun = Hall(slots=1), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hall.turn, "holder", 1.0)
            await wait_all_tasks_blocked()
            nursery.start_soon(hall.turn, "turn", 1.0, 1.0)
            assert await hall.study(1.0)
        assert hall.starts["turn"] - begun == 1.0
        assert trio.current_time() - begun == 3.0
        assert hall.empty()
