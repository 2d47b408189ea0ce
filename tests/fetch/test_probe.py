"""A database that is well again is found so by the turns that have a key, which ask it for two things at once."""

import uuid

import pytest
import trio
from trio.testing import MockClock

from app.clients.breaker import Breaker, BreakerOpenError
from app.errors import DatabaseFault
from app.turn import TurnOutcome
from tests.standins import MemoryDatabase, open_house, question

OPEN_S = 1.0


class Guarded:
    """What a read does: after `late_s` seconds it asks a database behind a breaker, which answers after a while."""

    def __init__(self, breaker: Breaker, late_s: float) -> None:
        self._breaker = breaker
        self._late_s = late_s

    async def __call__(self) -> None:
        await trio.sleep(self._late_s)
        try:
            with self._breaker.call() as verdict:
                await trio.sleep(0.1)
                verdict.good()
        except BreakerOpenError as exc:
            raise DatabaseFault("database_unavailable", error_type="breaker_open") from exc


@pytest.mark.parametrize(("history_s", "earlier_s"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.05)])
async def test_the_read_that_is_refused_does_not_end_the_probe(
    history_s: float, earlier_s: float, autojump_clock: MockClock
) -> None:
    """Whichever of the two is let through: its answer closes the breaker, and the next turn is answered.

    Args:
        history_s: after how many seconds the history is asked for.
        earlier_s: the same of what there is already of the turn.
    """
    breaker = Breaker("database", open_s=OPEN_S)
    database = MemoryDatabase(before_history=Guarded(breaker, history_s), before_earlier=Guarded(breaker, earlier_s))
    with breaker.call() as verdict:
        verdict.bad(OPEN_S)
    async with open_house(database) as house:
        keyed = [question("Why?", turn_id=uuid.uuid5(uuid.NAMESPACE_DNS, f"key {number}")) for number in range(3)]
        refused = (await house.ask(keyed[0])).result
        assert isinstance(refused, DatabaseFault)
        assert (refused.error_type, breaker.state) == ("breaker_open", "open")
        await trio.sleep(OPEN_S)
        probing = (await house.ask(keyed[1])).result
        assert isinstance(probing, DatabaseFault), "a turn whose earlier answer could not be looked for is not run"
        assert (probing.error_type, breaker.state) == ("breaker_open", "closed")
        assert isinstance((await house.ask(keyed[2])).result, TurnOutcome)
