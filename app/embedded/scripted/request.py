"""What the scripted model was asked: an OpenAI chat completion request, checked as strictly as the real one.

Only the fields that change the answer are kept; the others (temperature, seed, user...) change nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


class RefusedRequestError(Exception):
    """The request cannot be answered; carries the HTTP status and the fields of OpenAI's error body."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, param=param, code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the prompt, its text parts joined."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One accepted request; `messages` holds at least one message of the user, `schema` what the answer must fit."""

    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool
    max_tokens: int | None
    schema: Mapping[str, Any] | None = None

    @property
    def question(self) -> str:
        """The text of the last user message."""
        return next(message.text for message in reversed(self.messages) if message.role == "user")


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return OpenAI's error object for `status`."""
    kind = ERROR_TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def read_request(body: bytes) -> ChatRequest:
    """Return the request in `body`.

    Raises:
        RefusedRequestError: 400, naming the first field that is missing or of the wrong type.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise RefusedRequestError(400, "We could not parse the JSON body of your request.") from exc
    if not isinstance(fields, dict):
        raise RefusedRequestError(400, "The body must be a JSON object.")
    if not isinstance(fields.get("model"), str):
        raise RefusedRequestError(400, "You must provide a model parameter.", param="model")
    options = _typed(fields, "stream_options", dict)
    return ChatRequest(
        messages=_messages(fields.get("messages")),
        stream=bool(_typed(fields, "stream", bool)),
        include_usage=bool(_typed(options or {}, "include_usage", bool)),
        max_tokens=_limit(fields),
        schema=_schema(_typed(fields, "response_format", dict) or {}),
    )


def _typed(fields: Mapping[str, Any], name: str, wanted: type) -> Any:
    value = fields.get(name)
    if value is None or type(value) is wanted:
        return value
    raise RefusedRequestError(400, f"Invalid type for '{name}': expected {wanted.__name__}.", param=name)


def _limit(fields: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit: int | None = _typed(fields, name, int)
        if limit is None:
            continue
        if limit < 1:
            raise RefusedRequestError(400, f"Invalid value for '{name}': expected at least 1.", param=name)
        return limit
    return None


def _schema(response_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = _typed(response_format, "json_schema", dict)
    return _typed(wanted, "schema", dict) if wanted is not None else None


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise RefusedRequestError(400, "Invalid 'messages': expected a non-empty array.", param="messages")
    messages = tuple(_message(item, f"messages.{index}") for index, item in enumerate(value))
    if not any(message.role == "user" for message in messages):
        raise RefusedRequestError(400, "Invalid 'messages': no message of the user.", param="messages")
    return messages


def _message(item: Any, param: str) -> Message:
    if not isinstance(item, dict) or item.get("role") not in ("system", "developer", "user", "assistant"):
        raise RefusedRequestError(400, f"Invalid '{param}': expected an object with a known role.", param=param)
    content = item.get("content")
    if isinstance(content, str):
        return Message(role=item["role"], text=content)
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return Message(role=item["role"], text="".join(part["text"] for part in content))
    raise RefusedRequestError(400, f"Invalid '{param}.content': expected text.", param=f"{param}.content")


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
