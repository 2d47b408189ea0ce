"""Where an id may stand in a request, as a table; `test_two_users` finds that the contract has no other places."""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.server.process import AT_ONCE
from tests.server.streaming import sdk_body

ASK = f"Hello {AT_ONCE}"
Sent = Callable[[str], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an id may stand.

    Args:
        method, path: of the address, as the contract has it; a `conversation_id` in it is Ben's own, if it is not `at`.
        at: the parameter or field.
        send: returns what is sent, for an id.
        kinds: of the ids that are tried; all, where none is named.
        gives: what Ben may be answered with.
        hers: of which kinds Aiko is answered with 2xx.
    """

    method: str
    path: str
    at: str
    send: Sent = lambda id_: {}
    kinds: tuple[str, ...] = ()
    gives: tuple[int, ...] = (404,)
    hers: tuple[str, ...] = ()

    def url(self, id_: str, own: str) -> str:
        """Return the address with an id in it, or one's own."""
        path = self.path.replace(f"{{{self.at.rpartition(' ')[2]}}}", id_)
        return path.replace("{conversation_id}", own)


def in_body(at: str) -> Sent:
    """Return what asks with our own body, in which an id stands."""
    return lambda id_: {"json": {"message": ASK, at: id_}}


def in_sdk(at: str, **fields: Any) -> Sent:
    """Return what asks with the AI SDK's body, in which an id stands."""

    def body(id_: str) -> dict[str, Any]:
        return {"json": sdk_asked(str(uuid.uuid4()), **fields, **{at: id_})}

    return body


def sdk_asked(message_id: str, **fields: Any) -> dict[str, Any]:
    """Return the AI SDK's body with a message of that id."""
    body = sdk_body(ASK, "of-ben", **fields)
    body["messages"][0]["id"] = message_id
    return body


def as_key(body: dict[str, Any]) -> Sent:
    return lambda id_: {"json": body, "headers": {"idempotency-key": id_}}


def in_query(at: str, **query: str) -> Sent:
    return lambda id_: {"params": {at: id_, **query}}


def id_places(document: Mapping[str, Any], security: str) -> Iterator[tuple[str, str, str]]:
    """Yield every place of the contract in which a caller of that kind may put something."""
    parts = document["components"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if (security in str(operation["security"])) if security else not operation["security"]:
                for parameter in operation.get("parameters", ()):
                    known = parts["parameters"][parameter["$ref"].rpartition("/")[2]]
                    yield method.upper(), path, f"{known['in']} {known['name']}"
                names = re.findall(r'schemas/(\w+)"', json.dumps(operation.get("requestBody", {})))
                for name in (*names, *(("UiQuestion", "UiOtherMessage") if "UiBody" in names else ())):
                    for at in parts["schemas"][name]["properties"]:
                        yield method.upper(), path, f"{name} {at}"


PAGES = ("page", "alone", "project_page", "memo")
CHATS = ("conversation", "page")
MOVING = (*CHATS, "missed", "turn")
ONE = "/conversations/{conversation_id}"


def _turns(path: str) -> list[Place]:
    """Return the places of a route that takes both bodies; under its second address with the likeliest ids only."""
    our_key, sdk_key = as_key({"message": ASK}), as_key(sdk_asked("1"))
    most = 9 if path == "/chat" else 1
    in_message: Sent = lambda id_: {"json": sdk_asked(id_, id="chat-of-aiko")}  # noqa: E731 - as the others
    rows: list[tuple[str, Any, tuple[str, ...], int, tuple[str, ...]]] = [
        ("ChatPayload conversation_id", in_body("conversation_id"), ("conversation", "turn"), 404, ("conversation",)),
        ("ChatPayload project_id", in_body("project_id"), ("project", "memo"), 404, ("project",)),
        ("ChatPayload page_id", in_body("page_id"), PAGES, 200, PAGES),
        ("header idempotency-key", our_key, ("key", "turn", "message"), 200, ()),
        ("header idempotency-key", sdk_key, ("key",), 200, ()),
        ("UiBody id", in_sdk("id"), PAGES, 200, PAGES),
        ("UiBody id", in_sdk("id", trigger="regenerate-message"), CHATS, 200, CHATS),
        ("UiBody project_id", in_sdk("project_id"), ("project",), 404, ("project",)),
        ("UiBody page_id", in_sdk("page_id"), ("project_page", "memo"), 200, ("project_page", "memo")),
        ("UiBody messageId", in_sdk("messageId"), ("turn", "message"), 200, ("turn",)),
        ("UiBody messageId", in_sdk("messageId", trigger="regenerate-message"), ("turn", "message"), 200, ("turn",)),
        ("UiQuestion id", in_message, ("message", "key"), 200, ("message",)),
    ]
    return [
        Place(method="POST", path=path, at=at, send=send, kinds=kinds[:most], gives=(status,), hers=hers[:most])
        for at, send, kinds, status, hers in rows
    ]


AGENT = "/conversation-agent/chat"
TURNS = [
    *_turns("/chat"),
    *_turns("/chat/stream"),
    Place(method="POST", path=AGENT, at="AgentPayload project_id", send=in_body("project_id"), kinds=("project",),
          hers=("project",)),
    Place(method="POST", path=AGENT, at="AgentPayload page_id", send=in_body("page_id"), kinds=PAGES, gives=(200,),
          hers=PAGES),
    Place(method="POST", path=AGENT, at="header idempotency-key", send=as_key({"message": ASK}),
          kinds=("key",), gives=(200,)),
]  # fmt: skip
RESUMES = [
    Place(
        method="GET", path=f"{path}/{{chat_id}}/stream", at="path chat_id", kinds=kinds, gives=(204,), hers=("missed",)
    )
    for path, kinds in (("/chat", ()), ("/chat/stream", MOVING))
]
STOPS = [
    Place(method="POST", path=f"{path}/{{chat_id}}/stop", at="path chat_id", kinds=kinds, gives=(200,), hers=CHATS)
    for path, kinds in (("/chat", ()), ("/chat/stream", MOVING))
]
READS = [
    Place(method="GET", path="/chat/history", at="query conversation_id", send=in_query("conversation_id"),
          gives=(404, 422), hers=("conversation",)),
    Place(method="GET", path="/chat/history", at="query conversation_id",
          send=in_query("conversation_id", format="ui", before="2099-01-01T00:00:00Z"), kinds=("conversation", "turn"),
          hers=("conversation",)),
    Place(method="GET", path="/chat/history", at="query page_id", send=in_query("page_id"), gives=(200,),
          hers=("page", "alone")),
    Place(method="GET", path="/chat/history", at="query page_id",
          send=in_query("page_id", before="2099-01-01T00:00:00Z"), kinds=CHATS, gives=(200,), hers=("page",)),
    Place(method="GET", path="/chat/history", at="query before", send=in_query("before"), gives=(200, 404, 422),
          hers=("place",)),
    Place(method="GET", path="/conversations", at="query before", send=in_query("before"), gives=(200, 422),
          hers=("heads",)),
    Place(method="POST", path="/conversations", at="NewConversation page_id",
          send=lambda id_: {"json": {"page_id": id_}}, gives=(201,), hers=("page",)),
    Place(method="GET", path=ONE, at="path conversation_id", hers=("conversation",)),
    Place(method="PATCH", path=ONE, at="path conversation_id", send=lambda id_: {"json": {"title": "Mine now"}},
          hers=("conversation",)),
    Place(method="GET", path=f"{ONE}/messages", at="path conversation_id", hers=("conversation",)),
    Place(method="GET", path=f"{ONE}/messages", at="path conversation_id",
          send=lambda id_: {"params": {"before": "2099-01-01T00:00:00Z", "format": "ui"}}, kinds=("conversation",),
          hers=("conversation",)),
    Place(method="GET", path=f"{ONE}/messages", at="query before", send=in_query("before"), gives=(200, 404, 422),
          hers=("place",)),
    Place(method="DELETE", path=ONE, at="path conversation_id", hers=("doomed",)),
]  # fmt: skip
PLACES = [*TURNS, *RESUMES, *STOPS, *READS]
INERT = {
    "header accept-language", "query limit", "query format", "query q", "NewConversation title", "NewTitle title",
    *(f"{body} {name}" for body in ("ChatPayload", "UiBody", "AgentPayload") for name in ("message", "context")),
    *(f"UiBody {name}" for name in ("messages", "trigger", "on_disconnect")), "ChatPayload on_disconnect",
    *(f"AgentPayload {name}" for name in ("include_history", "history_limit", "debug_mode", "mock_mode")),
    "UiQuestion role", "UiQuestion parts", "UiOtherMessage role", "UiOtherMessage parts", "UiOtherMessage id",
}  # fmt: skip
"""Where no id stands. Other messages than the last question are not read."""
