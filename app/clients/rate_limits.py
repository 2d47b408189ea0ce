"""What a model host says of its quotas: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, each of them optional.

Source: OpenAI's API reference (rate limits). Other servers leave headers out, or send -1 or 0 for what they do not
limit: then there is no quota. Every answer comes by here: where there is no such header, that takes microseconds.
"""

import re
from collections.abc import Mapping

import httpx

from app.clients.ports import Quota, RateLimits

_PREFIX = b"x-ratelimit-"
_MAX_CHARS = 32
"""Of a value: `6m0s`, `1763.25s`, `150000`."""
_LONGEST_S = 366 * 86400.0
"""What is longer is no duration: some hosts send the time of day as seconds since the epoch."""
_DURATION = re.compile(
    r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)(?:ms))?(?:(\d+(?:\.\d+)?)[uµ]s)?",
    re.ASCII,
)
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6)


def rate_limits(
    headers: httpx.Headers, *, refused: bool = False, overloaded: bool = False, retry_after_s: float | None = None
) -> RateLimits | None:
    """Return the quotas that an answer's headers name, or None when they name none.

    Args:
        headers: of the answer.
        refused: whether it is a refusal.
        overloaded: whether that cannot be for want of a quota.
        retry_after_s: the wait that the answer asks for, in seconds, where it refuses.
    """
    found = {name.lower(): value for name, value in headers.raw if name[:12].lower() == _PREFIX}
    if not found:
        return None
    requests, tokens = _quota(found, b"requests"), _quota(found, b"tokens")
    if requests is None and tokens is None:
        return None
    return RateLimits(
        requests=requests, tokens=tokens, refused=refused, overloaded=overloaded, retry_after_s=retry_after_s
    )


def _quota(found: Mapping[bytes, bytes], kind: bytes) -> Quota | None:
    limit, remaining = (_count(found.get(_PREFIX + name + kind)) for name in (b"limit-", b"remaining-"))
    if not limit or remaining is None:
        return None
    reset = found.get(_PREFIX + b"reset-" + kind, b"")
    return Quota(limit=limit, remaining=min(limit, remaining), reset_s=duration_s(reset.decode("latin-1")))


def _count(value: bytes | None) -> int | None:
    return int(value) if value is not None and len(value) < 16 and value.isdigit() else None


def duration_s(text: str) -> float | None:
    """Return the seconds that a duration such as `12ms`, `1s`, `6m0s` or `1.5` means, or None when it is none."""
    text = text.strip()
    match = _DURATION.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if match is not None:
        seconds = sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True) if part)
    elif re.fullmatch(r"\d{1,12}(\.\d+)?", text, re.ASCII):
        seconds = float(text)
    else:
        return None
    return seconds if seconds <= _LONGEST_S else None
