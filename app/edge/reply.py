"""What the edge says by itself, where no application can, and the headers that every answer carries."""

import json
import uuid
from dataclasses import dataclass

from app.errors import Fault
from app.respond.language import Language
from app.respond.problem import problem_body, problem_headers

Headers = list[tuple[bytes, bytes]]

SAFE_HEADERS: Headers = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""For an API: nothing is kept, guessed, told on or framed. Transport security is the front proxy's to promise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeReply:
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes
    trace_id: str


def edge_reply(fault: Fault, trace_id: str, request_id: str = "", language: Language = "en") -> EdgeReply:
    """Return a fault as the last answer of its connection."""
    body = json.dumps(problem_body(fault, trace_id, language), ensure_ascii=False).encode()
    headers = {
        **problem_headers(fault),
        "content-length": str(len(body)),
        "connection": "close",
        "x-request-id": request_id or str(uuid.uuid4()),
        "x-trace-id": trace_id,
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return EdgeReply(status=fault.kind.status, headers=[*encoded, *SAFE_HEADERS], body=body, trace_id=trace_id)
