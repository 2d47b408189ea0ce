"""Turns in front of one gate, on virtual time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

import trio

from app.admit.gate import Gate
from app.errors import OverloadFault
from tests.standins import TRACE_ID, Watched, watched

WAIT = "llm.limiter.wait.duration"


@dataclass
class Told:
    """A `Watcher`: what one turn was told, and whether it was let in."""

    begun: bool = False
    places: list[tuple[float, int, float]] = field(default_factory=list)

    def stage(self, name: str, state: str, at_s: float, seconds: float | None) -> None:
        pass

    def let_in(self, conversation_id: str | None) -> None:
        self.begun = True

    def queue(self, position: int, estimated_wait_s: float) -> None:
        self.places.append((round(trio.current_time(), 3), position, estimated_wait_s))


class Hall:
    """Turns in front of one gate. `inside` is who has a slot now, `order` who ever got one, and when."""

    def __init__(self, slots: int, queue_timeout_s: float = 10.0, **rules: Any) -> None:
        self.gate = Gate(slots, queue_timeout_s, **rules)
        self.seen: Watched = watched()
        self.inside: dict[str, str] = {}
        self.order: list[str] = []
        self.starts: dict[str, float] = {}
        self.ended_at: dict[str, float] = {}
        self.most = 0
        self.most_of_one_user = 0
        self.refused: dict[str, OverloadFault] = {}
        self.told: dict[str, Told] = {}

    async def turn(
        self, name: str, hold_s: float, arrive_s: float = 0.0, leave_s: float = inf, user: str | None = None
    ) -> None:
        """Arrive, ask for a slot, hold it; the client leaves `leave_s` after it came."""
        await trio.sleep(arrive_s)
        with trio.move_on_after(leave_s):
            try:
                await self.hold(name, partial(trio.sleep, hold_s), user)
            except OverloadFault as fault:
                self.refused[name] = fault
        self.ended_at[name] = trio.current_time()

    async def hold(self, name: str, work: Callable[[], Awaitable[None]], user: str | None = None) -> None:
        """Hold a slot while `work` is done; without a name, its user is somebody of its own."""
        user = user or name
        self.told[name] = told = Told()
        telemetry = self.seen.telemetry
        turn = telemetry.turn(turn_id=name, user_id=user, trace_id=TRACE_ID, surface="chat", watcher=told)
        with turn as trace:
            async with self.gate.slot(trace):
                self.inside[name] = user
                self.order.append(name)
                self.starts[name] = trio.current_time()
                self.most = max(self.most, len(self.inside))
                self.most_of_one_user = max(self.most_of_one_user, list(self.inside.values()).count(user))
                try:
                    await work()
                finally:
                    del self.inside[name]

    async def study(self, hold_s: float = inf, arrive_s: float = 0.0, leave_s: float = inf) -> bool:
        """Hold a spare slot; return whether that was to its end."""
        await trio.sleep(arrive_s)
        done = False
        with trio.move_on_after(leave_s):
            async with self.gate.spare_slot():
                await trio.sleep(hold_s)
                done = True
        return done

    def waits(self) -> dict[str, int]:
        """Return how many waits were recorded, by how they ended."""
        return {str((point.attributes or {})["outcome"]): point.count for point in self.seen.points(WAIT)}

    def empty(self) -> bool:
        """Return whether nothing is kept of anybody."""
        now = self.gate.statistics()
        return (now.borrowed, now.waiting, now.users, now.studies) == (0, 0, 0, 0) and not self.seen.spans.open
