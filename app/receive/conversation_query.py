"""Queries and bodies about conversations, to frozen values. Pure; every wrong field is named at once."""

import uuid
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationError

from app.conversations import Place, has_controls
from app.errors import CallerFault
from app.receive.before import conversation_before, uuid_of
from app.receive.history_query import SHOWN, limit_of
from app.receive.payload import CLEAN, MAX_NAME_CHARS, Text, sentences, validated

MAX_TITLE_CHARS = 200
MAX_SEARCH_CHARS = 100


def _title(text: str) -> str:
    title = text.strip()
    if not 1 <= len(title) <= MAX_TITLE_CHARS:
        raise ValueError(f"must have 1 to {MAX_TITLE_CHARS} characters")
    if has_controls(title):
        raise ValueError("must not contain control characters")
    return title


Title = Annotated[Text, AfterValidator(_title)]
SearchText = Annotated[StrictStr, Field(max_length=MAX_SEARCH_CHARS), CLEAN, AfterValidator(str.strip)]
PageKey = Annotated[StrictStr, Field(min_length=1, max_length=MAX_NAME_CHARS), CLEAN]


class ConversationsQuery(BaseModel):
    """The query of `GET /conversations`; `q` is looked for as it stands, without the space around it."""

    model_config = ConfigDict(frozen=True)

    limit: Annotated[int, BeforeValidator(limit_of)] = SHOWN
    before: Annotated[Place | None, BeforeValidator(conversation_before)] = None
    q: SearchText = ""


class NewConversation(BaseModel):
    """The body of `POST /conversations`."""

    model_config = ConfigDict(frozen=True)

    title: Title | None = None
    page_id: PageKey | None = None


class NewTitle(BaseModel):
    """The body of `PATCH /conversations/{id}`."""

    model_config = ConfigDict(frozen=True)

    title: Title


def parse_conversations(query: Mapping[str, str]) -> ConversationsQuery:
    """Return what a query asks for; a field that is empty is as one that is not there.

    Raises:
        CallerFault: `invalid_request` (its `fields` name each).
    """
    try:
        return ConversationsQuery.model_validate({name: value for name, value in query.items() if value})
    except ValidationError as exc:
        raise CallerFault("invalid_request", fields=sentences(exc)) from None


def read_new_conversation(value: object) -> NewConversation:
    """Return what a body of `POST /conversations`, read as JSON, asks for. Raises as `parse_conversations`."""
    return validated(NewConversation, value)


def read_new_title(value: object) -> str:
    """Return the title of a body of `PATCH /conversations/{id}`, read as JSON. Raises as `parse_conversations`."""
    return validated(NewTitle, value).title


def conversation_named(text: str) -> uuid.UUID:
    """Return the id in an address.

    Raises:
        CallerFault: `not_found`: nothing has such an id.
    """
    id_ = uuid_of(text)
    if id_ is None:
        raise CallerFault("not_found")
    return id_
