"""A turn cancelled at any moment: the model stops, the slot comes back, and what was begun is stored. Virtual time."""

import random

import pytest
import trio
from trio.testing import MockClock

from tests.standins import MemoryDatabase, PacedModel, after, never, open_house, question

MOMENTS = [round(0.05 + 0.1 * step, 2) for step in range(16)]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_client_that_leaves_cancels_its_turn(moment: float, autojump_clock: MockClock) -> None:
    """Whenever the client leaves, no slot, span or model call stays; a stored question has its one answer row."""
    await leave_at(moment)


@pytest.mark.soak
async def test_a_client_that_leaves_at_any_of_5000_moments(autojump_clock: MockClock) -> None:
    """The same at 5,000 seeded moments between the turn's start and its end."""
    moments = random.Random(20261122)
    for _ in range(5000):
        await leave_at(moments.uniform(0, 1.7))


async def leave_at(moment: float) -> None:
    """Run a turn that takes 1.5 s and let its client leave after `moment` seconds."""
    database = MemoryDatabase(
        before_history=after(0.2),
        before_conversation=after(0.1),
        before_write=[after(0.2), after(0.2)],
    )
    model = PacedModel(pieces=[(after(0.2), "one "), (after(0.2), "two "), (after(0.2), "three")])
    async with open_house(database, model) as house:
        with trio.move_on_after(moment) as client:
            await house.ask(question())
        left_at = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert model.talking == 0, "the model is asked no longer"
        assert house.gate.statistics().borrowed == 0
    assert house.seen.spans.open == {}
    assert trio.current_time() - left_at <= 4.0
    senders = database.senders()
    assert senders in ([], ["user", "assistant"])
    if senders and client.cancelled_caught and moment < 0.8:
        assert database.stored("assistant").context_data["finish"] == "cancelled"
        assert "one two three".startswith(database.stored("assistant").message.strip())


async def test_cancelled_in_the_queue_frees_the_place(autojump_clock: MockClock) -> None:
    """A client that leaves while its turn waits for a slot leaves nobody waiting and stores nothing."""
    database = MemoryDatabase()
    async with (
        open_house(database, PacedModel(pieces=[(after(3), "Yes.")]), slots=1) as house,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(house.ask, question("one"))
        await trio.sleep(0.5)
        with trio.move_on_after(1):
            await house.ask(question("two"))
        await trio.testing.wait_all_tasks_blocked()
        assert house.gate.statistics().waiting == 0
    assert database.senders() == ["user", "assistant"]


async def test_a_stalled_save_does_not_hold_the_drain_for_ever(autojump_clock: MockClock) -> None:
    """A cancelled turn whose database stalls is over when its two saves have used up their deadlines."""
    async with open_house(MemoryDatabase(before_write=[never, never])) as house:
        with trio.move_on_after(0.0001):
            await house.ask(question())
        left_at = trio.current_time()
    assert trio.current_time() - left_at <= 4.0


async def test_the_outcome_of_a_cancelled_turn_is_cancelled(autojump_clock: MockClock) -> None:
    """Telemetry calls a turn whose client left `cancelled`, on the turn and on the stage it was in."""
    async with open_house(model=PacedModel(pieces=[(never, "")])) as house:
        with trio.move_on_after(1):
            await house.ask(question())
    (facts,) = house.seen.facts
    assert (facts.outcome, facts.error_type) == ("cancelled", "cancelled")
    attributes = house.seen.spans.named("chat paced").attributes or {}
    assert attributes["error.type"] == "cancelled"
