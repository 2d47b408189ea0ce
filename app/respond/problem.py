"""A fault as `application/problem+json` (RFC 9457), with nothing in it but what may be shown."""

import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from app.errors import Fault
from app.respond.language import Language

CONTENT_TYPE = "application/problem+json"


def problem_body(
    fault: Fault,
    trace_id: str,
    language: Language = "en",
    *,
    turn_id: UUID | None = None,
    performance_metrics: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the body. `performance_metrics` and `turn_id` are those of a turn that had begun."""
    body: dict[str, Any] = {
        "type": f"urn:nursery-chat:problem:{fault.code}",
        "title": fault.kind.title,
        "status": fault.kind.status,
        "detail": fault.kind.japanese if language == "ja" else fault.kind.detail,
        "code": fault.code,
        "stage": fault.stage,
        "retryable": fault.retryable,
        "retry_after": fault.retry_after_s,
        "errors": list(fault.fields) or None,
        "trace_id": trace_id,
        "turn_id": str(turn_id) if turn_id else None,
        "performance_metrics": performance_metrics,
    }
    return {key: value for key, value in body.items() if value is not None}


def problem_headers(fault: Fault) -> dict[str, str]:
    """Return the headers that go with the body."""
    headers = {"content-type": CONTENT_TYPE, "x-error-code": fault.code}
    if fault.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(fault.retry_after_s))
    if fault.code == "unauthenticated":
        headers["www-authenticate"] = "Bearer"
    return headers
