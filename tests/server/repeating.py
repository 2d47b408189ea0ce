"""The ways to ask with a key, and what was told of a turn, whichever way it was asked for."""

import uuid
from typing import Any

import httpx

from tests.respond.ui_wire import read_stream
from tests.server.process import ServerProcess
from tests.server.rows import stored
from tests.server.streaming import post, sdk_body

Told = dict[str, Any]


def sdk(message: str, question_id: str, chat: str, **fields: Any) -> dict[str, Any]:
    """Return the SDK's body of a question that has that id."""
    question = {"id": question_id, "role": "user", "parts": [{"type": "text", "text": message}]}
    return sdk_body("", chat, messages=[question], **fields)


def repeatable(
    server: ServerProcess, way: str, message: str, key: str, *, user: str = "demo", **fields: Any
) -> httpx.Response:
    """Ask under a key: as `json`, as `stream`, with the `sdk`'s body, by a header beside it, or the `agent`'s endpoint.

    The SDK's question has the key for its id; where a header has the key, the id is always another.
    """
    header = {} if way == "sdk" else {"idempotency-key": key}
    sdks = (
        sdk(message, key, "page-1", **fields) if way == "sdk" else sdk(message, str(uuid.uuid4()), "page-1", **fields)
    )
    path, body = {
        "json": ("/chat", {"message": message, **fields}),
        "stream": ("/chat/stream", {"message": message, **fields}),
        "sdk": ("/chat", sdks),
        "sdk and header": ("/chat/stream", sdks),
        "agent": ("/conversation-agent/chat", {"message": message, "mock_mode": False, **fields}),
        "agent by rules": ("/conversation-agent/chat", {"message": message, **fields}),
    }[way]
    return post(server, body, path=path, user=user, **header)


def told(response: httpx.Response) -> Told:
    """Return what an answer tells: a JSON reply, or a stream's metadata with its text as `response`."""
    assert response.status_code == 200, response.text
    body: Told
    if response.headers["content-type"].startswith("application/json"):
        body = response.json()
    else:
        read = read_stream(response.content)
        assert (read.state, read.error) == ("done", None)
        assert read.message_id == read.metadata["turn_id"]
        body = {**read.metadata, "response": read.text}
    assert body["trace_id"] == response.headers["x-trace-id"]
    return body


def stands(folder: Any, turn: Told, question: str) -> None:
    """Check that a turn has two rows, which say what its asker was told."""
    rows = stored(folder, turn_id=turn["turn_id"])
    assert [(row["sender"], row["message"]) for row in rows] == [("user", question), ("assistant", turn["response"])]
    assert {row["conversation_id"] for row in rows} == {turn["conversation_id"]}
    assert rows[1]["context_data"]["finish"] == "stop"
