"""The turns that somebody may come back to: those that run as streams, and for a short while those that nobody saw end.

A user finds a turn by its chat's id: the conversation's, or the page key that the conversation was asked for under. It
lives in one process: a front proxy that routes by conversation makes it work with several.

A turn that ended is found as long as nobody has had its answer: once a follower has read it to the end, or the history
has shown it (`forget`), a page that came back would show it twice.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

import trio

from app.edge.turn_feed import TurnFeed
from app.turn import StoredMessage, TurnRequest, is_whole
from telemetry.turn_trace import TurnTrace

KEPT_S = 30.0
"""After its end, for a client whose line broke to come back."""
KEPT_TURNS = 1000
KEPT_CHARS = 16 << 20
"""Of the texts of turns that ended; some 4,000 answers of the usual length."""


class RunningTurn:
    """A turn's task: who asked what, what it tells, and how it is ended early."""

    def __init__(self, request: TurnRequest, trace_id: str) -> None:
        self.request = request
        self.trace_id = trace_id
        self.feed = TurnFeed()
        self.scope = trio.CancelScope()
        self.cut_by: str | None = None
        """Whose doing it was that the turn ended early: `cancelled` (its client left), `stopped`, `draining`."""
        self.shown = False
        """Whether the history has shown its answer, as it may a moment before the turn is over."""
        self._trace: TurnTrace | None = None

    def watched(self, trace: TurnTrace) -> None:
        """Take the turn's trace, once there is one; it is told who ends the turn early."""
        self._trace = trace
        trace.cancelled_by = self.cut_by or trace.cancelled_by

    def cut(self, by: str) -> None:
        """End the turn early; whoever did so first is named. Nothing happens to one that has ended."""
        if self.cut_by is None and not self.feed.over:
            self.cut_by = by
            if self._trace is not None:
                self._trace.cancelled_by = by
            self.scope.cancel()

    def leave(self) -> None:
        """Do what the turn's request wants done when its client has left."""
        if self.request.on_disconnect == "cancel":
            self.cut("cancelled")

    def is_called(self, chat_id: str) -> bool:
        """Return whether a chat's id is that of this turn's."""
        request = self.request
        if request.conversation_id is None or request.or_page:
            return chat_id in {request.page_id, self.feed.conversation_id}
        return chat_id == str(request.conversation_id)

    def is_told_by(self, answer: StoredMessage) -> bool:
        """Return whether the stored answer of this turn's id is all that there is to tell of the turn.

        One that was cut short may be of an earlier request, which this turn repeats.
        """
        return is_whole(answer.message, answer.context_data) or (
            self.feed.over and self.feed.whole_text == answer.message
        )


class TurnTable:
    """Finds a user's turns.

    Args:
        now: seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._running: dict[str, list[RunningTurn]] = {}
        self._ended: OrderedDict[RunningTurn, tuple[float, int]] = OrderedDict()  # until when, and how long the text is
        self._chars = 0

    def add(self, turn: RunningTurn) -> None:
        """Take a turn that begins."""
        self._running.setdefault(turn.request.user_id, []).append(turn)

    def end(self, turn: RunningTurn) -> None:
        """Let go of a turn that is over, or keep it for a while. One that was cut short has been told all it had."""
        others = self._running[turn.request.user_id]
        others.remove(turn)
        if not others:
            del self._running[turn.request.user_id]
        self._expire()
        if turn.feed.begun and turn.feed.end is not None and turn.cut_by is None and not turn.shown:
            chars = turn.feed.chars
            self._ended[turn] = (self._now() + KEPT_S, chars)
            self._chars += chars
            self._expire()

    def seen(self, turn: RunningTurn) -> None:
        """Forget a turn whose end somebody has been sent."""
        _until, chars = self._ended.pop(turn, (0.0, 0))
        self._chars -= chars

    def forget(self, user_id: str, rows: Iterable[StoredMessage]) -> None:
        """Forget the turns whose answers are among `rows`, which their user is given.

        Not all of their chat's: another may have ended since the rows were read.
        """
        answers = {row.turn_id: row for row in rows if row.sender == "assistant"}
        ended = (turn for turn in self._ended if turn.request.user_id == user_id)
        for turn in [*self._running.get(user_id, ()), *ended]:
            answer = answers.get(str(turn.request.turn_id))
            if answer is not None and turn.is_told_by(answer):
                turn.shown = True
                self.seen(turn)

    def running(self, user_id: str, chat_id: str) -> list[RunningTurn]:
        """Return the turns of a chat that run, the newest last."""
        mine = self._running.get(user_id, ())
        return [turn for turn in mine if turn.cut_by is None and turn.is_called(chat_id)]

    def find(self, user_id: str, chat_id: str) -> RunningTurn | None:
        """Return the newest turn of a chat that runs; else the newest whose end nobody has seen."""
        if running := [turn for turn in self.running(user_id, chat_id) if not turn.shown]:
            return running[-1]
        self._expire()
        mine = (turn for turn in reversed(self._ended) if turn.request.user_id == user_id and turn.is_called(chat_id))
        return next(mine, None)

    def _expire(self) -> None:
        """Forget who is over time, or too many; the eldest first."""
        while self._ended:
            turn = next(iter(self._ended))
            over = self._ended[turn][0] <= self._now()
            if not over and len(self._ended) <= KEPT_TURNS and self._chars <= KEPT_CHARS:
                return
            self.seen(turn)
