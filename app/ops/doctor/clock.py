"""This machine's clock, against what hosts outside say of the time: the `Date` of whatever they answer."""

import email.utils
from collections.abc import Mapping

from app.ops.doctor.finding import Finding, fail, ok, skip, warn

CHECK = "clock"
ROUNDING_S = 0.5
"""`Date` has whole seconds."""
WARN_S = 2.0
FAIL_S = 30.0
"""Tokens are given so much: beyond it those who have just signed in are refused, or those who are gone are not."""
SET_IT = "set this machine's clock by NTP (chronyc tracking, timedatectl)"


class Clocks:
    """By host, how many seconds its clock is ahead of ours, and by how many that may be wrong.

    The quickest answer of a host counts, since its clock was read somewhere between the asking and the answer.
    """

    def __init__(self) -> None:
        self._read: dict[str, tuple[float, float]] = {}

    def note(self, host: str, headers: Mapping[str, str], asked_at_s: float, seconds: float) -> None:
        """Take what an answer's headers say, that was asked for at a time and took so long."""
        read = clock_ahead(headers, asked_at_s, seconds)
        if read is not None and (host not in self._read or read[1] < self._read[host][1]):
            self._read[host] = read

    def finding(self) -> Finding:
        """Return what the hosts' clocks say of ours."""
        return judge(self._read)


def clock_ahead(headers: Mapping[str, str], asked_at_s: float, seconds: float) -> tuple[float, float] | None:
    """Return how many seconds the clock behind `Date` is ahead of ours, and by how many that may be wrong. Pure.

    None where there is no date; an answer from somebody's store (`Age`) tells of the past, and so does not count.
    """
    if "age" in headers:
        return None
    try:
        date = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return date + ROUNDING_S - (asked_at_s + seconds / 2), ROUNDING_S + seconds / 2


def judge(clocks: Mapping[str, tuple[float, float]]) -> Finding:
    """Return how our clock is: the worst decides. Pure."""
    if not clocks:
        return skip(CHECK, "no host outside has told the time")
    off = {host: max(0.0, abs(ahead) - within) for host, (ahead, within) in clocks.items()}
    worst = max(off, key=lambda host: off[host])
    if off[worst] <= WARN_S:
        return ok(CHECK, f"agrees with {', '.join(clocks)} within {WARN_S:.0f} s")
    ahead_s = clocks[worst][0]
    said = f"this clock is {abs(ahead_s):.0f} s {'behind' if ahead_s > 0 else 'ahead of'} that of {worst}"
    agree = [host for host in off if off[host] <= WARN_S]
    todo = f"{', '.join(agree)} agrees with this one: have that host's set, or {SET_IT}" if agree else SET_IT
    if off[worst] > FAIL_S:
        return fail(CHECK, f"{said}, and tokens allow {FAIL_S:.0f} s", todo)
    return warn(CHECK, said, todo)
