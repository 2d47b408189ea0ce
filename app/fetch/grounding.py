"""The fetch stage: conversation and project, each with its own deadline; at the same time, in the concurrent plan."""

import logging
from dataclasses import dataclass

import trio

from app.deadlines import stage_deadline, stage_nursery
from app.errors import DatabaseFault
from app.fetch.history import HistoryFetch, admission_time
from app.fetch.project import ProjectFetch, names_project
from app.standing import turn_named
from app.turn import Conversation, Grounding, Project, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace

log = logging.getLogger(__name__)

PROJECT_GRACE_S = 1.0
"""How much longer than the history the project may take: it only enriches the answer."""


@dataclass(slots=True)
class _Found:
    """What the project's task has found by the time it is asked."""

    project: Project | None = None
    missing: bool = True


class GroundingFetch:
    """Fetches what the model must know, within `timeout_s` seconds."""

    def __init__(self, history: HistoryFetch, project: ProjectFetch, timeout_s: float) -> None:
        self._history = history
        self._project = project
        self._timeout_s = timeout_s

    async def __call__(self, request: TurnRequest, trace: TurnTrace) -> Grounding:
        """Return the grounding; without the project, and with a warning, when only that failed or was late.

        Raises:
            CallerFault: `not_found`: a conversation or project that was named is not this user's.
            DatabaseFault, StageTimeout: the conversation could not be read (in time).
        """
        found = _Found(missing=names_project(request))
        with trace.stage(names.DB_FETCH) as stage:
            fetch = self._side_by_side if request.plan == "concurrent" and found.missing else self._one_by_one
            conversation = await fetch(request, trace, found)
            count = len(conversation.messages)
            stage.set({names.CHAT_HISTORY_COUNT: count, names.CHAT_CONTEXT_PRESENT: found.project is not None})
        trace.identify(str(conversation.id))
        return Grounding(
            conversation=conversation,
            project=found.project,
            admitted_at=admission_time(trace.clock.wall(trace.clock.now()), conversation),
            warnings=("project_unavailable",) if found.missing else (),
            regenerates=turn_named(conversation.messages, request.replaces) if request.replaces else None,
        )

    async def _side_by_side(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> Conversation:
        async with stage_nursery() as nursery:
            nursery.start_soon(self._find_project, request, trace, found)
            with stage_deadline(names.DB_FETCH, self._timeout_s):
                conversation = await self._history(request, trace)
            nursery.cancel_scope.deadline = trio.current_time() + PROJECT_GRACE_S
        return conversation

    async def _one_by_one(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> Conversation:
        start = trio.current_time()
        with stage_deadline(names.DB_FETCH, self._timeout_s):
            conversation = await self._history(request, trace)
        if found.missing:
            with trio.move_on_after(trio.current_time() - start + PROJECT_GRACE_S):
                await self._find_project(request, trace, found)
        return conversation

    async def _find_project(self, request: TurnRequest, trace: TurnTrace, found: _Found) -> None:
        try:
            found.project = await self._project(request, trace)
        except DatabaseFault as fault:
            log.warning("fetch.project.failed", extra={"error": fault.error_type, "turn_id": trace.turn_id})
        else:
            found.missing = False
