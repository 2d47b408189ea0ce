"""The schemas of the contract, by name: of what reads requests, and of what describes answers."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from app.contract import answers, ops_answers
from app.contract.console_answer import Console
from app.contract.parts import StreamPart
from app.contract.support_answer import Support
from app.errors import KINDS
from app.ops.limiter_routes import CHANGES, LimiterBody
from app.ops.rollout_routes import RolloutChange
from app.receive.conversation_query import MAX_TITLE_CHARS, NewConversation, NewTitle
from app.receive.payload import AgentPayload, ChatPayload
from app.receive.ui_messages import UiBody

Schema = dict[str, Any]
OF_FRONT_ENDS: tuple[type[BaseModel], ...] = (ChatPayload, UiBody, AgentPayload, NewConversation, NewTitle)
REQUESTS: tuple[type[BaseModel], ...] = (*OF_FRONT_ENDS, LimiterBody, RolloutChange)
ANSWERS: tuple[type, ...] = (
    answers.Health,
    answers.Readiness,
    answers.ChatAnswer,
    answers.AgentAnswer,
    answers.AgentStatus,
    answers.Stopped,
    answers.StoredMessage,
    answers.UiMessage,
    answers.Conversation,
    answers.Problem,
    ops_answers.LimiterState,
    ops_answers.RolloutState,
    ops_answers.RecentTurns,
    ops_answers.SettingsInForce,
    ops_answers.OutboxListing,
    ops_answers.OutboxChanged,
    Support,
    Console,
)
NO_NUL = r"^[^\u0000]*$"
NOT_BLANK = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
WORDS = r"[^\s\u0000-\u001f\u007f-\u009f\u2028\u2029]"
_TITLE: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_TITLE_CHARS,
    "pattern": f"{ONE_LINE[:-1]}{WORDS}{ONE_LINE[1:]}",
}
_MESSAGE: Schema = {
    "type": "string",
    "minLength": 1,
    "pattern": NOT_BLANK,
    "description": "At most `MAX_CHAT_MESSAGE_LENGTH` characters without the space around it: 2000, if not set.",
}
_PROJECT = "The project that the answer is to know; one that is not the user's is 404."
_PAGE = "Names the conversation where `conversation_id` does not; `project-<id>` or a memo's number names a project."
_AWAY = "What becomes of the turn when its client leaves; `ON_DISCONNECT`, if not given."
_SENT: Schema = {
    "description": "A message of the SDK's list. The last one of the user's is the question; the others are not read.",
    "oneOf": [{"$ref": "#/components/schemas/UiQuestion"}, {"$ref": "#/components/schemas/UiOtherMessage"}],
}
# Model -> field -> what its type does not say: rules that are checked in code, and what the field is for.
NOTES: Mapping[str, Mapping[str, Schema]] = {
    "ChatPayload": {
        "message": _MESSAGE,
        "conversation_id": {"description": "The user's own; another's is 404."},
        "project_id": {"description": _PROJECT},
        "page_id": {"description": _PAGE + " `general`, if not given."},
        "context": {"description": "What the learner looks at, as text for the model."},
        "on_disconnect": {"description": _AWAY},
    },
    "UiBody": {
        "id": {"description": "The user's own conversation, if it is one, else the page key of one.", "minLength": 1},
        "messages": {
            "items": _SENT,
            "contains": {"type": "object", "properties": {"role": {"const": "user"}}, "required": ["role"]},
        },
        "trigger": {"description": "What the user did."},
        "messageId": {"description": "Of the message that is edited, tried again or regenerated.", "minLength": 1},
        "project_id": {"description": _PROJECT},
        "page_id": {"description": "The page that names the project, where that is not `id`."},
        "context": {"description": "What the learner looks at, as text for the model."},
        "on_disconnect": {"description": _AWAY},
    },
    "AgentPayload": {
        "message": _MESSAGE,
        "project_id": {"description": _PROJECT},
        "page_id": {"description": _PAGE},
        "include_history": {"description": "Whether earlier messages are read."},
        "history_limit": {"description": "Held to 1 to 100."},
        "debug_mode": {"description": "Adds `debug_info` to the answer."},
        "mock_mode": {"description": "True: the rules answer, and no model is called."},
    },
    "NewConversation": {"title": _TITLE, "page_id": {"description": "The same key again is the same conversation."}},
    "NewTitle": {"title": _TITLE},
    "RolloutChange": {"users": {"description": "Users that always take the concurrent plan while the flag is true."}},
    "LimiterBody": {
        "total_tokens": {"description": "The fixed limit, or where the adaptive one goes on from."},
        "who": {"description": "For the log and the list of changes."},
        "why": {"description": "For the log and the list of changes."},
    },
}
_TEXT_PART: Schema = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string", "pattern": NO_NUL}},
    "required": ["type", "text"],
    "additionalProperties": True,
}
_BY_HAND: Mapping[str, Schema] = {
    "UiQuestion": {
        "description": "A message of the user's: text only, and some of it.",
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": NO_NUL},
            "role": {"const": "user"},
            "parts": {
                "type": "array",
                "items": _TEXT_PART,
                "contains": {"type": "object", "properties": {"text": {"type": "string", "pattern": NOT_BLANK}}},
            },
        },
        "required": ["id", "role", "parts"],
        "additionalProperties": True,
    },
    "UiOtherMessage": {
        "description": "An answer, or a message of the front end's own.",
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "role": {"enum": ["assistant", "system"]},
            "parts": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
        },
        "required": ["id", "role", "parts"],
        "additionalProperties": True,
    },
}


class _Plain(GenerateJsonSchema):
    """Without titles that repeat names; what an answer has is there, whether or not its class has a default for it."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return that the field's name says enough."""
        return False

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        """Return whether a field is always there."""
        if self.mode == "serialization" and field["type"] == "dataclass-field":
            return True
        return super().field_is_required(field, total)


def component_schemas() -> dict[str, Schema]:
    """Return every named schema."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        *((model.__name__, "validation", TypeAdapter(model)) for model in REQUESTS),
        *((kind.__name__, "serialization", TypeAdapter(kind)) for kind in ANSWERS),
        ("StreamPart", "serialization", TypeAdapter(StreamPart)),
    ]
    refs, found = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}", schema_generator=_Plain)
    named: dict[str, Schema] = {**found["$defs"], **_BY_HAND, "StreamPart": refs["StreamPart", "serialization"]}
    for schema in named.values():
        _without_noise(schema)
    for model, notes in NOTES.items():
        for field, note in notes.items():
            _note(named[model]["properties"][field], note)
    for request in REQUESTS:
        _tell_defaults(named[request.__name__])
    for request in OF_FRONT_ENDS:
        _refuse_nul(named[request.__name__])
    named["UiBody"]["not"] = {"required": ["message"]}  # which makes it ours
    named["LimiterBody"]["anyOf"] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in CHANGES
    ]
    named["Problem"]["properties"]["code"]["enum"] = sorted(KINDS)
    named["StreamFault"]["properties"]["code"]["enum"] = sorted(KINDS)
    return dict(sorted(named.items()))


def _without_noise(schema: Schema) -> None:
    """Leave out what no reader needs: titles that are names, line ends within sentences, nothing as a default."""
    if isinstance(schema.get("title"), str):
        del schema["title"]
    if isinstance(schema.get("description"), str):
        schema["description"] = " ".join(schema["description"].split())
    for field in schema.get("properties", {}).values():
        if field.get("default", ...) in (None, [], ""):
            del field["default"]


def _tell_defaults(schema: Schema) -> None:
    """Say defaults of a request in words: makers of types take a field that has one for a field that must be there."""
    for field in schema["properties"].values():
        if "default" in field:
            value = field.pop("default")
            text = value if isinstance(value, str) else json.dumps(value)
            field["description"] = f"{field.get('description', '')} `{text}`, if not given.".lstrip()


def _note(field: Schema, note: Schema) -> None:
    """Add to a field; rules about texts go to the alternative that is one."""
    texts = [one for one in field.get("anyOf", ()) if one.get("type") == "string"]
    for key, value in note.items():
        (texts[0] if texts and key != "description" else field)[key] = value


def _refuse_nul(schema: Any) -> None:
    """Say of every text that is read that it has no NUL in it."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not schema.keys() & {"pattern", "format", "enum", "const"}:
            schema["pattern"] = NO_NUL
        for inner in schema.values():
            _refuse_nul(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _refuse_nul(inner)
