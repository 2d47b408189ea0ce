"""The values that the stages of a turn hand on. Frozen, and valid once built; only the `Draft` of an answer grows."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from app.errors import Fault

Sender = Literal["user", "assistant"]
Finish = Literal["stop", "length", "cancelled", "error"]
Saved = Literal["database", "outbox", "no"]
Surface = Literal["chat", "agent"]
Plan = Literal["concurrent", "sequential"]
Feature = Literal["chat", "agent"]
OnDisconnect = Literal["cancel", "continue"]
Fallback = Literal["model", "heuristic"]
Shortfall = Literal[
    "project_unavailable", "history_shortened", "save_deferred", "save_failed", "superseded", "fallback"
]
"""In what an answer is less than it should be, though it is given: the codes of a reply's `warnings`."""

LONG_MESSAGE_CHARS = 500
AGENT_FIELDS = ("support_type", "selected_acts", "state_snapshot", "project_plan", "decision_metadata", "metrics")
"""What the agent adds to a reply, and to the row of an answer."""
CURRENT_PLAN: ContextVar[Plan] = ContextVar("nursery_chat.plan", default="concurrent")
"""The plan of the turn for which the current task works."""
TURN_IDS = uuid.UUID("5b6f3f0e-64b1-4a3e-9a63-0d2c6c1f7a10")
"""Namespace of the ids that are derived from what they name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A message that one user sends. `conversation_id` and `project_id` are None when the caller named none.

    `newest` is how many stored messages are read; None leaves it to the settings. `shown` is how many of them prompt
    and rules are given, all when None, and none without `with_history`. `by_rules` asks the agent for an answer without
    the model. `on_disconnect` is what becomes of the turn when its client leaves.

    A `turn_id` that was made of a key (it is of version 5; a random one of version 4) may have been asked for before.

    A front end with the AI SDK names more. `or_page`: where `conversation_id` is none of the user's, the conversation
    is `page_id`'s. `project_page` is the page that names the project, where that is not `page_id`. `message_id` is the
    SDK's id of the question, and `replaces` that of the message whose turn this one takes the place of.
    """

    turn_id: uuid.UUID
    user_id: str
    message: str
    page_id: str
    conversation_id: uuid.UUID | None = None
    project_id: str | None = None
    context: str = ""
    surface: Surface = "chat"
    feature: Feature = "chat"
    plan: Plan = "concurrent"
    newest: int | None = None
    shown: int | None = None
    with_history: bool = True
    by_rules: bool = False
    on_disconnect: OnDisconnect = "cancel"
    or_page: bool = False
    project_page: str | None = None
    message_id: str | None = None
    replaces: str | None = None

    @property
    def is_long(self) -> bool:
        """Whether its message is one that gets the longer history."""
        return len(self.message) > LONG_MESSAGE_CHARS

    def shown_of(self, history: "Sequence[StoredMessage]") -> "Sequence[StoredMessage]":
        """Return what prompt and rules are given of a history."""
        if not self.with_history:
            return ()
        return history if self.shown is None else history[-self.shown :]

    @property
    def may_repeat(self) -> bool:
        """Whether the same turn may have been asked for before."""
        return is_of_key(self.turn_id)


def is_of_key(turn_id: uuid.UUID) -> bool:
    """Return whether a turn's id was made of a key, so that more than one request, and process, may come to it."""
    return turn_id.version == 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A row of the conversation, as it was read. `turn_id` is None in rows that an older back end wrote.

    `id` is None in those that are on their way to the database.
    """

    sender: Sender
    message: str
    created_at: datetime
    turn_id: str | None = None
    context_data: Mapping[str, Any] = field(default_factory=dict)
    id: int | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The conversation of a turn with its newest messages, oldest first.

    `is_stored`: the database has it, so it stands under its own id. Else messages of it may be on their way there, and
    `is_new` says that it is this turn's page that it is to be made for. `waits_as`: an id under which messages wait
    besides its own.
    """

    id: uuid.UUID
    messages: Sequence[StoredMessage] = ()
    is_stored: bool = True
    is_new: bool = False
    waits_as: uuid.UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierTurn:
    """The rows that there are already of a turn that is asked for again. `saved` is where they are."""

    conversation_id: uuid.UUID
    question: StoredMessage | None
    answer: StoredMessage | None
    saved: Saved = "database"

    @property
    def whole_answer(self) -> StoredMessage | None:
        """The answer, unless it is one that was cut short."""
        return self.answer if self.answer and is_whole(self.answer.message, self.answer.context_data) else None


def is_whole(text: str, context_data: Mapping[str, Any]) -> bool:
    """Return whether an answer's row holds all of an answer; else it is what there was when its turn was ended."""
    return bool(text.strip()) and context_data.get("finish") in ("stop", "length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a student said of their research project; any of the texts may be empty."""

    id: int | str
    theme: str = ""
    question: str = ""
    hypothesis: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """What the model must know, and when the turn was admitted: later than every message that was seen.

    `regenerates` is the turn that this one takes the place of, where the request named one that was found. `answered`
    is the turn itself, where it was answered before.
    """

    conversation: Conversation
    project: Project | None
    admitted_at: datetime
    warnings: tuple[Shortfall, ...] = ()
    regenerates: str | None = None
    answered: EarlierTurn | None = None


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One message as the model is given it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """All that the model is given. `history_count` messages of the conversation are in it."""

    messages: tuple[PromptMessage, ...]
    history_count: int
    warnings: tuple[Shortfall, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens as the model's host counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None = None

    def as_reply(self) -> dict[str, int]:
        """Return the three counts that replies and stored rows carry."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


class AgentPart(Protocol):
    """What the conversation agent adds to an answer (app/generate/agent/values.py)."""

    def as_reply(self) -> dict[str, Any]:
        """Return the reply's agent fields, ready for JSON; they are stored with the answer too."""


@dataclass(slots=True)
class Draft:
    """The answer while it grows. Whatever ends the turn, what is in here then is what gets stored.

    `fallback` says that something second-best answered, and `stood_in_for` the fault because of which. `on_text` is
    told of each piece as it comes; it must not wait.
    """

    model: str
    parts: list[str] = field(default_factory=list)
    finish: Finish = "cancelled"
    usage: TokenUsage | None = None
    agent: AgentPart | None = None
    fallback: Fallback | None = None
    stood_in_for: Fault | None = None
    on_text: Callable[[str], None] | None = None

    def add(self, text: str) -> None:
        """Let the answer grow by `text`."""
        self.parts.append(text)
        if self.on_text is not None:
            self.on_text(text)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutcome:
    """A turn that was answered: everything the reply says, but for the timings.

    `replayed`: the answer was given before, and this is of the turn in which it was: `trace_id`, `performance_metrics`.
    """

    turn_id: uuid.UUID
    conversation_id: uuid.UUID
    draft: Draft
    project: Project | None
    history_count: int
    warnings: tuple[Shortfall, ...]
    saved: Saved
    plan: Plan = "concurrent"
    replayed: Mapping[str, Any] | None = None
