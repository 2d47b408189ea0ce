"""The gate: at most so many model calls at once, and a bounded wait for a place among them.

A slot is held while the model is asked, never during a fetch or a save. The slots are a `trio.CapacityLimiter`, whose
total is assigned live and touches no call in flight. Its own line knows neither users nor classes nor bounds, so turns
wait in one of ours (line.py) and nobody ever waits in the limiter's. The rules:

* Slots are handed out in one place, `_hand_out`, after whatever could free one or want one: a turn that comes or goes,
  another total. It does not wait, so nothing comes between finding that a slot is free and its being somebody's.
* A slot is somebody's from then on, not from when its task runs again: a turn that is cancelled in between, or whose
  deadline passes, has it. Whoever has one, or a place in line, gives it back in a `finally` that does not wait either.
* Turns go before studies: a study gets a slot that no turn may take, and gives it up for the first turn that may.
* Who would have to wait too long, or be one too many, is refused before it is let in, so its refusal has a status.

Rejected: waiting in `CapacityLimiter.acquire_on_behalf_of` with the line in front of it for users only (two lines, and
a turn in the second cannot be passed over); a condition variable on which all waiters look again (each slot that comes
free would wake them all).
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from app.admit.forecast import Place, in_turn
from app.admit.gate_statistics import GateNotes, GateStatistics, LimiterChange, Mode, Reason, Shed
from app.admit.line import Line
from app.admit.spare_slots import Spare, Spares
from app.errors import OverloadFault
from telemetry import names
from telemetry.turn_trace import TurnTrace, Watcher

TOLD_PLACES = 100
"""So far back turns are told of each step forward; with thousands behind, each step would cost them all."""
LEAST_RETRY_S = 1.0
_WHY: dict[Shed, str] = {
    "queue_full": "too many wait",
    "predicted_wait": "the wait would be too long",
    "queue_timeout": "no slot in time",
}
_NOBODY = ""


class _Turn:
    """A turn in front of the gate, or behind it."""

    __slots__ = ("began", "came", "decided", "sent_away", "told", "user", "watcher", "whole")

    def __init__(self, user: str, watcher: Watcher | None, came: float) -> None:
        self.user = user
        self.watcher = watcher
        self.came = came
        self.began: float | None = None
        self.whole = False
        self.told = 0
        self.decided = trio.Event()
        self.sent_away = False


class Gate:
    """The limiter in front of the model. Made and used in Trio's thread; any thread may ask for `statistics`.

    Args:
        slots: model calls at once.
        queue_timeout_s: seconds a turn waits for a slot before it is refused, or is predicted to.
        queue_max: turns that wait at once.
        per_user_max: calls of one user at once.
        wall: the time of day, in seconds since the epoch.
    """

    def __init__(
        self,
        slots: int,
        queue_timeout_s: float,
        *,
        queue_max: int = 64,
        per_user_max: int = 2,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._limiter = trio.CapacityLimiter(_whole(slots))
        self.queue_timeout_s = queue_timeout_s
        self.queue_max = queue_max
        self._line: Line[_Turn] = Line(per_user_max)
        self._spares = Spares(self._limiter)
        self._wall = wall
        self._now = trio.lowlevel.current_clock().current_time
        self._notes = GateNotes()
        self._soon = trio.lowlevel.current_trio_token().run_sync_soon
        self._to_tell = self._tell_again = False

    @property
    def per_user_max(self) -> int:
        """How many calls of one user there may be at once."""
        return self._line.per_user_max

    @property
    def total(self) -> int:
        """How many slots there are."""
        return int(self._limiter.total_tokens)

    @property
    def inflight(self) -> int:
        """How many of them are in use: calls of turns, and studies."""
        return self._limiter.borrowed_tokens

    @property
    def waiting(self) -> int:
        """How many turns wait for one; safe to read from any thread."""
        return len(self._line.waiting)

    @property
    def changes(self) -> tuple[LimiterChange, ...]:
        """The last changes of the number of slots, the newest last; safe to read from any thread."""
        return tuple(self._notes.changes)

    def statistics(self) -> GateStatistics:
        """Return the gate's state now; safe to call from any thread."""
        now, waiting = self._now(), list(self._line.waiting)
        wait_p50_s, wait_p95_s = self._notes.wait_quantiles(now)
        service_p50_s, service_p95_s = self._notes.service_quantiles(now)
        return GateStatistics(
            total=self.total,
            borrowed=self.inflight,
            studies=len(self._spares),
            waiting=len(waiting),
            oldest_wait_s=max(0.0, now - waiting[0].came) if waiting else 0.0,
            users=self._line.users(),
            users_at_cap=self._line.users_at_cap(),
            mean_service_s=self._expected_s(now),
            wait_p50_s=wait_p50_s,
            wait_p95_s=wait_p95_s,
            service_p50_s=service_p50_s,
            service_p95_s=service_p95_s,
            admitted=self._notes.admitted,
            abandoned=self._notes.abandoned,
            shed=dict(self._notes.shed),
            changes=dict(self._notes.change_counts),
        )

    def resize(self, total: int, reason: Reason, *, mode: Mode = "fixed", who: str = "", why: str = "") -> None:
        """Let there be `total` slots from now on. No call in flight is touched: after a cut, fewer begin.

        A person's word is noted even where there were as many before: it may have changed who decides.

        Raises:
            ValueError: `total` is no whole number, or under 1.
        """
        change = LimiterChange(
            at_s=self._wall(), before=self.total, after=_whole(total), reason=reason, mode=mode, who=who, why=why
        )
        if change.before == change.after and reason != "manual":
            return
        self._notes.change(change)
        self._limiter.total_tokens = total
        self._hand_out(again=True)

    def check(self) -> None:
        """Let a turn pass to the fetch, if it could be let in by the gate after that, whoever's it is.

        Raises:
            OverloadFault: `overloaded`, with `Retry-After`: it would be one too many in line, or wait too long.
        """
        place, why = self._look(_NOBODY)
        if why is not None:
            raise self._refusal(why, place)

    @asynccontextmanager
    async def slot(self, trace: TurnTrace) -> AsyncIterator[None]:
        """Hold a slot while inside; wait for it first, as stage `llm.queue`.

        Raises:
            OverloadFault: `overloaded`, with `Retry-After`: the turn would be one too many in line, it would wait too
                long, or no slot came free in time.
        """
        turn = _Turn(trace.user, trace.watcher, self._now())
        try:
            await self._wait(turn, trace)
            turn.began = self._now()
            yield
            turn.whole = trace.details.get("fallback") != "heuristic"
        finally:
            self._leave(turn)

    @asynccontextmanager
    async def spare_slot(self) -> AsyncIterator[None]:
        """Hold a slot that no turn wants, however long it takes to find one. A turn that wants it cancels the body."""
        spare = Spare()
        try:
            self._spares.join(spare)
            self._hand_out()
            await spare.wait()
            with spare.scope:
                yield
        finally:
            self._spares.leave(spare)
            self._hand_out()

    async def _wait(self, turn: _Turn, trace: TurnTrace) -> None:
        place, why = self._look(turn.user)
        queue = trace.stage(
            names.LLM_QUEUE,
            {
                names.LIMITER_TOTAL: self.total,
                names.LIMITER_WAITING: len(self._line.waiting),
                names.QUEUE_POSITION: place.number,
            },
        )
        how = "abandoned"
        try:
            with queue:
                if why is not None:
                    raise self._refusal(why, place)
                await self._admit(turn, place, trace)
            how = "admitted"
            self._notes.wait(self._now(), self._now() - turn.came)
        except OverloadFault:
            how = "shed"
            raise
        finally:
            self._notes.abandoned += how == "abandoned"
            wait_s = trace.clock.seconds(names.LLM_QUEUE)
            trace.instruments.limiter_wait.record(wait_s, {names.OUTCOME: how}, context=trace.context)

    async def _admit(self, turn: _Turn, place: Place, trace: TurnTrace) -> None:
        if place.number and self._is_full():
            self._send_away(turn.user)
            place = self._line.place_of(turn.user, self.total)
        trace.let_in()
        if place.number > TOLD_PLACES:
            self._tell(turn, place)
        self._line.join(turn)
        self._hand_out()
        with trio.move_on_after(self.queue_timeout_s):
            await turn.decided.wait()
        if turn not in self._line.running:
            self._line.leave(turn)
            why: Shed = "queue_full" if turn.sent_away else "queue_timeout"
            raise self._refusal(why, self._line.place_of(turn.user, self.total))

    def _leave(self, turn: _Turn) -> None:
        """Forget a turn, with whatever it has: its place, or its slot."""
        if turn in self._line.running:
            self._limiter.release_on_behalf_of(turn)
            if turn.began is not None:
                self._notes.service(self._now(), self._now() - turn.began, whole=turn.whole)
        self._line.leave(turn)
        self._hand_out()

    def _hand_out(self, *, again: bool = False) -> None:
        """Give every free slot to whom it is due, and tell those who wait on where they are."""
        if len(self._spares) and (ready := self._line.ready()):
            self._spares.make_way(int(ready - self._limiter.available_tokens))
        while self._limiter.available_tokens > 0 and (turn := self._line.next()) is not None:
            self._limiter.acquire_on_behalf_of_nowait(turn)
            self._line.start(turn)
            turn.decided.set()
        self._spares.hand_out()
        self._tell_again |= again
        if self._line.waiting and not self._to_tell:
            self._to_tell = True
            self._soon(self._tell_places)

    def _is_full(self) -> bool:
        return len(self._line.waiting) >= self.queue_max

    def _look(self, user: str) -> tuple[Place, Shed | None]:
        """Return the place that a turn of `user` would have if it came now, and why it must be refused, if it must.

        In a full line a user with few turns gets the place of one that has many: a line that one user fills would hold
        up all the others. Where it is not, nobody in it has two turns, and who is new need not be played through.
        """
        line, may_join = self._line, not self._is_full() or self._line.one_too_many(user) is not None
        if not may_join and len(line.running) >= self.total and not line.has(user):
            return in_turn(len(line.waiting) + 1, len(line.running), self.total), "queue_full"
        place = line.place_of(user, self.total)
        if place.number and not may_join:
            return place, "queue_full"
        late = place.behind * self._expected_s(self._now()) > self.queue_timeout_s
        return place, "predicted_wait" if late else None

    def _expected_s(self, now: float) -> float:
        """Return how long a call is expected to take: the mean, or what half of those in flight have taken, if longer.

        Not their mean age: one call that hangs would make everybody wait for it.
        """
        calls = list(self._line.running)
        began = calls[len(calls) // 2].began if calls else None
        return max(self._notes.mean_s(now), now - began if began is not None else 0.0)

    def _refusal(self, why: Shed, place: Place) -> OverloadFault:
        """Return the refusal of a turn that would have this place if it came back now; that long it is to stay away."""
        self._notes.shed[why] += 1
        note = f"{_WHY[why]}: {len(self._line.waiting)} in line for {self.total} slots"
        wait_s = max(LEAST_RETRY_S, place.wait * self._expected_s(self._now()))
        return OverloadFault("overloaded", note, stage=names.LLM_QUEUE, retry_after_s=wait_s, error_type=why)

    def _send_away(self, user: str) -> None:
        turn = self._line.one_too_many(user)
        if turn is not None:
            self._line.leave(turn)
            turn.sent_away = True
            turn.decided.set()

    def _tell_places(self) -> None:
        """Tell those who wait where they are, as often as that changes. Who need not wait is told nothing.

        It is done once for all that happens at the same moment: a thousand that leave together are one piece of news.
        """
        again, self._to_tell, self._tell_again = self._tell_again, False, False
        if not any(turn.watcher for turn in self._line.waiting):
            return
        for turn, place in self._line.places(self.total):
            if place.number > TOLD_PLACES:
                break
            if place.number and (again or place.number != turn.told):
                self._tell(turn, place)

    def _tell(self, turn: _Turn, place: Place) -> None:
        if turn.watcher is not None:
            turn.told = place.number
            turn.watcher.queue(place.number, round(place.wait * self._expected_s(self._now()), 1))


def _whole(slots: int) -> int:
    if type(slots) is not int or slots < 1:
        raise ValueError(f"the limiter has at least one slot and whole ones only, not {slots!r}")
    return slots
