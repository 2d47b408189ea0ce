"""The OpenAPI 3.1 document, joined of the table of operations and of the components. Pure."""

import json
import re
from typing import Any

from app.contract import examples
from app.contract.operation import Answer, Operation
from app.contract.operations import OPERATIONS
from app.contract.parameters import HEADERS, ID_HEADERS, LIMIT_HEADERS, PARAMETERS
from app.contract.problems import (
    ANYWHERE,
    ELSEWHERE,
    IN_STREAMS,
    by_status,
    error_headers,
    problem_content,
    problem_example,
    response_name,
    says,
    sentence_content,
)
from app.contract.schemas import component_schemas
from app.errors import KINDS

VERSION = "1.0.0"
"""Of the contract: a larger first number takes something away or changes it, a larger second one adds."""
ABOUT = """\
A chat server: one request, one answer, or a stream of it; conversations and their history; and what those who run it \
see and change.

Every answer carries `x-request-id` and `x-trace-id`; an incoming `traceparent` joins the trace. What a `GET` is \
answered, a `HEAD` is too, without its body; `OPTIONS` names the methods. Unknown addresses are 404, other methods \
405: see `NotFound` and `MethodNotAllowed`. Large answers are packed with gzip for who takes it.

Errors are `application/problem+json` (RFC 9457): go by `code`, show `detail`. What the AI SDK asks is told the \
sentence alone, as `text/plain`, with the code in `x-error-code`.
"""
TAGS = {
    "chat": "Turns: a message and its answer.",
    "agent": "The conversation agent's own endpoints.",
    "conversations": "Conversations and their messages.",
    "health": "For load balancers.",
    "ops": "For those who run the server; with `OPS_TOKEN`, or from this machine without one.",
    "contract": "This document.",
}
SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "open": [],
    "user": [{"userToken": []}],
    "ops": [{"opsToken": []}, {}],
}
_CODES = sorted(KINDS)
_SPECIAL: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "object": {"type": "object"},
    "stream": {
        "type": "string",
        "description": "Server-sent events: each `data:` is a `StreamPart`, the last one `[DONE]`; `:` is a comment.",
    },
}


def document() -> dict[str, Any]:
    """Return the document; the same for every server of this version, whatever its settings.

    Raises:
        ValueError: a kind of fault is no operation's, or two responses would have one name.
    """
    _check_codes()
    shared = Shared()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(path_of(operation.rule), {})[operation.method] = _operation(operation, shared)
    _elsewhere(shared)
    schemas = component_schemas()
    schemas["ErrorCode"] = {"type": "string", "enum": _CODES, "description": "What a program goes by."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nursery-chat", "version": VERSION, "description": ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "responses": dict(sorted(shared.responses.items())),
            "examples": {code: {"summary": KINDS[code].title, "value": problem_example(code)} for code in _CODES},
            "securitySchemes": _security_schemes(),
        },
    }


def path_of(rule: str) -> str:
    """Return a router's rule as OpenAPI spells it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


class Shared:
    """Errors that several operations have in common, each spelled out once."""

    def __init__(self) -> None:
        self.responses: dict[str, Any] = {}

    def put(self, name: str, response: dict[str, Any]) -> dict[str, str]:
        """Return the reference that stands for a response.

        Raises:
            ValueError: another response has this name.
        """
        if self.responses.setdefault(name, response) != response:
            raise ValueError(f"two responses are named {name}")
        return {"$ref": f"#/components/responses/{name}"}


def _check_codes() -> None:
    told = {*ANYWHERE, *ELSEWHERE, *IN_STREAMS, *(code for operation in OPERATIONS for code in operation.codes)}
    if told != set(KINDS):
        raise ValueError(f"no operation is answered with: {', '.join(sorted(set(KINDS) - told))}")


def _operation(operation: Operation, shared: Shared) -> dict[str, Any]:
    body = {"requestBody": _body(operation.bodies)} if operation.bodies else {}
    return {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        **({"description": operation.says} if operation.says else {}),
        "security": SECURITY[operation.security],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters],
        **body,
        "responses": _responses(operation, shared),
    }


def _body(models: tuple[str, ...]) -> dict[str, Any]:
    refs = [{"$ref": f"#/components/schemas/{model}"} for model in models]
    shown = {
        name if len(models) == 1 else f"{model}-{name}": {"value": value}
        for model in models
        for name, value in examples.REQUESTS[model].items()
    }
    schema = refs[0] if len(refs) == 1 else {"oneOf": refs}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": shown}}}


def _responses(operation: Operation, shared: Shared) -> dict[str, Any]:
    codes = by_status({*ANYWHERE, *operation.codes})
    told = ID_HEADERS | (LIMIT_HEADERS if operation.counted else {})
    responses = {str(status): _answer(answer, told) for status, answer in operation.answers.items()}
    for status, found in codes.items():
        problem = _problem(operation, found, told)
        if status in operation.answers:
            responses[str(status)] = _either(responses[str(status)], problem)
        else:
            responses[str(status)] = shared.put(_problem_name(operation, found), problem)
    return dict(sorted(responses.items()))


def _problem_name(operation: Operation, codes: list[str]) -> str:
    """Return a name made of nothing but what the response says, so that it stays whatever comes before it."""
    told = "OfTurn" if operation.timed else "Counted" if operation.counted else ""
    return response_name(codes) + told + ("" if operation.problems == "json" else "OrSentence")


def _problem(operation: Operation, codes: list[str], told: dict[str, Any]) -> dict[str, Any]:
    content = problem_content(codes)
    if operation.problems != "json":
        content |= sentence_content([code for code in codes if code in operation.codes] or codes)
    timed = {"server-timing": {"$ref": "#/components/headers/ServerTiming"}} if operation.timed else {}
    return {"description": says(codes), "headers": {**told, **error_headers(codes), **timed}, "content": content}


def _answer(answer: Answer, told: dict[str, Any]) -> dict[str, Any]:
    own = {name: {"$ref": f"#/components/headers/{component}"} for name, component in answer.headers.items()}
    content = {
        media: _media(media, schema, answer.examples if media == "application/json" else ())
        for media, schema in answer.content.items()
    }
    return {"description": answer.says, "headers": {**told, **own}, **({"content": content} if content else {})}


def _either(answer: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    """Return one response of the two; headers that only one of them has are optional then."""
    headers = {name: header for name, header in problem["headers"].items() if name in answer["headers"]}
    return {
        "description": f"{answer['description']}\n\n{problem['description']}",
        "headers": headers,
        "content": answer["content"] | problem["content"],
    }


def _media(media: str, schema: str, shown: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"schema": _schema(schema)}
    if media == "text/event-stream":
        found["x-sse-parts"] = {"$ref": "#/components/schemas/StreamPart"}
        found["example"] = _stream_example()
    if shown:
        found["examples"] = {name: {"value": examples.ANSWERS[name]} for name in shown}
    return found


def _stream_example() -> str:
    lines = (f"data: {_encoded(part)}\n\n" for part in examples.PARTS)
    return "".join(lines) + "data: [DONE]\n\n"


def _encoded(part: dict[str, Any]) -> str:
    return json.dumps(part, ensure_ascii=False, separators=(",", ":"))


def _schema(words: str) -> dict[str, Any]:
    """Return the schema that a word of the table stands for."""
    if "|" in words:
        return {"anyOf": [_schema(word) for word in words.split("|")]}
    if words in _SPECIAL:
        return _SPECIAL[words]
    if words.startswith("["):
        return {"type": "array", "items": _schema(words[1:-1])}
    return {"$ref": f"#/components/schemas/{words}"}


def _elsewhere(shared: Shared) -> None:
    """Add what is answered where nothing is described."""
    allow = {"allow": {"$ref": "#/components/headers/Allow"}}
    more: dict[str, dict[str, Any]] = {"not_found": {}, "method_not_allowed": allow}
    for code in ELSEWHERE:
        headers = {**ID_HEADERS, **error_headers([code]), **more[code]}
        response = {"description": says([code]), "headers": headers, "content": problem_content([code])}
        shared.put(response_name([code]), response)


def _security_schemes() -> dict[str, Any]:
    return {
        "userToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Supabase Auth's access token; with `AUTH_MODE=dev`, on one's own machine, a user's id.",
        },
        "opsToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "`OPS_TOKEN`. Without one, who asks on this machine needs none, and others find nothing.",
        },
    }
