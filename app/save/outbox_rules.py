"""How the delivery judges what the database says, and how long it waits. Pure.

A judgement goes by `DatabaseFault.error_type`: a SQLSTATE, a PGRST code, `http_NNN` or an exception's name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Judgement = Literal["duplicate", "row", "smaller", "pause", "leave_alone", "back_off"]
"""What a failed delivery means.

`duplicate`: some unique key is taken; if it is our own, the row is delivered. `row`: what is wrong is the row itself.
`smaller`: less at a time may pass; one row alone is as `row`. `pause`: somebody has to act. `leave_alone`: the breaker
says when. `back_off`: it may pass by itself.
"""

# The longest beginning decides; what has none here may pass by itself: the network, 5xx, and Postgres's own troubles.
# Sources: PostgreSQL, "Appendix A. Error Codes"; PostgREST, "Errors" (classes 0L, 0P and 28 are 403, 42 is 400 to 404).
JUDGEMENTS: Final[dict[str, Judgement]] = {
    "22": "row",  # data exception: out of range, no such character, no value of the type
    "23": "row",  # integrity constraint violation
    "23505": "duplicate",
    "42": "pause",  # access rule violation, unknown column or table
    "0L": "pause",  # invalid grantor
    "0P": "pause",  # invalid role
    "28": "pause",  # invalid authorization
    "PGRST": "pause",  # PostgREST's own: key, schema cache, configuration
    "http_4": "pause",  # 401, 403, 404, 408, 429 of a gateway
    "http_413": "smaller",
    "breaker_open": "leave_alone",
}


NOT_AS_ASKED: Final = frozenset({"not_readable", "not_replaced"})
"""Of a row whose place is taken: the database answered each time, but what it said does not go together."""


def judge(error_type: str) -> Judgement:
    """Return what a failure of that type means for a delivery."""
    known = [beginning for beginning in JUDGEMENTS if error_type.startswith(beginning)]
    return JUDGEMENTS[max(known, key=len)] if known else "back_off"


def is_answer(error_type: str) -> bool:
    """Return whether the database or a gateway answered, rather than nobody."""
    if error_type in NOT_AS_ASKED or error_type.startswith("http_"):
        return True
    return error_type == error_type.upper()  # a code, not an exception's name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """The delivery's numbers: sizes of a batch, and seconds.

    A request of 256 kB is far below what gateways take by default (nginx: 1 MB). An attempt has more time than a turn's
    save: nobody waits for it, and a database that is slow under load is not helped by asking again.
    """

    max_rows: int = 100
    max_bytes: int = 256 << 10
    attempt_s: float = 10.0
    back_off_s: tuple[float, float] = (0.2, 30.0)
    """The first wait, and the longest."""
    pause_s: tuple[float, float] = (5.0, 60.0)
    stubborn_attempts: int = 3
    """So often a whole batch is tried before its rows are tried one by one, so that one bad row holds up only its own
    conversation."""
    stubborn_conversations: int = 3
    """So many conversations are tried in vain before the database as a whole is taken for ill, until the next time."""


def wait_s(bounds: tuple[float, float], failures: int, jitter: Callable[[float, float], float]) -> float:
    """Return the wait after so many failures in a row (1, 2, ...): doubling up to the bound, with jitter."""
    first, longest = bounds
    return min(first * 2.0 ** min(failures - 1, 32), longest) * jitter(0.75, 1.0)
