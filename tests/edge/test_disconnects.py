"""Many clients that leave at random moments in random ways: nothing of them stays. Seeded, so it can be repeated."""

import logging
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.edge.house import LEAVINGS, PATHS, House, ask, open_house, until
from tests.server.process import WAIT_S
from tests.server.rows import stored

SEED = 20261122
CLIENTS_AT_ONCE, SLOTS, USERS = 20, 6, 12
WHOLE = 1 << 20
"""Bytes that no answer has: however slow the machine is, some clients stay for the whole of it."""
MEDIAN_S, EVER_S = 0.5, 5.0
"""For a departure to end its model call, on a machine that is busy; test_leaving.py holds each kind to the 100 ms."""
NEVER_SHORT: dict[str, Any] = {"llm_queue_timeout": 60.0, "db_save_timeout": 20.0, "db_fetch_timeout": 20.0}
"""Nothing but a departure may end a turn here."""


@dataclass(slots=True)
class Leavers:
    """Clients that leave. `left_at` is when each did, by its question; `stages`, how many of them did so where."""

    house: House
    path: str
    left_at: dict[str, float] = field(default_factory=dict)
    stages: Counter[str] = field(default_factory=Counter)

    async def come_and_go(self, count: int) -> None:
        """Let so many clients come, some at once, and return when all have left."""
        numbers = iter(range(count))
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS_AT_ONCE):
                nursery.start_soon(self._some, numbers)

    async def _some(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            await self._one(number, random.Random(f"{SEED} {number}"))

    async def _one(self, number: int, seeded: random.Random) -> None:
        """Ask; go on for a while, or until some bytes or the whole answer have come; leave."""
        question, user = f"question{number}", f"user{number % USERS}"
        first_s, each_s = seeded.uniform(0, 0.1), seeded.uniform(0, 0.005)
        most_s, most_bytes = seeded.uniform(0, 0.6), seeded.choice((seeded.randrange(1, 3000), WHOLE))
        patience = seeded.choice((self._for_a_time, self._once_asked, self._once_asked, self._for_some_bytes))
        leave, behind = seeded.choice(list(LEAVINGS.values())), seeded.choice((0.0, 0.0, 0.5, 1.0))
        following = ask(self.path, f"behind{number}", user)
        async with self.house.client() as client:
            await client.send_all(ask(self.path, f"{question} [[fault: slow first={first_s} each={each_s}]]", user))
            with trio.fail_after(WAIT_S):
                await patience(client, question, most_s, most_bytes)
            await client.send_all(following[: int(len(following) * behind)])
            self.stages[self._stage(question)] += 1
            self.left_at[question] = time.perf_counter()
            leave(client)
            with trio.fail_after(WAIT_S):  # whoever shuts one side down is told of the end
                await ended(client)

    async def _for_a_time(self, client: trio.SocketStream, question: str, most_s: float, most_bytes: int) -> None:
        await trio.sleep(most_s)

    async def _once_asked(self, client: trio.SocketStream, question: str, most_s: float, most_bytes: int) -> None:
        await self.house.model.begun[question].wait()
        await trio.sleep(most_s)

    async def _for_some_bytes(self, client: trio.SocketStream, question: str, most_s: float, most_bytes: int) -> None:
        taken = b""
        while len(taken) < most_bytes and not taken.endswith((b"}", b"0\r\n\r\n")):
            taken += await client.receive_some(most_bytes)

    def _stage(self, question: str) -> str:
        pieces = self.house.model.pieces.get(question)
        if pieces is None:
            return "after" if question in self.house.model.ended_at else "before"
        return "speaking" if pieces else "asked"

    def seconds(self) -> list[float]:
        """Return how long each model call went on whose client had left."""
        ended_at = self.house.model.ended_at
        return sorted(ended_at[each] - at for each, at in self.left_at.items() if ended_at.get(each, 0) > at)


async def ended(client: trio.SocketStream) -> None:
    """Read what there is, to the end; of a connection of one's own that is closed there is nothing."""
    try:
        while await client.receive_some():
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.soak)])
async def test_nothing_stays_of_those_who_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, count: int
) -> None:
    """No slot, task, span, connection or model call stays, and each stored question has its one answer."""
    caplog.set_level(logging.WARNING)
    async with open_house(tmp_path, openai_api_pool_size=SLOTS, max_connections=100, **NEVER_SHORT) as house:
        for number in range(USERS):
            await house.database.ensure_user(f"user{number}")
        leavers = Leavers(house, path)
        await leavers.come_and_go(CLIENTS_AT_ONCE)  # so that what stays for good is there
        await house.rest()
        tasks = trio.lowlevel.current_statistics().tasks_living
        leavers = Leavers(house, path)
        await leavers.come_and_go(count)
        await house.rest()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks, "all tasks have ended")
        assert (house.slots, house.calls(), house.model.pieces, house.spans.open) == ((0, 0), 0, {}, {})
    assert set(leavers.stages) >= {"before", "speaking", "after"}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    check_rows(tmp_path, asked=set(house.model.ended_at))
    check_seconds(path, leavers)


def check_rows(data_dir: Path, asked: set[str]) -> None:
    """Check that each turn has its two rows, and that whoever's question reached the model has them."""
    turns = defaultdict(list)
    for row in stored(data_dir):
        turns[row["turn_id"]].append(row)
    assert all([row["sender"] for row in rows] == ["user", "assistant"] for rows in turns.values())
    finishes = Counter(answer["context_data"]["finish"] for _question, answer in turns.values())
    assert set(finishes) == {"cancelled", "stop"}
    assert asked <= {question["message"].split()[0] for question, _answer in turns.values()}
    print(f"{len(turns)} turns stored: {dict(finishes)}")  # noqa: T201 - the figure is the point


def check_seconds(path: str, leavers: Leavers) -> None:
    """Print how soon the model calls ended, and judge it."""
    seconds = leavers.seconds()
    p50, p99, most = (f"{1e3 * at:.1f}" for at in (statistics.median(seconds), percentile(seconds, 99), seconds[-1]))
    left = ", ".join(f"{stage} {count}" for stage, count in leavers.stages.items())
    print(f"{path}: {len(seconds)} model calls ended after p50 {p50}, p99 {p99}, max {most} ms; left: {left}")  # noqa: T201 - the figure is the point
    assert statistics.median(seconds) <= MEDIAN_S
    assert seconds[-1] <= EVER_S


def percentile(ordered: list[float], percent: int) -> float:
    """Return the value that so many percent do not exceed."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
