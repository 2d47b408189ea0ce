"""A thousand random hosts against the retry table, written down a second time without looking at the client."""

import random
from dataclasses import dataclass

import httpx
import pytest
import trio
from trio.testing import MockClock

from app.errors import Fault
from tests.clients.scripts import Script, Step, Told, answers, breaks, cut, errs, refuses, short

SCRIPTS = 1000
# What a host may do -> how the table calls it.
DEEDS: dict[str, list[Step]] = {
    "answers": [answers("Yes.")],
    "broken": [
        breaks(httpx.ConnectError("x")), cut(), short(), refuses(408), refuses(500), refuses(504, body=b"<html>"),
        errs("server_error"),
    ],
    "busy": [refuses(429), refuses(429, "slow_down"), refuses(503), refuses(529, body=b""), errs("slow_down")],
    "2 s": [refuses(429, retry_after="2"), refuses(503, retry_after_ms="2000", retry_after="9")],
    "4 s": [refuses(529, retry_after="4")],
    "9 s": [refuses(429, retry_after="9")],
    "quota": [refuses(429, "insufficient_quota"), errs("credit_balance_exhausted")],
    "refused": [refuses(400), refuses(401, body=b""), refuses(404), refuses(422), errs("invalid_api_key")],
    "too long": [refuses(400, "context_length_exceeded")],
    "spoken": [cut("No."), short("No."), errs("server_error", "No."), errs("slow_down", "No.")],
}  # fmt: skip
MAY_PASS = {
    "broken": "model_error",
    "busy": "model_busy",
    "2 s": "model_busy",
    "4 s": "model_busy",
    "9 s": "model_busy",
}
FINAL = {"quota": "model_error", "refused": "model_error", "too long": "message_too_long"}


@dataclass
class Outcome:
    """What is to be seen: who was asked and when, and how it ended; `spoken` faults are not told apart."""

    asked: list[tuple[str, float]]
    ended: str


def expected(deeds: list[str], fallback: bool, deadline: float) -> Outcome:
    """Play a script by the table alone."""
    now, asked = 0.0, list[tuple[str, float]]()
    for attempt in (1, 2, 3):
        deed = deeds[len(asked)]
        asked.append(("some-model", now))
        if deed not in MAY_PASS:
            return Outcome(asked, FINAL.get(deed, deed))
        wait = {"2 s": 2.0, "4 s": 4.0, "9 s": 9.0}.get(deed, attempt * 0.5)
        if wait > 5 or now + wait + wait >= deadline or attempt == 3:
            break
        now += wait
    if not fallback:
        return Outcome(asked, MAY_PASS[deed])
    deed = deeds[len(asked)]
    return Outcome([*asked, ("other-model", now)], MAY_PASS.get(deed) or FINAL.get(deed) or deed)


async def seen(script: Script, fallback: bool, deadline: float) -> Outcome:
    """Play a script through the client."""
    told, start = Told(), trio.current_time()
    model = script.model(fallback="other-model" if fallback else None, wait_s=lambda retry: 0.5 * (retry + 1))
    with trio.fail_after(deadline):
        try:
            await told.ask(model)
            ended = "answers"
        except Fault as fault:
            ended = "spoken" if told.text else fault.code
    return Outcome(list(zip(script.models(), (time - start for time in script.times), strict=True)), ended)


@pytest.mark.parametrize("seed", range(4))
async def test_the_client_does_what_the_table_says(seed: int, autojump_clock: MockClock) -> None:
    """Which model is asked, how often, at what time, and how it ends: the same in every case."""
    chance = random.Random(seed)
    ends = set()
    for _ in range(SCRIPTS // 4):
        weights = [4 if deed in MAY_PASS else 1 for deed in DEEDS]
        deeds = chance.choices(list(DEEDS), weights, k=5)
        steps = [chance.choice(DEEDS[deed]) for deed in deeds]
        fallback, deadline = chance.random() < 0.5, chance.choice([0.8, 3.0, 6.5, 20.0])
        wanted, found = expected(deeds, fallback, deadline), await seen(Script(steps), fallback, deadline)
        assert found.ended == wanted.ended, (deeds, fallback, deadline)
        assert [model for model, _ in found.asked] == [model for model, _ in wanted.asked], (deeds, fallback, deadline)
        assert [time for _, time in found.asked] == pytest.approx([time for _, time in wanted.asked]), deeds
        ends.add((found.ended, len(found.asked)))
    assert len(ends) > 12, "the scripts lead to many ends"
