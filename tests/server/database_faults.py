"""What can befall a request on its way to a hosted database, as a table; `faulty_database` makes it happen.

The bodies of refusals are PostgREST's own (its reference, "Errors"), or what stands before it says: a gateway's page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import httpx

Door = Literal["open", "refused", "closed"]
"""Whether connections are taken: `refused` as where nobody listens, `closed` as soon as they stand."""
WELL: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is done with a request: how often it is applied, what is waited for, and what its caller gets.

    `then`: the request's own answer; `instead` of it another one; or none, because the connection is held, cut, or cut
    within the answer (`tear`). `later`: the caller is through with it before it is applied.
    """

    applied: int = 1
    slow: bool = False
    later: bool = False
    then: Literal["answer", "hold", "cut", "tear"] = "answer"
    instead: httpx.Response | None = None


def _refusal(status: int, code: str, message: str, **headers: str) -> Course:
    body = {"code": code, "details": None, "hint": None, "message": message}
    return Course(applied=0, instead=httpx.Response(status, headers=headers, json=body))


def _page(status: int) -> httpx.Response:
    title = f"{status} {httpx.codes.get_reason_phrase(status)}"
    text = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><center><h1>{title}</h1></center></body>\r\n</html>"
    return httpx.Response(status, headers={"content-type": "text/html"}, text=text)


COURSES: Mapping[str, Course] = {
    "slow": Course(slow=True),
    "dropped": Course(applied=0, then="cut"),
    "unheard": Course(applied=0, then="hold"),
    "silent": Course(then="hold"),
    "cut": Course(then="cut"),
    "torn": Course(then="tear"),
    "gateway_timeout": Course(instead=_page(504)),
    "late": Course(later=True, then="cut"),
    "twice": Course(applied=2),
}
"""The request may have been applied, or its caller cannot know."""

REFUSALS: Mapping[str, Course] = {
    "internal": _refusal(500, "XX000", "cache lookup failed for relation 16402"),
    "statement_timeout": _refusal(500, "57014", "canceling statement due to statement timeout"),
    "internal_page": Course(applied=0, instead=_page(500)),
    "bad_gateway": Course(applied=0, instead=_page(502)),
    "unavailable": Course(applied=0, instead=_page(503)),
    "no_connection": _refusal(503, "PGRST001", "Database client error. Retrying the connection."),
    "schema_loading": _refusal(503, "PGRST002", "Could not query the database for the schema cache. Retrying."),
    "pool_exhausted": _refusal(504, "PGRST003", "Timed out acquiring connection from connection pool."),
    "key_rotated": _refusal(
        401, "PGRST301", "No suitable key or wrong key type", **{"www-authenticate": 'Bearer error="invalid_token"'}
    ),
    "key_unknown": Course(applied=0, instead=httpx.Response(401, json={"message": "Invalid API key"})),
    "forbidden": _refusal(403, "42501", "permission denied for table chat_logs"),
    "too_many": Course(applied=0, instead=_page(429)),
    "stale_column": _refusal(400, "PGRST204", "Could not find the 'turn_id' column of 'chat_logs' in the schema cache"),
    "stale_table": _refusal(404, "PGRST205", "Could not find the table 'public.chat_logs' in the schema cache"),
    "no_route": Course(applied=0, instead=_page(404)),
}
"""The request was not applied, and its caller is told why."""

FAULTS: Mapping[str, Course] = {**COURSES, **REFUSALS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How the host behaves for a while.

    Args:
        door: whether it takes connections.
        reads: the faults of GET requests, each with its probability; what is left of 1 goes well.
        writes: the same for all others.
        slow_s: how long `slow` takes.
        late_s: when `late` is applied.
    """

    door: Door = "open"
    reads: Mapping[str, float] = field(default_factory=lambda: WELL)
    writes: Mapping[str, float] = field(default_factory=lambda: WELL)
    slow_s: float = 0.15
    late_s: float = 0.15

    def __post_init__(self) -> None:
        for rates in (self.reads, self.writes):
            if unknown := rates.keys() - FAULTS.keys():
                raise ValueError(f"no such fault: {sorted(unknown)}")
            if sum(rates.values()) > 1 + 1e-9:
                raise ValueError("the probabilities are more than 1 together")

    def fault(self, method: str, chance: float) -> str | None:
        """Return what befalls a request, `chance` being a number from 0 to under 1."""
        for name, rate in (self.reads if method == "GET" else self.writes).items():
            chance -= rate
            if chance < 0:
                return name
        return None


def as_bytes(response: httpx.Response) -> bytes:
    """Return a response as it stands on the wire."""
    fields = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-length"]
    if response.status_code != 204:
        fields.append((b"content-length", str(len(response.content)).encode()))
    head = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n".encode()
    return head + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + response.content
