"""What is counted and logged of refusals: all of them, and one line a second at most."""

import logging

import pytest
import trio

from app.admit.rate_limit import RateLimit
from app.receive.limits import Refusals, limit_headers


async def test_a_flood_of_refusals_is_a_line_a_second(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line says how many there were since the last of its kind; the other kind has lines of its own."""
    caplog.set_level(logging.INFO)
    refusals, refused = Refusals(), RateLimit(1, 60)
    refused.spend("ann", trio.current_time())
    for _ in range(28):
        refusals.fault("user", refused.look("ann", trio.current_time()))
        await trio.sleep(0.125)
    refusals.fault("address", refused.look("ann", trio.current_time()), hint="look")
    lines = [(vars(record)["kind"], vars(record)["refused"]) for record in caplog.records]
    assert lines == [("user", 1), ("user", 8), ("user", 8), ("user", 8), ("address", 1)]
    assert vars(caplog.records[-1])["hint"] == "look"
    assert refusals.counts() == {"user": 28, "address": 1}


def test_a_refusal_never_says_less_than_is_to_wait() -> None:
    """Seconds are rounded up, in the fault as in the headers: who waits so long is let in."""
    limit = RateLimit(3, 10)
    for _ in range(3):
        limit.spend("ann", 0.0)
    told = limit.look("ann", 0.12345)
    fault = Refusals(lambda: 0.0).fault("user", told)
    assert fault.retry_after_s == 3.21
    assert fault.retry_after_s >= told.retry_after_s
    assert limit_headers(told) == {"ratelimit-limit": "3", "ratelimit-remaining": "0", "ratelimit-reset": "10"}
