"""Every error of the contract, made of the rows of `app.errors.KINDS`."""

from collections.abc import Collection, Iterable
from typing import Any

from app.errors import KINDS, CallerFault
from app.respond.problem import problem_body

TRACE = "0af7651916cd43dd8448eb211c80319c"
ANYWHERE = ("bad_request", "headers_too_large", "internal_error", "not_implemented", "http_version", "overloaded")
"""What the edge refuses, or fails with, whatever is asked for."""
ELSEWHERE = ("not_found", "method_not_allowed")
"""What is answered at addresses, and to methods, that are not described."""
IN_STREAMS = ("stopped",)
"""What nobody is answered with: only a stream's turn can be stopped, and its followers are told by an `abort` part."""
SIGNED_IN = ("unauthenticated", "rate_limited", "identity_unavailable", "database_unavailable", "stage_timeout")
BODY = ("bad_json", "body_timeout", "body_too_large", "unsupported_media_type", "invalid_request")
ROWS = ("not_found", "database_unavailable", "stage_timeout")
TURN = (
    "message_empty",
    "message_too_long",
    "not_found",
    "turn_in_progress",
    "idempotency_mismatch",
    "rate_limited",
    "overloaded",
    "draining",
    "model_loading",
    "model_busy",
    "model_error",
    "database_unavailable",
    "stage_timeout",
)
OPS = ("unauthenticated", "not_found", "rate_limited")


def by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    """Return codes by their status, each once, both in order."""
    found: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        found.setdefault(KINDS[code].status, []).append(code)
    return dict(sorted(found.items()))


def problem_example(code: str) -> dict[str, Any]:
    """Return what a fault of this kind is told as."""
    fault = CallerFault(code, stage="llm" if code == "stage_timeout" else None)
    return problem_body(fault, TRACE)


def problem_content(codes: Collection[str]) -> dict[str, Any]:
    """Return the media type of those codes' bodies."""
    narrowed = {"type": "object", "properties": {"code": {"enum": list(codes)}}, "required": ["code"]}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, narrowed]}
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    return {"application/problem+json": {"schema": schema, "examples": examples}}


def sentence_content(codes: Collection[str]) -> dict[str, Any]:
    """Return the media type of what the AI SDK is told: the sentence of `detail`, which it shows as it is."""
    examples = {code: {"summary": code, "value": KINDS[code].detail} for code in codes}
    return {"text/plain": {"schema": {"type": "string", "minLength": 1}, "examples": examples}}


def response_name(codes: Iterable[str]) -> str:
    """Return what a response of these codes is called: `BadJsonOrBadRequest`."""
    return "Or".join(code.title().replace("_", "") for code in codes)


def says(codes: Iterable[str]) -> str:
    """Return what the codes mean, a line each."""
    return "\n".join(f"- `{code}`: {KINDS[code].detail}" for code in codes)


def error_headers(codes: Collection[str]) -> dict[str, Any]:
    """Return the headers that answers of these codes have besides what all have; those of some codes are optional."""
    headers = {"x-error-code": {"$ref": "#/components/headers/ErrorCode"}}
    waits = [KINDS[code].retry_after_s is not None or code == "rate_limited" for code in codes]
    if any(waits) or any(KINDS[code].retryable for code in codes):
        name = "RetryAfterAlways" if all(waits) else "RetryAfter"
        headers["retry-after"] = {"$ref": f"#/components/headers/{name}"}
    if "unauthenticated" in codes:
        headers["www-authenticate"] = {"$ref": "#/components/headers/WwwAuthenticate"}
    return headers
