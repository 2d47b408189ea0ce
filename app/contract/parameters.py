"""Parameters and headers of the contract, by name. What a query's fields may say is checked in `app/receive`."""

from typing import Any, get_args

from app.contract.examples import CONVERSATION, TURN
from app.contract.schemas import NO_NUL, NOT_BLANK
from app.ops.console_files import DIGEST_DIGITS
from app.ops.outbox_routes import MOST_SHOWN as MOST_ENTRIES
from app.ops.outbox_routes import SHOWN as ENTRIES
from app.receive.conversation_query import MAX_SEARCH_CHARS
from app.receive.history_query import MOST_SHOWN, SHOWN
from app.receive.payload import DEFAULT_PAGE, MAX_NAME_CHARS
from telemetry import names

_TIME = "2026-11-22T05:00:00.002138Z"
_TEXT = {"type": "string", "maxLength": MAX_NAME_CHARS, "pattern": NO_NUL}


def _query(name: str, says: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": says, "schema": schema, **more}


def _path(name: str, says: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": says, "schema": schema, **more}


def _shown(**values: str) -> dict[str, dict[str, str]]:
    return {name: {"value": value} for name, value in values.items()}


PARAMETERS: dict[str, dict[str, Any]] = {
    "AcceptLanguage": {
        "name": "accept-language",
        "in": "header",
        "description": "`ja` first: sentences to show are Japanese; else English.",
        "schema": {"type": "string"},
        "example": "ja,en;q=0.8",
    },
    "IdempotencyKey": {
        "name": "idempotency-key",
        "in": "header",
        "description": "The same key again gives the stored answer: 409 while its turn runs, 422 with another message.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": "^[!-~]+$"},
    },
    "ConversationId": _path("conversation_id", "The conversation.", {"type": "string", "format": "uuid"}),
    "ChatId": _path(
        "chat_id",
        "The chat as the AI SDK has it: the conversation's id, or its page key.",
        {"type": "string", "minLength": 1, "pattern": r"^[^/][^\n]*$"},
        example="project-12",
    ),
    "EntryId": _path("entry_id", "The entry's number.", {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}),
    "Name": _path("name", "A file of the pages.", {"type": "string"}, example="swagger-ui.css"),
    "Digest": _path(
        "digest",
        "Of the names and bytes of all files of the page.",
        {"type": "string", "pattern": f"^[0-9a-f]{{{DIGEST_DIGITS}}}$"},
        example="3f9a6c0d51b27e84",
    ),
    "ConsoleName": _path(
        "name",
        "A file of the page.",
        {"type": "string", "minLength": 1, "pattern": r"^[^/][^\n]*$"},
        example="console.js",
    ),
    "IfNoneMatch": {
        "name": "if-none-match",
        "in": "header",
        "description": "What is held already, by its `etag`.",
        "schema": {"type": "string"},
        "example": '"3f9a6c0d51b27e84"',
    },
    "Limit": _query(
        "limit",
        "How many.",
        {"type": "integer", "minimum": 1, "maximum": MOST_SHOWN, "default": SHOWN},
    ),
    "BeforeMessage": _query(
        "before",
        "Older than this: a time, a message's id, `<turn id>:user` or `:assistant`, or what `x-next-before` gave.",
        {"type": "string"},
        examples=_shown(time=_TIME, message="17", answer=TURN, question=f"{TURN}:user", given=f"{_TIME}~17"),
    ),
    "BeforeConversation": _query(
        "before",
        "After this in the list: a time, or what `x-next-before` gave.",
        {"type": "string"},
        examples=_shown(time=_TIME, given=f"{_TIME}~{CONVERSATION}"),
    ),
    "Search": _query(
        "q",
        "Text in a title or a message, as it stands, whatever its case.",
        {"type": "string", "maxLength": MAX_SEARCH_CHARS, "pattern": NOT_BLANK},
    ),
    "QueryConversation": _query(
        "conversation_id", "The conversation; goes before `page_id`.", {"type": "string", "format": "uuid"}
    ),
    "QueryPage": _query("page_id", "The page key of the conversation.", {**_TEXT, "default": DEFAULT_PAGE}),
    "Format": _query("format", "`ui`: the AI SDK's `UIMessage[]`.", {"type": "string", "enum": ["ui"]}),
    "MinSeconds": _query("min_seconds", "Turns that took at least so long.", {"type": "number", "default": 0}),
    "Outcome": _query("outcome", "Turns that ended so.", {"type": "string", "enum": list(get_args(names.Outcome))}),
    "Entries": _query(
        "limit",
        "How many.",
        {"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES, "default": ENTRIES},
    ),
}


def _header(says: str, schema: dict[str, Any], *, always: bool = False) -> dict[str, Any]:
    return {"description": says, **({"required": True} if always else {}), "schema": schema}


_COUNT = {"type": "integer", "minimum": 0}
_WAIT = "Seconds after which it is worth trying again."
HEADERS: dict[str, dict[str, Any]] = {
    "RequestId": _header("The request's `x-request-id`, or a new one.", {"type": "string"}, always=True),
    "TraceId": _header(
        "The trace; an incoming `traceparent` joins it.", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, always=True
    ),
    "ServerTiming": _header("The stages in milliseconds (W3C Server Timing).", {"type": "string"}),
    "RateLimitLimit": _header("Turns that the user may ask for within the window.", _COUNT),
    "RateLimitRemaining": _header("How many of them are left.", _COUNT),
    "RateLimitReset": _header("Seconds until all of them are back.", _COUNT),
    "NextBefore": _header("What `before` is for the next page; absent on the last.", {"type": "string"}),
    "Location": _header("Where the conversation is.", {"type": "string"}, always=True),
    "ErrorCode": _header("`code` of the error.", {"$ref": "#/components/schemas/ErrorCode"}, always=True),
    "RetryAfter": _header(_WAIT, _COUNT),
    "RetryAfterAlways": _header(_WAIT, _COUNT, always=True),
    "WwwAuthenticate": _header("How to sign in.", {"type": "string", "const": "Bearer"}, always=True),
    "Allow": _header("The methods that the address takes.", {"type": "string"}, always=True),
    "ETag": _header("Names these bytes, packed or not.", {"type": "string", "pattern": '^"[^"]+"$'}, always=True),
    "CacheControl": _header("How long it may be kept.", {"type": "string"}, always=True),
    "StreamVersion": _header("The protocol of the stream.", {"type": "string", "const": "v1"}, always=True),
}
LIMIT_HEADERS = {
    "ratelimit-limit": {"$ref": "#/components/headers/RateLimitLimit"},
    "ratelimit-remaining": {"$ref": "#/components/headers/RateLimitRemaining"},
    "ratelimit-reset": {"$ref": "#/components/headers/RateLimitReset"},
}
ID_HEADERS = {
    "x-request-id": {"$ref": "#/components/headers/RequestId"},
    "x-trace-id": {"$ref": "#/components/headers/TraceId"},
}
