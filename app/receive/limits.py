"""The limit of a user's turns where requests meet it: who is over it is refused, and each answer says what is left.

A turn costs one once its request is known to be right and before anything is paid for it, whatever becomes of it then:
a repeat under an `Idempotency-Key` too, which costs a read, and a turn that is refused for load, because a limit that
is given back under load would be none when it is needed. Making a conversation costs one as well: it writes rows, and
any number of them in a loop. A body that is refused costs nothing, and neither do reading, coming back to a stream,
stopping it, and renaming or deleting what there is.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import trio
from quart import Blueprint, Response, g

from app.admit.rate_limit import Decision, RateLimit
from app.errors import CallerFault
from app.receive.rare_lines import RareLines

log = logging.getLogger(__name__)

Kind = Literal["user", "address"]


class Refusals:
    """Counts and logs who was over a limit: without saying who, and at most one line a second."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._lines = RareLines(clock=clock)
        self._counts: dict[Kind, int] = {"user": 0, "address": 0}

    def counts(self) -> Mapping[Kind, int]:
        """Return how many were refused so far; safe to call from any thread."""
        return dict(self._counts)

    def fault(self, kind: Kind, decision: Decision, **facts: str) -> CallerFault:
        """Return the refusal, which is counted and logged; `facts` are for the log."""
        self._counts[kind] += 1
        if refused := self._lines.due(kind):
            extra = {"kind": kind, "refused": refused, "retry_after_s": round(decision.retry_after_s, 3)}
            log.warning("turn.rate_limited", extra={**extra, **facts})
        return CallerFault("rate_limited", kind, retry_after_s=math.ceil(decision.retry_after_s * 1000) / 1000)


class TurnLimit:
    """The limit of each user's turns.

    Args:
        limit: counts; None when there is none.
        refusals: told of those who are over it.
        clock: seconds that do not go back.
    """

    def __init__(
        self, limit: RateLimit | None, refusals: Refusals, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self._limit = limit
        self._refusals = refusals
        self._clock = clock

    def spend(self, user_id: str) -> None:
        """Take one turn off what the user has left; the current request's answer will say what that is.

        Raises:
            CallerFault: `rate_limited`, with `Retry-After`.
        """
        if self._limit is None:
            return
        decision = g.turn_limit = self._limit.spend(user_id, self._clock())
        if not decision.allowed:
            raise self._refusals.fault("user", decision)

    def told_by(self, routes: Blueprint) -> Blueprint:
        """Return `routes`, whose answers say what is left to who had to pay for it, refusals and streams too."""

        @routes.after_request
        async def tell(response: Response) -> Response:
            if "turn_limit" in g:
                response.headers.update(limit_headers(g.turn_limit))
            return response

        return routes


def limit_headers(decision: Decision) -> dict[str, Any]:
    """Return the headers of draft-ietf-httpapi-ratelimit-headers-07; `RateLimit-Reset` is in seconds, rounded up."""
    return {
        "ratelimit-limit": str(decision.limit),
        "ratelimit-remaining": str(decision.remaining),
        "ratelimit-reset": str(math.ceil(decision.reset_s)),
    }
