"""A request's body to a `TurnRequest`. Pure; every wrong field is named at once."""

import json
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
)

from app.errors import CallerFault
from app.turn import TURN_IDS, OnDisconnect, TurnRequest

MAX_NAME_CHARS = 255
MAX_CONTEXT_CHARS = 20_000
"""More than a page's text; what the prompt has room for decides in the end."""
DEFAULT_PAGE = "general"
AGENT_HISTORY, MAX_AGENT_HISTORY = 50, 100
TWO_TURNS = 4
"""Messages that are read, however few are asked for: which acts come again depends on the last two answers."""
Payload = TypeVar("Payload", bound=BaseModel)


def _clean(value: Any) -> Any:
    """Refuse a text that neither UTF-8 nor PostgreSQL can hold; what is no text is for its type to refuse."""
    text = value if isinstance(value, str) else ""
    if "\0" in text:
        raise ValueError("must not contain NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate") from None
    return value


def _uuid(value: Any) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("must be a UUID") from None


CLEAN = BeforeValidator(_clean)
"""Goes around a text's limits, not under them: on a validator's outcome pydantic counts items, not characters."""
Text = Annotated[StrictStr, CLEAN]
Name = Annotated[StrictStr, Field(max_length=MAX_NAME_CHARS), CLEAN]
Context = Annotated[StrictStr, Field(max_length=MAX_CONTEXT_CHARS), CLEAN]
Id = Annotated[uuid.UUID, BeforeValidator(_uuid)]


class ChatPayload(BaseModel):
    """The body of `POST /chat`. Fields that older front ends send besides are ignored."""

    model_config = ConfigDict(frozen=True)

    message: Text
    conversation_id: Id | None = None
    project_id: StrictInt | Name | None = None
    page_id: Name | None = None
    context: Context | None = None
    on_disconnect: OnDisconnect | None = None


class AgentPayload(BaseModel):
    """The body of `POST /conversation-agent/chat`. Without `mock_mode: false` the rules answer, not the model."""

    model_config = ConfigDict(frozen=True)

    message: Text
    project_id: StrictInt | Name | None = None
    page_id: Name | None = None
    include_history: StrictBool = True
    history_limit: StrictInt = AGENT_HISTORY
    debug_mode: StrictBool = False
    mock_mode: StrictBool = True


@dataclass(frozen=True, slots=True)
class PayloadRules:
    """What is a setting; `agent_newest`, when the agent answers `/chat`, is how many messages it reads."""

    max_message_chars: int
    agent_newest: int | None = None
    on_disconnect: OnDisconnect = "cancel"


def read_chat(value: Any, user_id: str, rules: PayloadRules, key: str | None = None) -> TurnRequest:
    """Return the turn that a body of `POST /chat`, read as JSON, asks for.

    Args:
        value: the body.
        user_id: who asks.
        rules: what is a setting.
        key: the request's `Idempotency-Key`, if it has one.

    Raises:
        CallerFault: `invalid_request` (its `fields` name each), `message_empty`, `message_too_long`.
    """
    payload = validated(ChatPayload, value)
    return TurnRequest(
        turn_id=turn_id(user_id, key),
        user_id=user_id,
        message=checked_message(payload.message, rules),
        page_id=payload.page_id or DEFAULT_PAGE,
        conversation_id=payload.conversation_id,
        project_id=_id(payload.project_id),
        context=(payload.context or "").strip(),
        feature="chat" if rules.agent_newest is None else "agent",
        newest=rules.agent_newest,
        on_disconnect=payload.on_disconnect or rules.on_disconnect,
    )


def parse_agent(body: bytes, user_id: str, rules: PayloadRules, key: str | None = None) -> tuple[TurnRequest, bool]:
    """Return the turn that a body of `POST /conversation-agent/chat` asks for, and whether it wants `debug_info`.

    Raises:
        CallerFault: `bad_json`, and as `read_chat`.
    """
    payload = validated(AgentPayload, read_json(body))
    shown = min(max(payload.history_limit, 1), MAX_AGENT_HISTORY)
    request = TurnRequest(
        turn_id=turn_id(user_id, key),
        user_id=user_id,
        message=checked_message(payload.message, rules),
        page_id=payload.page_id or DEFAULT_PAGE,
        project_id=_id(payload.project_id),
        surface="agent",
        feature="agent",
        newest=max(shown, TWO_TURNS),
        shown=shown,
        with_history=payload.include_history,
        by_rules=payload.mock_mode,
        on_disconnect=rules.on_disconnect,
    )
    return request, payload.debug_mode


def turn_id(user_id: str, key: str | None) -> uuid.UUID:
    """Return the id of a turn: with a key the same for every request of this user that has it, else a random one.

    Raises:
        CallerFault: `invalid_request`: the key is empty, or longer than `MAX_NAME_CHARS`.
    """
    if key is None:
        return uuid.uuid4()
    if not 0 < len(key) <= MAX_NAME_CHARS:
        raise CallerFault("invalid_request", fields=[f"Idempotency-Key: must have 1 to {MAX_NAME_CHARS} characters"])
    return uuid.uuid5(TURN_IDS, f"{len(user_id)}:{user_id}:key:{key}")


def _id(value: int | str | None) -> str | None:
    return None if value is None else str(value)


def checked_message(text: str, rules: PayloadRules) -> str:
    """Return a message without the space around it.

    Raises:
        CallerFault: `message_empty`, `message_too_long`.
    """
    message = text.strip()
    if not message:
        raise CallerFault("message_empty")
    if len(message) > rules.max_message_chars:
        raise CallerFault("message_too_long", fields=[f"message: at most {rules.max_message_chars} characters"])
    return message


def read_json(body: bytes) -> Any:
    """Return what a body says.

    Raises:
        CallerFault: `bad_json`.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:  # not JSON, not UTF-8, or nested without end
        raise CallerFault("bad_json") from exc


def validated(model: type[Payload], value: Any) -> Payload:
    """Return what a body says, by the fields of `model`.

    Raises:
        CallerFault: `invalid_request` (its `fields` name each).
    """
    if not isinstance(value, dict):
        raise CallerFault("invalid_request", fields=["the body must be an object"])
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        raise CallerFault("invalid_request", fields=sentences(exc)) from None


def sentences(error: ValidationError) -> list[str]:
    """Name each wrong field once, with what it must be, and never with what was sent."""
    found: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        text = item["msg"].removeprefix("Value error, ")
        found.setdefault(str(item["loc"][0]) if item["loc"] else "the body", []).append(text[:1].lower() + text[1:])
    return [f"{name}: {', or '.join(dict.fromkeys(texts))}" for name, texts in found.items()]
