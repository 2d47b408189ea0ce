"""What the stages ask of the database and of the model. The clients beside this file speak the wire."""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from app.turn import Conversation, EarlierTurn, Project, PromptMessage, Sender, TokenUsage

RowKey = tuple[uuid.UUID, Sender]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A row of `chat_logs` to be written; `(turn_id, sender)` is its key, so writing it again changes nothing."""

    turn_id: uuid.UUID
    sender: Sender
    user_id: str
    page: str
    conversation_id: uuid.UUID
    message: str
    context_data: Mapping[str, Any]
    created_at: datetime

    @property
    def key(self) -> RowKey:
        """Its key."""
        return self.turn_id, self.sender


class Database(Protocol):
    """The tables of a chat. Every call filters by user, so another user's row is as absent as an unknown one.

    Every method raises `DatabaseFault` when the database is down, slow to refuse, or refuses us.
    """

    async def user_exists(self, user_id: str) -> bool:
        """Return whether there is such a user."""

    async def ensure_user(self, user_id: str) -> None:
        """Make the user, unless there is one."""

    async def conversation(self, user_id: str, conversation_id: uuid.UUID, newest: int) -> Conversation | None:
        """Return the user's conversation with its `newest` messages, oldest first; None when they have none such."""

    async def conversation_for_page(self, user_id: str, page_id: str, newest: int) -> Conversation | None:
        """Return the user's conversation for a page with its `newest` messages, oldest first, or None."""

    async def project(self, user_id: str, project_id: str) -> Project | None:
        """Return the user's project, or None."""

    async def project_of_memo(self, user_id: str, memo_id: str) -> Project | None:
        """Return the project to which the user's memo belongs, or None."""

    async def latest_project(self, user_id: str) -> Project | None:
        """Return the user's project that was changed last, or None."""

    async def ensure_conversation(
        self, user_id: str, page_id: str, conversation_id: uuid.UUID, title: str
    ) -> uuid.UUID:
        """Make the user's conversation for a page, unless there is one, and return the id of whichever stands."""

    async def turn(self, user_id: str, turn_id: uuid.UUID) -> EarlierTurn | None:
        """Return what is stored of a user's turn, or None."""

    async def write_rows(self, rows: Sequence[LogRow]) -> Collection[RowKey]:
        """Write the rows in one transaction; a row whose key is there already stays as it is.

        Returns:
            Of the rows whose turn's id was made of a key, those that were there; nothing is asked about others, whose
            keys nobody else can have.
        """

    async def replace_row(self, row: LogRow, written_at: datetime) -> bool:
        """Write a row over the one that is in its place, if that is the one of `written_at`; return whether it was."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON Schema, as structured outputs want it, and its name."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A quota of the host's, as one of its answers tells it.

    Args:
        limit: of requests or tokens, for each minute or whatever period; at least 1.
        remaining: of them, when the host wrote the answer.
        reset_s: seconds until all are back, where the host says so.
    """

    limit: int
    remaining: int
    reset_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """The quotas that an answer names.

    Args:
        requests: the quota of requests, where it names one.
        tokens: the quota of tokens, where it names one.
        refused: whether the answer is a refusal.
        overloaded: whether it is one that cannot be for want of a quota: any but a 429.
        retry_after_s: the wait that a refusal asks for.
    """

    requests: Quota | None = None
    tokens: Quota | None = None
    refused: bool = False
    overloaded: bool = False
    retry_after_s: float | None = None


OnLimits = Callable[[RateLimits], None]
"""Called as soon as the head of an answer, or of a refusal, has come; not at all when it names no quota."""

QUOTA_WAIT = "quota_wait"
"""The `error_type` of the fault of a call that was not sent, since the host's quotas would have it wait too long."""
OnHeld = Callable[[float], None]
"""Called with the seconds for which a call was kept back, as soon as it is sent or given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to the model; with `schema`, the answer is to be JSON that fits it.

    `on_limits` is told of the host's quotas, by clients whose wire has them, and `on_held` of a wait for them, by
    whoever keeps a call back; they must not wait, and must not raise.
    """

    messages: tuple[PromptMessage, ...]
    model: str
    max_tokens: int
    temperature: float | None = None
    schema: JsonSchema | None = None
    on_limits: OnLimits | None = field(default=None, compare=False, repr=False)
    on_held: OnHeld | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEnd:
    """How the model ended its answer. Everything but the reason is optional on the wire.

    `fallback`: another model than the one that was asked for gave it.
    """

    finish_reason: str
    model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    usage: TokenUsage | None = None
    fallback: bool = False


OnText = Callable[[str], None]
"""Called with the answer as it comes, as much of it at a time as came; an empty piece is a sign of life."""


class ChatModel(Protocol):
    """A model that answers piece by piece."""

    name: str
    """The model that is asked for."""
    host: tuple[str, int]
    """Where it is asked: server address and port, for telemetry."""
    provider: str
    """Who runs it, in the words of the GenAI conventions."""

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        """Ask, pass each piece on, and return how it ended.

        Raises:
            ModelFault: unreachable, busy, or answered wrongly.
            CallerFault: the prompt is longer than the model can take.
        """
