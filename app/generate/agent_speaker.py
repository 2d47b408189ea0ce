"""The conversation agent as a speaker: rules decide how to reply in a millisecond, so the model's call starts at once.

Beside the reply the model works out its own state and plan, in a slot that no turn wants; the turn waits for that at
most a tenth of the reply's time beyond its end. Behind each phase stand the rules: a phase whose model call fails, is
late or answers what is not valid falls back to them alone. Nothing of a user stays in the process.
"""

import logging
import math
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

import trio

from app.clients.ports import JsonSchema
from app.errors import Fault, ModelFault, StageTimeout
from app.generate.agent.follow_ups import follow_up_list
from app.generate.agent.reply import act_instructions, rule_reply
from app.generate.agent.rules import rule_view, with_model
from app.generate.agent.schema import SCHEMA, SCHEMA_NAME, read_model_answer
from app.generate.agent.values import AgentView
from app.generate.model_call import Generate
from app.generate.speaker import NoStudy, Study
from app.standing import history as history_of
from app.turn import Draft, Grounding, Prompt, PromptMessage, TurnRequest
from telemetry import names
from telemetry.turn_trace import StageTrace, TurnTrace

log = logging.getLogger(__name__)

RULES_MODEL = "rules"
"""What a reply calls the model when no model answered."""
PATIENCE, OWN_COST_S = 0.1, 0.02
"""An agent turn may cost a tenth more than its reply. Its own work (rules, spans, the wait's end) takes some 10 ms of
that, twice as much is kept free, and what is left of the tenth is waited, after the reply's end, for the model's own
state and plan. Without that allowance a turn with a 0.44 s reply took 12.2 % more than it.
"""


STUDY = PromptMessage(
    "system",
    "Before you reply: say, as JSON of the given schema and in the student's language, where the student stands and "
    "how their project could go on. Use only what they said; null or an empty list where they said nothing.",
)


class SpareSlots(Protocol):
    """Gives slots of the model's limiter that no turn wants."""

    def spare_slot(self) -> AbstractAsyncContextManager[None]:
        """Hold one while inside."""


class AgentSpeaker:
    """Speaks by its rules, or through the model under their guidance.

    Args:
        generate: asks the model.
        gate: has slots for what runs beside the reply.
        studies: whether the model works out a state and plan of its own.
    """

    def __init__(self, generate: Generate, gate: SpareSlots, *, studies: bool = True) -> None:
        self._generate = generate
        self._gate = gate
        self._studies = studies

    def draft(self) -> Draft:
        """Return an empty draft."""
        return self._generate.draft()

    def stage(self, trace: TurnTrace) -> AbstractContextManager[object]:
        """Return the stage `agent`."""
        return trace.stage(names.AGENT)

    def prepare(self, request: TurnRequest, grounding: Grounding, draft: Draft, trace: TurnTrace) -> str:
        """Let the rules look at the turn, put what they make of it into the draft, and return the acts to perform."""
        known = history_of(grounding)
        shown, now = request.shown_of(known), grounding.admitted_at
        view = rule_view(shown, request.message, grounding.project, now, timed=trace.stage, replies=known)
        draft.agent = view
        return act_instructions(view.acts.acts, view.support.type, view.language)

    def study(self, request: TurnRequest, prompt: Prompt, draft: Draft, trace: TurnTrace) -> Study:
        """Return the model's own state and plan, to be worked out beside the reply; nothing when rules answer."""
        if request.by_rules or not self._studies:
            return NoStudy()
        return AgentStudy(self._generate, self._gate, prompt, trace)

    async def speak(self, request: TurnRequest, prompt: Prompt, draft: Draft, trace: TurnTrace) -> None:
        """Reply; by rules when asked to, or when the model fails.

        Raises:
            CallerFault: the prompt is longer than the model can take.
        """
        view = _view(draft)
        with trace.stage(names.AGENT_REPLY) as stage:
            if request.by_rules:
                self._by_rules(request, view, draft)
                await trio.lowlevel.checkpoint()
            else:
                await self._by_model(request, prompt, view, draft, trace, stage)
        if request.surface == "chat" and view.follow_ups:
            draft.add("\n\n" + follow_up_list(view.follow_ups, view.language))

    def _by_rules(self, request: TurnRequest, view: AgentView, draft: Draft) -> None:
        if draft.on_text is None:
            draft.parts.clear()
        elif draft.parts:  # somebody reads along: what was shown stays, and what is stored is what was shown
            draft.add("\n\n")
        draft.add(rule_reply(view, request.message))
        draft.model, draft.finish = RULES_MODEL, "stop"

    async def _by_model(
        self,
        request: TurnRequest,
        prompt: Prompt,
        view: AgentView,
        draft: Draft,
        trace: TurnTrace,
        stage: StageTrace,
    ) -> None:
        try:
            await self._generate(prompt, draft, trace)
        except (ModelFault, StageTimeout) as fault:
            log.warning("agent.fell_back", extra={"error": fault.error_type, "turn_id": trace.turn_id})
            self._by_rules(request, view, draft)
            draft.fallback, draft.stood_in_for = "heuristic", fault
            trace.fall_back("heuristic")
            stage.fail(fault)


class AgentStudy:
    """The model's own state and plan of the learner, from one structured call."""

    def __init__(self, generate: Generate, gate: SpareSlots, prompt: Prompt, trace: TurnTrace) -> None:
        self._generate = generate
        self._gate = gate
        self._prompt = prompt
        self._trace = trace
        self._started = math.inf
        self._scope = trio.CancelScope()
        self._done = trio.Event()
        self._answer: str | None = None
        self._why = "late"

    def begin(self, nursery: trio.Nursery) -> None:
        """Ask the model in a spare slot; a fault, a turn that wants the slot, or lateness leaves no answer."""
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        self._started = trio.current_time()
        with self._scope:
            try:
                async with self._gate.spare_slot():
                    messages = (*self._prompt.messages, STUDY)
                    self._answer = await self._generate.structured(
                        messages, JsonSchema(SCHEMA_NAME, SCHEMA), self._trace
                    )
            except Fault as fault:
                self._why = fault.error_type
            except Exception:  # the phase's boundary: whatever goes wrong beside the reply, the reply stands
                log.exception("agent.study.broke")
                self._why = "internal"
        self._done.set()

    async def finish(self, draft: Draft) -> None:
        """Wait a tenth of the reply's time, then put the model's state and plan into the draft, if they are valid."""
        reply_s = trio.current_time() - self._started
        with trio.move_on_after(max(0.0, PATIENCE * reply_s - OWN_COST_S)):
            await self._done.wait()
        self._scope.cancel()
        view = _view(draft)
        try:
            if self._answer is None:
                raise ValueError(self._why)
            snapshot, plan = read_model_answer(self._answer, ruled=view.snapshot, now=view.decided_at)
        except ValueError as exc:
            log.info("agent.study.unused", extra={"reason": str(exc)})
            self._trace.instruments.fallbacks.add(1, {names.KIND: "study"}, context=self._trace.context)
        else:
            draft.agent = with_model(view, snapshot, plan)


def _view(draft: Draft) -> AgentView:
    assert isinstance(draft.agent, AgentView)
    return draft.agent
