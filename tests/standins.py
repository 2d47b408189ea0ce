"""Stand-ins that hold to the ports, for tests on virtual time: no socket, thread, file or process."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from app.admit.door import Door
from app.admit.gate import Gate
from app.chat_turn import ChatTurn
from app.clients.ports import ChatModel, Database, LogRow, ModelEnd, ModelRequest, OnText, RowKey
from app.conversations import ConversationHead
from app.edge.turn_feed import TurnEnd
from app.edge.turns import Turns
from app.fetch.earlier import EarlierFetch
from app.fetch.grounding import GroundingFetch
from app.fetch.history import ConversationReader, HistoryFetch, message_of
from app.fetch.project import ProjectFetch
from app.fetch.prompt import PromptRules
from app.generate.agent_speaker import AgentSpeaker
from app.generate.model_call import Generate, ModelRules
from app.generate.speaker import TutorSpeaker
from app.save.turn_record import Mode, Save
from app.turn import Conversation, EarlierTurn, Feature, Plan, Project, TokenUsage, TurnRequest, is_of_key
from telemetry.active_users import ActiveUsers
from telemetry.metrics import build_instruments
from telemetry.stage_clock import StageClock
from telemetry.turn_facts import TurnFacts
from telemetry.turn_trace import TurnTelemetry

Before = Callable[[], Awaitable[None]]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def at_once() -> None:
    """Do nothing but pass a checkpoint."""
    await trio.lowlevel.checkpoint()


def after(seconds: float) -> Before:
    """Return a step that takes so long."""
    return partial(trio.sleep, seconds)


async def never() -> None:
    """Stall for ever."""
    await trio.sleep_forever()


def failing(error: Exception) -> Before:
    """Return a step that raises `error`."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return fail


@dataclass
class MemoryDatabase:
    """`Database` in dictionaries. What each call waits for first can be set, so that it can be slow, stall or fail.

    `conversations` has their users and pages; a page that is empty was given up: the conversation was deleted.
    """

    before_history: Before = at_once
    before_heads: Before = at_once
    before_project: Before = at_once
    before_earlier: Before = at_once
    before_conversation: Before = at_once
    before_write: list[Before] = field(default_factory=list)
    projects: dict[str, Project] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    mapping: dict[str, str] = field(default_factory=dict)
    conversations: dict[uuid.UUID, tuple[str, str]] = field(default_factory=dict)
    writes: list[list[str]] = field(default_factory=list)
    rows: dict[RowKey, LogRow] = field(default_factory=dict)

    async def user_exists(self, user_id: str) -> bool:
        return user_id in self.users

    async def ensure_user(self, user_id: str) -> None:
        self.users.add(user_id)

    async def user_of_auth_id(self, auth_id: str) -> str | None:
        return self.mapping.get(auth_id)

    async def conversation(self, user_id: str, conversation_id: uuid.UUID, newest: int) -> Conversation | None:
        await self.before_history()
        owner, page = self.conversations.get(conversation_id, ("", ""))
        return self._read(conversation_id, newest) if owner == user_id and page else None

    async def conversation_for_page(self, user_id: str, page_id: str, newest: int) -> Conversation | None:
        await self.before_history()
        for conversation_id, key in self.conversations.items():
            if key == (user_id, page_id):
                return self._read(conversation_id, newest)
        return None

    def _read(self, conversation_id: uuid.UUID, newest: int) -> Conversation:
        rows = sorted(
            (row for row in self.rows.values() if row.conversation_id == conversation_id),
            key=lambda row: row.created_at,
        )
        return Conversation(id=conversation_id, messages=tuple(map(message_of, rows[-newest:])))

    async def heads_of(self, user_id: str, ids: Collection[uuid.UUID]) -> list[ConversationHead]:
        await self.before_heads()
        known = {id_: self.conversations[id_] for id_ in ids if id_ in self.conversations}
        return [
            ConversationHead(
                id=id_, title=None, page_id=page or None, created_at=EPOCH, updated_at=EPOCH, is_active=bool(page)
            )
            for id_, (owner, page) in known.items()
            if owner == user_id
        ]

    async def project(self, user_id: str, project_id: str) -> Project | None:
        await self.before_project()
        return self.projects.get(project_id)

    async def project_of_memo(self, user_id: str, memo_id: str) -> Project | None:
        return await self.project(user_id, memo_id)

    async def latest_project(self, user_id: str) -> Project | None:
        await self.before_project()
        return next(reversed(self.projects.values()), None)

    async def ensure_conversation(
        self, user_id: str, page_id: str, conversation_id: uuid.UUID, title: str
    ) -> uuid.UUID:
        await self.before_conversation()
        if self.conversations.get(conversation_id, ("", ""))[0] == user_id:
            return conversation_id
        for known, key in self.conversations.items():
            if key == (user_id, page_id):
                return known
        self.conversations[conversation_id] = (user_id, page_id)
        return conversation_id

    async def turn(self, user_id: str, turn_id: uuid.UUID) -> EarlierTurn | None:
        await self.before_earlier()
        rows = {row.sender: row for row in self.rows.values() if (row.turn_id, row.user_id) == (turn_id, user_id)}
        messages = {sender: message_of(row) for sender, row in rows.items()}
        if not rows:
            return None
        conversation_id = next(iter(rows.values())).conversation_id
        return EarlierTurn(
            conversation_id=conversation_id, question=messages.get("user"), answer=messages.get("assistant")
        )

    async def write_rows(self, rows: Sequence[LogRow]) -> Collection[RowKey]:
        if self.before_write:
            await self.before_write.pop(0)()
        self.writes.append([row.sender for row in rows])
        taken = {row.key for row in rows if row.key in self.rows and is_of_key(row.turn_id)}
        for row in rows:
            self.rows.setdefault(row.key, row)
        return taken

    async def replace_row(self, row: LogRow, written_at: datetime) -> bool:
        await trio.lowlevel.checkpoint()
        found = self.rows.get(row.key)
        if found is None or found.created_at != written_at:
            return False
        self.rows[row.key] = row
        return True

    def senders(self) -> list[str]:
        """Return who said the stored messages, in the order of their times."""
        return [row.sender for row in sorted(self.rows.values(), key=lambda row: row.created_at)]

    def stored(self, sender: str) -> LogRow:
        """Return the one row that `sender` has."""
        (row,) = [row for row in self.rows.values() if row.sender == sender]
        return row


@dataclass
class PacedModel:
    """`ChatModel` that says its pieces, each after a step that may wait, stall or fail."""

    pieces: Sequence[tuple[Before, str]] = ((at_once, "Yes. "), (at_once, "And you?"))
    finish_reason: str = "stop"
    usage: TokenUsage | None = field(
        default_factory=lambda: TokenUsage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
    )
    before_end: Before = at_once
    name: str = "paced"
    host: tuple[str, int] = ("model.test", 443)
    provider: str = "test"
    asked: list[ModelRequest] = field(default_factory=list)
    talking: int = 0

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        self.asked.append(request)
        self.talking += 1
        try:
            for before, piece in self.pieces:
                await before()
                on_text(piece)
            await self.before_end()
        finally:
            self.talking -= 1
        return ModelEnd(
            finish_reason=self.finish_reason, model="paced-1", response_id="r1", request_id="q1", usage=self.usage
        )


class SpanCount(SpanProcessor):
    """Counts starts and ends, and keeps what ended."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: object = None) -> None:
        self.open[span.get_span_context().span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        assert context is not None
        assert self.open.pop(context.span_id), "ended twice, or never started"
        self.ended.append(span)

    def named(self, name: str) -> ReadableSpan:
        """Return the one ended span of that name."""
        (span,) = [span for span in self.ended if span.name == name]
        return span

    def names(self) -> set[str]:
        return {span.name for span in self.ended}


@dataclass
class Watched:
    """Telemetry whose spans and metrics a test can read."""

    telemetry: TurnTelemetry
    spans: SpanCount
    reader: InMemoryMetricReader
    facts: list[TurnFacts]
    tracers: TracerProvider
    meters: MeterProvider

    def points(self, name: str) -> list[HistogramDataPoint]:
        """Return the points of a histogram, as of now."""
        return [point for point in self._points(name) if isinstance(point, HistogramDataPoint)]

    def sum(self, name: str) -> float:
        """Return the sum of a counter, as of now."""
        return sum(point.value for point in self._points(name) if isinstance(point, NumberDataPoint))

    def _points(self, name: str) -> list[object]:
        data = self.reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


def virtual_clock() -> StageClock:
    """Return a stage clock on Trio's time, so that virtual seconds are what it measures."""
    return StageClock(
        lambda: round(trio.current_time() * 1e9), lambda: int(datetime(2026, 11, 22, tzinfo=UTC).timestamp() * 1e9)
    )


def watched(*, sampled: bool = True, new_clock: Callable[[], StageClock] = virtual_clock) -> Watched:
    """Return telemetry that keeps what it is told."""
    spans, reader, facts = SpanCount(), InMemoryMetricReader(), list[TurnFacts]()
    tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    tracers.add_span_processor(spans)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    telemetry = TurnTelemetry(
        tracer=tracers.get_tracer("test"),
        instruments=build_instruments(meters.get_meter("test")),
        user_key=b"key",
        active_users=ActiveUsers(lambda: 0.0),
        listeners=(facts.append,),
        new_clock=new_clock,
    )
    return Watched(telemetry, spans, reader, facts, tracers, meters)


@dataclass
class House:
    """The stages joined around stand-ins, with the server's turn nursery."""

    turns: Turns
    door: Door
    gate: Gate
    seen: Watched

    async def ask(self, request: TurnRequest) -> TurnEnd:
        """Follow a turn to its end."""
        return await self.turns.follow(request, TRACE_ID)


@asynccontextmanager
async def open_house(
    database: Database | None = None,
    model: ChatModel | None = None,
    *,
    seen: Watched | None = None,
    slots: int = 10,
    queue_timeout_s: float = 10.0,
    turn_timeout_s: float = 55.0,
    prompt_max_chars: int = 48_000,
    plan: Plan = "concurrent",
    model_ready: Callable[[], bool] = lambda: True,
    outbox: Any = None,
    save_mode: Mode = "await",
) -> AsyncIterator[House]:
    """Open a house with API.md's default deadlines; leaving it waits for the turns."""
    database = database if database is not None else MemoryDatabase()
    model = model if model is not None else PacedModel()
    seen = seen or watched()
    door, gate = Door(model_ready), Gate(slots, queue_timeout_s)
    rules = ModelRules(max_tokens=800, temperature=None, first_token_s=20, idle_s=10, whole_s=40)
    generate = Generate(model, rules)
    history = HistoryFetch(ConversationReader(database, outbox), newest=20, newest_for_long=50)
    stages = partial(
        ChatTurn,
        door=door,
        fetch=GroundingFetch(history, ProjectFetch(database), EarlierFetch(database, outbox), 5.0),
        prompt_rules=PromptRules("You are a tutor.", prompt_max_chars),
        gate=gate,
        save=Save(database, 2.0, outbox, save_mode),
        timeout_s=turn_timeout_s,
    )
    chat_turns: dict[Feature, ChatTurn] = {
        "chat": stages(speaker=TutorSpeaker(generate)),
        "agent": stages(speaker=AgentSpeaker(generate, gate)),
    }
    async with trio.open_nursery() as nursery:
        yield House(Turns(nursery, chat_turns, seen.telemetry, lambda feature, user_id: plan), door, gate, seen)


def question(message: str = "What is a hypothesis?", **fields: Any) -> TurnRequest:
    """Return a turn that user u1 asks for, on the page `general`."""
    base = TurnRequest(turn_id=uuid.uuid4(), user_id="u1", message=message, page_id="general")
    return replace(base, **fields)
