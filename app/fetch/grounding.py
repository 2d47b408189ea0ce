"""The fetch stage: conversation and project, each with its own deadline; at the same time, in the concurrent plan."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import trio

from app.deadlines import stage_deadline, stage_nursery
from app.errors import CallerFault, DatabaseFault
from app.fetch.earlier import EarlierFetch
from app.fetch.history import HistoryFetch, admission_time
from app.fetch.project import ProjectFetch, names_project
from app.standing import turn_named
from app.turn import Conversation, EarlierTurn, Grounding, Project, StoredMessage, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace

log = logging.getLogger(__name__)

BREAKER_OPEN = "breaker_open"
"""The error type of a read that was not sent, because the host is left alone or is just being tried."""
PROJECT_GRACE_S = 1.0
"""How much longer than the history the project may take: it only enriches the answer."""


@dataclass(slots=True)
class _Found:
    """What the tasks beside the history's have found by the time it is asked."""

    project: Project | None = None
    missing: bool = True
    earlier: EarlierTurn | None = None


class GroundingFetch:
    """Fetches what the model must know, within `timeout_s` seconds."""

    def __init__(self, history: HistoryFetch, project: ProjectFetch, earlier: EarlierFetch, timeout_s: float) -> None:
        self._history = history
        self._project = project
        self._earlier = earlier
        self._timeout_s = timeout_s

    async def __call__(self, request: TurnRequest, trace: TurnTrace) -> Grounding:
        """Return the grounding; without the project, and with a warning, when only that failed or was late.

        Raises:
            CallerFault: `not_found`: a conversation or project that was named is not this user's;
                `idempotency_mismatch`: the turn's key was used for another message, or in another conversation.
            DatabaseFault, StageTimeout: the conversation could not be read (in time).
        """
        found = _Found(missing=names_project(request))
        with trace.stage(names.DB_FETCH) as stage:
            several = found.missing or request.may_repeat
            fetch = self._side_by_side if request.plan == "concurrent" and several else self._one_by_one
            conversation = await fetch(request, trace, found)
            count = len(conversation.messages)
            stage.set({names.CHAT_HISTORY_COUNT: count, names.CHAT_CONTEXT_PRESENT: found.project is not None})
        trace.identify(str(conversation.id))
        trace.instruments.history_size.record(_text_bytes(conversation.messages), context=trace.context)
        admitted_at = admission_time(trace.clock.wall(trace.clock.now()), conversation)
        if found.earlier is not None:
            conversation = _without(found.earlier, request, conversation)
        return Grounding(
            conversation=conversation,
            project=found.project,
            admitted_at=admitted_at,
            warnings=("project_unavailable",) if found.missing else (),
            regenerates=turn_named(conversation.messages, request.replaces) if request.replaces else None,
            answered=found.earlier if found.earlier and found.earlier.whole_answer else None,
        )

    async def _side_by_side(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> Conversation:
        async with stage_nursery() as nursery:
            if found.missing:
                nursery.start_soon(self._find_project, request, trace, found)
            with stage_deadline(names.DB_FETCH, self._timeout_s):
                conversation = await self._history_and_earlier(request, trace, found)
            nursery.cancel_scope.deadline = trio.current_time() + PROJECT_GRACE_S
        return conversation

    async def _history_and_earlier(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> Conversation:
        if not request.may_repeat:
            return await self._history(request, trace)
        refusals: list[DatabaseFault] = []
        async with stage_nursery() as nursery:
            nursery.start_soon(self._find_earlier_beside, request, trace, found, refusals)
            with _kept_back(refusals):
                conversation = await self._history(request, trace)
        if refusals:
            raise refusals[0]
        return conversation

    async def _find_earlier_beside(
        self, request: TurnRequest, trace: TurnTrace, found: _Found, refusals: list[DatabaseFault]
    ) -> None:
        with _kept_back(refusals):
            await self._find_earlier(request, trace, found)

    async def _one_by_one(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> Conversation:
        start = trio.current_time()
        with stage_deadline(names.DB_FETCH, self._timeout_s):
            conversation = await self._history(request, trace)
            await self._find_earlier(request, trace, found)
        if found.missing:
            with trio.move_on_after(trio.current_time() - start + PROJECT_GRACE_S):
                await self._find_project(request, trace, found)
        return conversation

    async def _find_earlier(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> None:
        if request.may_repeat:
            found.earlier = await self._earlier(request, trace)

    async def _find_project(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> None:
        try:
            found.project = await self._project(request, trace)
        except DatabaseFault as fault:
            log.warning("fetch.project.failed", extra={"error": fault.error_type, "turn_id": trace.turn_id})
        else:
            found.missing = False


def _text_bytes(messages: Sequence[StoredMessage]) -> int:
    """Return how long the messages' texts are in UTF-8; half a surrogate pair counts as three bytes."""
    texts = (message.message for message in messages)
    return sum(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in texts)


@contextmanager
def _kept_back(refusals: list[DatabaseFault]) -> Iterator[None]:
    """Keep a refusal of the breaker for later: the read beside may be its probe, and ended, it would find out nothing.

    With each turn's first read ended by its second, the breaker would never close.
    """
    try:
        yield
    except DatabaseFault as fault:
        if fault.error_type != BREAKER_OPEN:
            raise
        refusals.append(fault)


def _without(earlier: EarlierTurn, request: TurnRequest, conversation: Conversation) -> Conversation:
    """Return the conversation without the turn's own rows: its question is asked anew, and half an answer is none."""
    if earlier.conversation_id not in (conversation.id, conversation.waits_as):
        raise CallerFault("idempotency_mismatch", "another conversation", stage=names.DB_FETCH)
    own = str(request.turn_id)
    return replace(conversation, messages=tuple(row for row in conversation.messages if row.turn_id != own))
