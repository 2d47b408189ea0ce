"""The query of a conversation's messages, to a frozen value. Pure; every wrong field is named at once."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from app.conversations import MessageName, Place
from app.errors import CallerFault
from app.receive.before import message_before
from app.receive.payload import DEFAULT_PAGE, Id, Name, sentences

SHOWN, MOST_SHOWN = 50, 100
"""Messages of a reply, unless `limit` says otherwise; and how many that may be."""


def limit_of(value: Any) -> int:
    """Return how many of a list are wanted.

    Raises:
        ValueError: that is no number from 1 to `MOST_SHOWN`.
    """
    text = str(value)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_SHOWN):
        raise ValueError(f"must be a number from 1 to {MOST_SHOWN}")
    return int(text[:9])


class HistoryQuery(BaseModel):
    """The query of a conversation's messages. `conversation_id` wins over `page_id`; other fields are ignored.

    Only a conversation's own id is one: who knows a chat by its page key names that as `page_id`.
    """

    model_config = ConfigDict(frozen=True)

    conversation_id: Id | None = None
    page_id: Name = DEFAULT_PAGE
    limit: Annotated[int, BeforeValidator(limit_of)] = SHOWN
    format: Literal["ui"] | None = None
    before: Annotated[Place | MessageName | None, BeforeValidator(message_before)] = None


def parse_history(query: Mapping[str, str]) -> HistoryQuery:
    """Return what a query asks for; a field that is empty is as one that is not there.

    Raises:
        CallerFault: `invalid_request` (its `fields` name each).
    """
    try:
        return HistoryQuery.model_validate({name: value for name, value in query.items() if value})
    except ValidationError as exc:
        raise CallerFault("invalid_request", fields=sentences(exc)) from None
