"""The story of a turn.

    receive -> door -> fetch -> gate -> generate -> save -> respond

A turn is one task in the server's turn nursery (app/edge/turns.py). What ends it early, be it a fault, its deadline or
a cancellation, ends everything it started; but once its question was handed to the save, its answer's row follows, with
whatever text there is by then.

A message that was answered before, by its key, is given that answer again: its turn ends with the fetch.

Two plans compose the same stages: `concurrent` does side by side what can be, `sequential` one thing after the other.
Who speaks, the tutor or the conversation agent, is the speaker's business.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

import trio

from app.admit.door import Door
from app.admit.gate import Gate
from app.deadlines import stage_deadline, stage_nursery
from app.errors import Fault
from app.fetch.earlier import given_again
from app.fetch.grounding import GroundingFetch
from app.fetch.prompt import PromptRules, build_prompt
from app.generate.speaker import Speaker
from app.save.turn_record import Save, TurnRecord
from app.turn import CURRENT_PLAN, Draft, Grounding, Plan, Prompt, TurnOutcome, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace

log = logging.getLogger(__name__)

NO_PROMPT = Prompt(messages=(), history_count=0)
"""Of a turn that was answered before: the model is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """The stages of a turn, joined. `timeout_s` is for all of them but the saves, which have deadlines of their own."""

    door: Door
    fetch: GroundingFetch
    prompt_rules: PromptRules
    gate: Gate
    speaker: Speaker
    save: Save
    timeout_s: float

    async def run(
        self, request: TurnRequest, trace: TurnTrace, on_text: Callable[[str], None] | None = None
    ) -> TurnOutcome:
        """Answer one message, or give the answer again that it was given before. `on_text` is told of each piece of it.

        Raises:
            Fault: why there is no answer. A turn that ends before the model is asked stores nothing.
        """
        self.door.check(needs_model=not request.by_rules)
        draft = self.speaker.draft()
        draft.on_text = on_text
        record = self.save.record(request, trace)
        try:
            with stage_deadline(names.TURN, self.timeout_s):
                grounding, prompt, plan = await self._answer(request, draft, record, trace)
        except Exception:
            draft.finish = "error"
            raise
        finally:
            saved = await record.save_answer(draft)
        if grounding.answered is not None:
            outcome = given_again(request, grounding.answered)
            trace.let_in()
            if on_text is not None:
                on_text(outcome.draft.text)
            return outcome
        return TurnOutcome(
            turn_id=request.turn_id,
            conversation_id=record.conversation_id,
            draft=draft,
            project=grounding.project,
            history_count=prompt.history_count,
            warnings=(
                *grounding.warnings,
                *prompt.warnings,
                *(("fallback",) if draft.fallback else ()),
                *record.shortfalls,
            ),
            saved=saved,
            plan=plan,
        )

    async def _answer(
        self, request: TurnRequest, draft: Draft, record: TurnRecord, trace: TurnTrace
    ) -> tuple[Grounding, Prompt, Plan]:
        """Go through the stages; a bug in the concurrent plan, met before the model was asked, costs a second go."""
        try:
            return await self._stages(request, draft, record, trace)
        except Fault:
            raise
        except Exception:
            over = trio.current_effective_deadline() <= trio.current_time()  # cancelled, or out of time
            if request.plan == "sequential" or record.owed or over:
                raise
            log.exception("plan.failed", extra={"plan": request.plan, "turn_id": trace.turn_id})
            trace.replan("sequential")
            trace.fall_back("plan")
            return await self._stages(replace(request, plan="sequential"), draft, record, trace)

    async def _stages(
        self, request: TurnRequest, draft: Draft, record: TurnRecord, trace: TurnTrace
    ) -> tuple[Grounding, Prompt, Plan]:
        CURRENT_PLAN.set(request.plan)
        grounding = await self.fetch(request, trace)
        record.place(grounding)
        if grounding.answered is not None:
            return grounding, NO_PROMPT, request.plan
        plan = self._concurrent if request.plan == "concurrent" else self._sequential
        prompt = await plan(request, grounding, draft, record, trace)
        return grounding, prompt, request.plan

    async def _concurrent(
        self, request: TurnRequest, grounding: Grounding, draft: Draft, record: TurnRecord, trace: TurnTrace
    ) -> Prompt:
        """Ask the model while the question is saved; the slot is given back before anyone waits for that save."""
        async with stage_nursery() as nursery:
            with self.speaker.stage(trace):
                prompt = self._prompt(request, grounding, draft, record, trace)
                study = self.speaker.study(request, prompt, draft, trace)
                async with self._slot(request, trace):
                    record.hand_over_question(nursery)
                    study.begin(nursery)
                    await self.speaker.speak(request, prompt, draft, trace)
                await study.finish(draft)
        return prompt

    async def _sequential(
        self, request: TurnRequest, grounding: Grounding, draft: Draft, record: TurnRecord, trace: TurnTrace
    ) -> Prompt:
        """Ask the model; both rows are saved after, one by one."""
        with self.speaker.stage(trace):
            prompt = self._prompt(request, grounding, draft, record, trace)
            async with self._slot(request, trace):
                record.owe()
                await self.speaker.speak(request, prompt, draft, trace)
        return prompt

    def _prompt(
        self, request: TurnRequest, grounding: Grounding, draft: Draft, record: TurnRecord, trace: TurnTrace
    ) -> Prompt:
        instructions = self.speaker.prepare(request, grounding, draft, trace)
        record.prompt = prompt = build_prompt(self.prompt_rules, request, grounding, instructions)
        return prompt

    def _slot(self, request: TurnRequest, trace: TurnTrace) -> AbstractAsyncContextManager[None]:
        return nullcontext() if request.by_rules else self.gate.slot(trace)
