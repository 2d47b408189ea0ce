"""What the stages ask of the database and of the model. The clients beside this file speak the wire."""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from app.conversations import ConversationHead, MessageName, Place
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


class ConversationHeads(Protocol):
    """What both halves of the database are asked."""

    async def heads_of(self, user_id: str, ids: Collection[uuid.UUID]) -> list[ConversationHead]:
        """Return the user's conversations of these ids, those too that were deleted."""


class Database(ConversationHeads, Protocol):
    """The tables of a chat. Every call filters by user, so another user's row is as absent as an unknown one.

    Every method raises `DatabaseFault` when the database is down, slow to refuse, or refuses us.
    """

    async def user_exists(self, user_id: str) -> bool:
        """Return whether there is such a user."""

    async def ensure_user(self, user_id: str) -> None:
        """Make the user, unless there is one."""

    async def user_of_auth_id(self, auth_id: str) -> str | None:
        """Return which user somebody is whom the identity provider knows by `auth_id`, where that is written down."""

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
        """Make the user's conversation for a page, unless there is one, and return the id of whichever stands.

        One of that id stands, though it was deleted since: what was said in it belongs there.
        """

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


class ConversationTable(ConversationHeads, Protocol):
    """What lists of conversations, and pages of their messages, ask of the same tables, in the same way.

    A conversation that was deleted is as absent as an unknown one, unless a method says otherwise.
    """

    async def messages_before(
        self, user_id: str, of: uuid.UUID | str, before: Place, newest: int
    ) -> Conversation | None:
        """Return the user's conversation of an id, or of a page, with the `newest` messages before a place, oldest
        first; None when they have none such.
        """

    async def place_of(self, user_id: str, name: MessageName) -> tuple[uuid.UUID, Place] | None:
        """Return the place of a user's message, and which conversation it is of; None when they have none such."""

    async def heads(
        self,
        user_id: str,
        limit: int,
        before: Place | None = None,
        text: str = "",
        among: Collection[uuid.UUID] | None = None,
    ) -> list[ConversationHead]:
        """Return the user's first `limit` conversations, newest activity first.

        Args:
            user_id: whose.
            limit: at most so many.
            before: only those that come after this place in the list.
            text: only those that have it in their title or in a message, whatever the case.
            among: only those of these ids.
        """

    async def make_conversation(
        self, user_id: str, page_id: str, conversation_id: uuid.UUID, title: str | None
    ) -> tuple[ConversationHead, bool]:
        """Make a conversation for a page, unless there is one; return whichever stands, and whether it was made."""

    async def rename_conversation(
        self, user_id: str, conversation_id: uuid.UUID, title: str
    ) -> ConversationHead | None:
        """Give the user's conversation a title; return it, None when they have none such."""

    async def hide_conversation(self, user_id: str, conversation_id: uuid.UUID) -> None:
        """Delete the user's conversation softly; it gives its page up and keeps its messages."""


class ChatDatabase(Database, ConversationTable, Protocol):
    """All that is asked of the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedKeySet:
    """A key set as its host sent it, and how long that may be kept, in seconds, where the host says so."""

    body: bytes
    max_age_s: float | None = None


class KeyHost(Protocol):
    """Publishes the keys that tokens are verified with."""

    async def fetch_keys(self) -> FetchedKeySet:
        """Return what the host publishes now, in bounded time and size.

        Raises:
            IdentityFault: it does not answer, or not with that.
        """


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
