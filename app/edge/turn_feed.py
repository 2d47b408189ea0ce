"""What one turn tells of itself while it runs, kept from its start on for as many followers as come.

The turn never waits for a follower, and nothing is kept for one but how far it has read. Who comes late, or is slow, is
told the text it has not had as one piece, and of each stage the latest state alone. Pure, but for the waking.

Rejected: a channel for each follower, which must either be bounded (and then the turn waits for the slowest) or keep a
copy of the answer for every one of them.
"""

from dataclasses import dataclass

import trio

from app.errors import Fault
from app.turn import TurnOutcome
from telemetry import names
from telemetry.stage_clock import StageClock
from telemetry.turn_trace import StageState


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended, and its readings."""

    result: TurnOutcome | Fault
    clock: StageClock


@dataclass(frozen=True, slots=True)
class StageShown:
    """What a stage does that began `at_s` seconds after the turn's start, or how it ended after so many."""

    stage: str
    state: StageState
    at_s: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class QueueShown:
    """Where in the model's queue the turn is; 1 is next."""

    position: int
    estimated_wait_s: float


Told = str | StageShown | QueueShown | TurnEnd
"""A piece of the answer's text, or one of the others. The end is the last."""
_QUEUE = "queue"


class TurnFeed:
    """What a turn has told so far. It is its turn's `Watcher` (telemetry/turn_trace.py)."""

    def __init__(self) -> None:
        self.conversation_id: str | None = None
        self.begun = False
        """Whether the turn has come as far as the model's queue: what fails from then on is told in the stream."""
        self.end: TurnEnd | None = None
        self.over = False
        """Whether nothing more will be told; without an end, when the server ended first."""
        self._count = 0
        self._pieces: list[str] = []
        self._text_at = 0
        self._shown: dict[str, tuple[int, StageShown | QueueShown]] = {}
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def chars(self) -> int:
        """How long the text is."""
        return sum(map(len, self._pieces))

    @property
    def whole_text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def text(self, piece: str) -> None:
        """Tell a piece of the answer."""
        self._pieces.append(piece)
        self._text_at = self._next()

    def stage(self, name: str, state: StageState, at_s: float, seconds: float | None) -> None:
        """Tell of a stage, if it is one that is shown."""
        if name in names.SHOWN_STAGES:
            self._shown[name] = self._next(), StageShown(name, state, at_s, seconds)
        if name == names.LLM_QUEUE and state != "running":
            self._shown.pop(_QUEUE, None)

    def queue(self, position: int, estimated_wait_s: float) -> None:
        """Tell where in the model's queue the turn is."""
        self._shown[_QUEUE] = self._next(), QueueShown(position, estimated_wait_s)

    def let_in(self, conversation_id: str | None) -> None:
        """Tell that the turn waits for the model, or has it."""
        self.conversation_id = conversation_id
        self.begun = True
        self._waiting.unpark_all()

    def finish(self, end: TurnEnd) -> None:
        """Tell the end."""
        self.end = end
        self.close()

    def close(self) -> None:
        """Tell that nothing more will come."""
        self.over = True
        self._waiting.unpark_all()

    async def until_begun(self) -> None:
        """Return as soon as the turn has begun, or is over."""
        while not (self.begun or self.over):
            await self._waiting.park()

    async def until_over(self) -> None:
        """Return as soon as the turn is over."""
        while not self.over:
            await self._waiting.park()

    def follower(self) -> "Follower":
        """Return a follower that has read nothing yet."""
        return Follower(self)

    async def changed(self) -> None:
        """Return when something was told."""
        await self._waiting.park()

    def since(self, count: int, pieces: int) -> tuple[list[Told], int, int]:
        """Return what was told after so much (as this returned it the last time; 0 and 0 at first), and how much now.

        In the order in which it was told last; the end is left to the caller.
        """
        news: list[tuple[int, Told]] = [shown for shown in self._shown.values() if shown[0] > count]
        if pieces < len(self._pieces):
            news.append((self._text_at, "".join(self._pieces[pieces:])))
        return [told for _at, told in sorted(news, key=lambda each: each[0])], self._count, len(self._pieces)

    def _next(self) -> int:
        self._count += 1
        self._waiting.unpark_all()
        return self._count


class Follower:
    """Reads a feed from its start to its end."""

    def __init__(self, feed: TurnFeed) -> None:
        self._feed = feed
        self._count = self._pieces = 0
        self._ended = False

    def take(self) -> list[Told]:
        """Return what is new, perhaps nothing."""
        news, self._count, self._pieces = self._feed.since(self._count, self._pieces)
        if self._feed.end is not None and not self._ended:
            self._ended = True
            news.append(self._feed.end)
        return news

    async def more(self) -> list[Told]:
        """Return what is new as soon as there is something; nothing once all was read and the turn is over."""
        while not (news := self.take()) and not self._feed.over:
            await self._feed.changed()
        return news
