"""The generate stage: ask the model, with a deadline for the first token, between tokens, and for the whole call."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio
from opentelemetry.trace import SpanKind

from app.clients.ports import ChatModel, JsonSchema, ModelEnd, ModelRequest
from app.deadlines import stage_deadline
from app.errors import Fault, ModelFault, StageTimeout
from app.turn import Draft, Prompt, PromptMessage
from telemetry import names
from telemetry.turn_trace import StageTrace, TurnTrace

MAX_ANSWER_CHARS = 1 << 20
"""`max_tokens` bounds an answer at some thousands of characters; a host that does not keep to it is cut off here."""
STUDY_MAX_TOKENS = 2000
"""A full state and plan is some 1,400 characters in Japanese, 1,000 tokens by a wide margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """How the model is asked, and how long it may take, in seconds.

    `capture_messages`: whether prompt and answer go on the call's span. Nobody's texts do unless that was asked for.
    """

    max_tokens: int
    temperature: float | None
    first_token_s: float
    idle_s: float
    whole_s: float
    capture_messages: bool = False


class Generate:
    """Asks `model` and grows the draft."""

    def __init__(self, model: ChatModel, rules: ModelRules) -> None:
        self._model = model
        self._rules = rules

    def draft(self) -> Draft:
        """Return an empty draft of this model's."""
        return Draft(self._model.name)

    async def __call__(self, prompt: Prompt, draft: Draft, trace: TurnTrace) -> None:
        """Grow `draft` to the end of the answer, as stage `llm`.

        Raises:
            StageTimeout: `llm.first_token`, `llm.idle` or `llm` ran out; the draft keeps what had come.
            ModelFault: the model failed, or answered nothing.
            CallerFault: the prompt is longer than the model can take.
        """
        await self._call(names.LLM, self._request(prompt.messages), draft, trace)

    async def structured(self, messages: tuple[PromptMessage, ...], schema: JsonSchema, trace: TurnTrace) -> str:
        """Return an answer that the model was told to give as JSON of `schema`, as stage `agent.study`.

        Raises:
            StageTimeout, ModelFault, CallerFault: as a call does.
        """
        draft = self.draft()
        await self._call(names.AGENT_STUDY, self._request(messages, schema), draft, trace)
        return draft.text

    def _request(self, messages: tuple[PromptMessage, ...], schema: JsonSchema | None = None) -> ModelRequest:
        return ModelRequest(
            messages=messages,
            model=self._model.name,
            max_tokens=self._rules.max_tokens if schema is None else STUDY_MAX_TOKENS,
            temperature=self._rules.temperature,
            schema=schema,
        )

    async def _call(self, name: str, request: ModelRequest, draft: Draft, trace: TurnTrace) -> None:
        stage = trace.stage(name, self._attributes(request), span_name=f"chat {self._model.name}", kind=SpanKind.CLIENT)
        try:
            with stage, self._captured(request, draft, stage), stage_deadline(names.LLM, self._rules.whole_s):
                try:
                    end = await self._ask(request, draft, trace, stage)
                except ModelFault as fault:
                    self._name_request(fault.request_id, trace, stage)
                    raise
                self._name_request(end.request_id, trace, stage)
                self._finish(end, draft, stage)
                if end.fallback and stage.name == names.LLM:
                    draft.fallback = "model"
                    trace.fall_back("model")
        finally:
            self._record(draft, trace, stage)

    @contextmanager
    def _captured(self, request: ModelRequest, draft: Draft, stage: StageTrace) -> Iterator[None]:
        """Put prompt and answer on the span, where that was asked for; of an answer that broke off what there was."""
        if not self._rules.capture_messages:
            yield
            return
        stage.set({names.GEN_AI_INPUT_MESSAGES: _told([_said(each.role, each.content) for each in request.messages])})
        shown, finish = len(draft.parts), "cancelled"
        try:
            yield
            finish = draft.finish
        except Fault:
            finish = "error"
            raise
        finally:
            if text := "".join(draft.parts[shown:]):
                answer = _said("assistant", text) | {"finish_reason": finish}
                stage.set({names.GEN_AI_OUTPUT_MESSAGES: _told([answer])})

    async def _ask(self, request: ModelRequest, draft: Draft, trace: TurnTrace, stage: StageTrace) -> ModelEnd:
        room = MAX_ANSWER_CHARS

        def on_text(text: str) -> None:
            nonlocal room
            room -= len(text)
            if text and room >= 0:
                self._first_token(draft, trace, stage)
                draft.add(text)
            if room < 0:
                silence.cancel()
            elif draft.parts:
                silence.deadline = trio.current_time() + self._rules.idle_s

        with trio.move_on_after(self._rules.first_token_s) as silence:
            end = await self._model.answer(request, on_text)
            if room >= 0:
                return end
        if room < 0:
            raise ModelFault("model_error", "talks without end", error_type="answer_too_long")
        if draft.parts:
            raise StageTimeout(names.LLM_IDLE, self._rules.idle_s)
        raise StageTimeout(names.LLM_FIRST_TOKEN, self._rules.first_token_s)

    def _first_token(self, draft: Draft, trace: TurnTrace, stage: StageTrace) -> None:
        if draft.parts:
            return
        now_ns = trace.clock.now()
        if stage.name == names.LLM:
            trace.clock.first_token_ns = now_ns
        stage.event(names.FIRST_CHUNK_EVENT)
        assert stage.start_ns is not None
        waited_s = (now_ns - stage.start_ns) / 1e9
        stage.set({names.GEN_AI_RESPONSE_FIRST_CHUNK: waited_s})
        trace.instruments.model_first_chunk.record(waited_s, self._labels(), context=stage.context)

    def _finish(self, end: ModelEnd, draft: Draft, stage: StageTrace) -> None:
        draft.model = end.model or draft.model
        draft.usage = usage = end.usage
        facts: dict[str, str | int | list[str] | None] = {
            names.GEN_AI_RESPONSE_MODEL: draft.model,
            names.GEN_AI_RESPONSE_FINISH_REASONS: [end.finish_reason],
            names.GEN_AI_RESPONSE_ID: end.response_id,
            names.GEN_AI_INPUT_TOKENS: usage.prompt_tokens if usage else None,
            names.GEN_AI_OUTPUT_TOKENS: usage.completion_tokens if usage else None,
            names.GEN_AI_CACHED_TOKENS: usage.cached_tokens if usage else None,
        }
        stage.set({name: fact for name, fact in facts.items() if fact is not None})
        if not draft.text.strip():
            raise ModelFault("model_error", "the model answered nothing", error_type="empty_answer")
        draft.finish = "length" if end.finish_reason == "length" else "stop"

    def _name_request(self, request_id: str | None, trace: TurnTrace, stage: StageTrace) -> None:
        """Keep what the host calls the request, on the span and in the turn's log line: its support asks for it."""
        if request_id is not None:
            stage.set({names.UPSTREAM_REQUEST_ID: request_id})
            if stage.name == names.LLM:  # of the reply, not of what is studied beside it
                trace.details["model_request_id"] = request_id

    def _record(self, draft: Draft, trace: TurnTrace, stage: StageTrace) -> None:
        labels = self._labels()
        failed = {names.ERROR_TYPE: stage.error_type} if stage.error_type else {}
        seconds = trace.clock.seconds(stage.name)
        trace.instruments.model_duration.record(seconds, labels | failed, context=stage.context)
        if draft.usage is not None:
            for kind, tokens in (("input", draft.usage.prompt_tokens), ("output", draft.usage.completion_tokens)):
                trace.instruments.model_tokens.record(
                    tokens, {**labels, names.GEN_AI_TOKEN_TYPE: kind}, context=stage.context
                )

    def _labels(self) -> dict[str, str]:
        return {
            names.GEN_AI_OPERATION: "chat",
            names.GEN_AI_PROVIDER: self._model.provider,
            names.GEN_AI_REQUEST_MODEL: self._model.name,
        }

    def _attributes(self, request: ModelRequest) -> dict[str, str | int | float | bool]:
        host, port = self._model.host
        attributes: dict[str, str | int | float | bool] = {
            **self._labels(),
            names.SERVER_ADDRESS: host,
            names.SERVER_PORT: port,
            names.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
            names.GEN_AI_REQUEST_STREAM: True,
        }
        if self._rules.temperature is not None:
            attributes[names.GEN_AI_REQUEST_TEMPERATURE] = self._rules.temperature
        return attributes


def _said(role: str, text: str) -> dict[str, Any]:
    """Return a message as the GenAI conventions have it on spans."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _told(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return messages as an attribute, which is a text; in ASCII, since a surrogate would cost the export its batch."""
    return json.dumps(messages)
