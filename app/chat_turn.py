"""The story of a turn.

    receive -> door -> fetch -> gate -> generate -> save -> respond

A turn is one task in the server's turn nursery (app/edge/turns.py). What ends it early, be it a fault, its deadline or
a cancellation, ends everything it started; but once its question was handed to the save, its answer's row follows, with
whatever text there is by then.
"""

from dataclasses import dataclass

from app.admit.door import Door
from app.admit.gate import Gate
from app.deadlines import stage_deadline, stage_nursery
from app.fetch.grounding import GroundingFetch
from app.fetch.prompt import PromptRules, build_prompt
from app.generate.model_call import Generate
from app.save.turn_record import Save, TurnRecord
from app.turn import Draft, Prompt, TurnOutcome, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """The stages of a turn, joined. `timeout_s` is for all of them but the saves, which have deadlines of their own."""

    door: Door
    fetch: GroundingFetch
    prompt_rules: PromptRules
    gate: Gate
    generate: Generate
    save: Save
    timeout_s: float

    async def run(self, request: TurnRequest, trace: TurnTrace) -> TurnOutcome:
        """Answer one message.

        Raises:
            Fault: why there is no answer. A turn that ends before the model is asked stores nothing.
        """
        self.door.check()
        draft = self.generate.draft()
        record = self.save.record(request, trace)
        try:
            with stage_deadline(names.TURN, self.timeout_s):
                grounding = await self.fetch(request, trace)
                prompt = build_prompt(self.prompt_rules, request, grounding)
                record.place(grounding)
                await self._ask(prompt, draft, record, trace)
        except Exception:
            draft.finish = "error"
            raise
        finally:
            saved = await record.save_answer(draft)
        return TurnOutcome(
            turn_id=request.turn_id,
            conversation_id=record.conversation_id,
            draft=draft,
            project=grounding.project,
            history_count=prompt.history_count,
            warnings=(*grounding.warnings, *prompt.warnings, *(("save_failed",) if saved == "no" else ())),
            saved=saved,
        )

    async def _ask(self, prompt: Prompt, draft: Draft, record: TurnRecord, trace: TurnTrace) -> None:
        """Ask the model while the question is saved; the slot is given back before anyone waits for that save."""
        async with stage_nursery() as nursery, self.gate.slot(trace):
            record.hand_over_question(nursery)
            await self.generate(prompt, draft, trace)
