"""A request's body to a `TurnRequest`. Pure; every wrong field is named at once."""

import json
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
)

from app.errors import CallerFault
from app.turn import TurnRequest

MAX_NAME_CHARS = 255
MAX_CONTEXT_CHARS = 20_000
"""More than a page's text; what the prompt has room for decides in the end."""
DEFAULT_PAGE = "general"


def _clean(text: str) -> str:
    """Refuse what neither UTF-8 nor PostgreSQL can hold."""
    if "\0" in text:
        raise ValueError("must not contain NUL")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must not contain a lone surrogate")
    return text


def _uuid(value: Any) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("must be a UUID") from None


Text = Annotated[StrictStr, AfterValidator(_clean)]
Name = Annotated[Text, Field(max_length=MAX_NAME_CHARS)]


class ChatPayload(BaseModel):
    """The body of `POST /chat`. Fields that older front ends send besides are ignored."""

    model_config = ConfigDict(frozen=True)

    message: Text
    conversation_id: Annotated[uuid.UUID, BeforeValidator(_uuid)] | None = None
    project_id: StrictInt | Name | None = None
    page_id: Name | None = None
    context: Annotated[Text, Field(max_length=MAX_CONTEXT_CHARS)] | None = None


@dataclass(frozen=True, slots=True)
class PayloadRules:
    """The bounds that are settings."""

    max_message_chars: int


def parse_chat(body: bytes, user_id: str, rules: PayloadRules) -> TurnRequest:
    """Return the turn that a body asks for, with a random turn id.

    Raises:
        CallerFault: `bad_json`, `invalid_request` (its `fields` name each), `message_empty`, `message_too_long`.
    """
    payload = _validated(_json(body))
    message = payload.message.strip()
    if not message:
        raise CallerFault("message_empty")
    if len(message) > rules.max_message_chars:
        raise CallerFault("message_too_long", fields=[f"message: at most {rules.max_message_chars} characters"])
    return TurnRequest(
        turn_id=uuid.uuid4(),
        user_id=user_id,
        message=message,
        page_id=payload.page_id or DEFAULT_PAGE,
        conversation_id=payload.conversation_id,
        project_id=None if payload.project_id is None else str(payload.project_id),
        context=(payload.context or "").strip(),
    )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:  # not JSON, not UTF-8, or nested without end
        raise CallerFault("bad_json") from exc


def _validated(value: Any) -> ChatPayload:
    if not isinstance(value, dict):
        raise CallerFault("invalid_request", fields=["the body must be an object"])
    try:
        return ChatPayload.model_validate(value)
    except ValidationError as exc:
        raise CallerFault("invalid_request", fields=_sentences(exc)) from None


def _sentences(error: ValidationError) -> list[str]:
    """Name each wrong field once, with what it must be, and never with what was sent."""
    sentences: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        text = item["msg"].removeprefix("Value error, ")
        sentences.setdefault(str(item["loc"][0]), []).append(text[:1].lower() + text[1:])
    return [f"{name}: {', or '.join(dict.fromkeys(texts))}" for name, texts in sentences.items()]
