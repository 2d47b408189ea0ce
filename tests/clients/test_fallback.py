"""The fallback model, what a call tells its host's breaker, and what operators are told of both; on virtual time."""

import gc
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
import trio
from opentelemetry.trace import SpanKind
from trio.testing import MockClock

from app.clients.breaker import Breaker
from app.clients.openai import MAX_REQUEST_ID_CHARS
from app.errors import ModelFault, StageTimeout
from app.generate.model_call import Generate, ModelRules
from app.turn import Draft, Prompt, PromptMessage
from tests.clients.scripts import (
    SILENT,
    Script,
    Step,
    Told,
    answers,
    breaks,
    cut,
    fault_of,
    fields_of,
    hangs,
    refuses,
)
from tests.standins import Watched, watched

BROKEN, BUSY = refuses(500), refuses(429, "rate_limit_exceeded")
FAR = refuses(429, retry_after="60")
PAGE = b"<html><body>Service unavailable</body></html>"


@pytest.mark.parametrize(
    ("steps", "asked"),
    [
        ([BROKEN, BROKEN, BROKEN, answers("Other.")], ["some-model"] * 3),
        ([breaks(httpx.ConnectError("refused"))] * 3 + [answers("Other.")], ["some-model"] * 3),
        ([BUSY, cut(), BUSY, answers("Other.")], ["some-model"] * 3),
        ([FAR, answers("Other.")], ["some-model"]),
    ],
)
async def test_the_fallback_is_asked_when_the_retries_are_over(
    steps: list[Step], asked: list[str], autojump_clock: MockClock
) -> None:
    """After the last retry, or at once where the wait is too long; its answer says that it is second-best."""
    script = Script(steps)
    told = await Told().ask(script.model(fallback="other-model"))
    assert script.models() == [*asked, "other-model"]
    assert told.text == "Other."
    assert told.end is not None
    assert (told.end.fallback, told.end.model) == (True, "other-model"), "named, though the host does not name it"


@pytest.mark.parametrize("steps", [[BROKEN], [BUSY], [FAR], [FAR, cut("Ot")]])
async def test_the_fallback_is_asked_once(steps: list[Step], autojump_clock: MockClock) -> None:
    """It has no retries of its own, and its fault is the turn's."""
    script = Script(steps)
    fault = await fault_of(script, fallback="other-model")
    assert script.models().count("other-model") == 1
    assert script.models()[-1] == "other-model"
    assert isinstance(fault, ModelFault)


@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_a_host_that_is_left_alone_is_not_asked_for_another_model(
    failures: int, autojump_clock: MockClock
) -> None:
    """The fallback lives on the same host: an open breaker ends the retries and holds for it too."""
    script, breaker = Script([BROKEN]), Breaker("model", failures=failures)
    model = script.model(breaker, fallback="other-model", wait_s=lambda _retry: 1.0)
    for error_type in ("http_500", "breaker_open"):
        with pytest.raises(ModelFault) as caught:
            await Told().ask(model)
        assert caught.value.error_type == error_type
        assert trio.current_time() == failures - 1, "nothing is waited for that will be refused"
    assert script.models() == ["some-model"] * failures


@pytest.mark.parametrize(
    ("step", "bad"),
    [
        (BROKEN, True),
        (breaks(httpx.ConnectError("refused")), True),
        (cut(), True),
        (cut("Ye"), True),
        (refuses(503, body=PAGE), True),
        (refuses(503, body=b""), True),
        (refuses(500, x_should_retry="false"), True),
        (BUSY, False),
        (refuses(429, body=PAGE), False),
        (refuses(529, body=PAGE), False),
        (refuses(503, "server_is_overloaded"), False),
        (refuses(503, body=PAGE, retry_after="60"), False),
        (refuses(500, "rate_limit_exceeded"), False),
        (refuses(400), False),
        (refuses(400, x_should_retry="true"), False),
        (refuses(401), False),
        (answers(), False),
    ],
)
async def test_what_counts_as_a_hosts_failure(step: Step, bad: bool, autojump_clock: MockClock) -> None:
    """What is broken does, and a gateway with nobody behind it; a host that is busy, or refuses as it should, lives."""
    script, breaker = Script([step]), Breaker("model", failures=1)
    with suppress(ModelFault):
        await Told().ask(script.model(breaker))
    assert breaker.state == ("open" if bad else "closed")


@pytest.mark.parametrize(
    ("step", "seconds", "bad"),
    [
        (SILENT, 9.9, False),
        (SILENT, 10.0, True),
        (hangs(), 10.0, True),
        (hangs("Ye"), 30.0, False),
    ],
)
async def test_a_long_silence_counts_whoever_ends_it(
    step: Step, seconds: float, bad: bool, autojump_clock: MockClock
) -> None:
    """Cut off without a word after ten seconds, the host has failed; a client that leaves earlier says nothing."""
    breaker = Breaker("model", failures=1)
    with trio.move_on_after(seconds):
        await Told().ask(Script([step]).model(breaker))
    assert breaker.state == ("open" if bad else "closed")


async def test_one_probe_at_a_time_finds_out_that_a_host_is_well(autojump_clock: MockClock) -> None:
    """Of ten calls that come at once one passes; after its first word all do, though it goes on for long."""
    breaker = Breaker("model", failures=1, open_s=10)
    script = Script([BROKEN, hangs("Ye")])
    model = script.model(breaker)
    with pytest.raises(ModelFault):
        await Told().ask(model)
    await trio.sleep(10)
    refused: list[ModelFault] = []

    async def ask() -> None:
        try:
            await Told().ask(model)
        except ModelFault as fault:
            refused.append(fault)

    async with trio.open_nursery() as callers:
        for _ in range(10):
            callers.start_soon(ask)
        await trio.sleep(1)
        assert [fault.error_type for fault in refused] == ["breaker_open"] * 9
        assert (len(script.requests), breaker.state) == (2, "closed")
        for _ in range(10):
            callers.start_soon(ask)
        await trio.sleep(1)
        assert (len(refused), len(script.requests)) == (9, 12)
        callers.cancel_scope.cancel()


async def test_while_another_call_probes_the_host_the_fallback_is_not_announced(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be refused: the caller is told what the host itself said, though it failed after the opening."""
    script, breaker = Script([replace(FAR, wait_s=15), answers("Other.")]), Breaker("model", failures=1, open_s=10)
    faults = []

    async def ask() -> None:
        faults.append(await fault_of(script, breaker=breaker, fallback="other-model"))

    async with trio.open_nursery() as callers:
        callers.start_soon(ask)
        await trio.sleep(1)
        with breaker.call() as failing:
            failing.bad()
        await trio.sleep(10)
        with breaker.call():
            await trio.sleep(10)
            assert breaker.state == "half_open"
    assert [(fault.error_type, fault.retry_after_s) for fault in faults] == [("http_429", 60)]
    assert script.models() == ["some-model"]
    assert list(fields_of(caplog.records, "fallback")) == []


RULES = ModelRules(max_tokens=800, temperature=None, first_token_s=20, idle_s=10, whole_s=40)
PROMPT = Prompt(messages=(PromptMessage("user", "Why?"),), history_count=0)


async def generated(script: Script, **options: Any) -> tuple[Watched, Draft]:
    """Go through the generate stage of a turn against `script`, as the server does."""
    seen = watched()
    generate = Generate(script.model(**options), RULES)
    draft = generate.draft()
    turn = seen.telemetry.turn(turn_id="t", user_id="u", trace_id="0" * 32, surface="chat")
    with turn:
        try:
            await generate(PROMPT, draft, turn)
        except (ModelFault, StageTimeout) as fault:
            turn.fail(fault)
    return seen, draft


async def test_a_fallback_is_told_of(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The draft says so, which is the reply's `fallback_used` and warning; counter, span, its event and the log too."""
    script = Script([FAR, answers("Other.")])
    seen, draft = await generated(script, fallback="other-model")
    assert (draft.fallback, draft.model, draft.text) == ("model", "other-model", "Other.")
    assert seen.sum("chat.fallbacks") == 1
    assert (seen.spans.named("chat.turn").attributes or {})["chat.fallback"] == "model"
    span = seen.spans.named("chat some-model")
    assert span.kind is SpanKind.CLIENT
    (event, _first_chunk) = span.events
    told = {"error.type": "http_429", "gen_ai.request.model": "other-model"}
    assert (event.name, dict(event.attributes or {})) == ("fallback", told)
    (line,) = fields_of(caplog.records, "fallback")
    assert (line["levelname"], line["error"], line["gen_ai.request.model"]) == ("WARNING", "http_429", "other-model")


async def test_retries_are_told_of(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Each has an event on the model's span and a line in the log: why, how long the wait is, the host's id of it."""
    named = refuses(429, "slow_down", retry_after="2", x_request_id="req_1")
    seen, draft = await generated(Script([named, refuses(502), answers()]), wait_s=lambda retry: float(retry + 1))
    assert draft.fallback is None
    assert seen.sum("chat.fallbacks") == 0
    events = [event for event in seen.spans.named("chat some-model").events if event.name == "retry_scheduled"]
    assert [dict(event.attributes or {}) for event in events] == [
        {"error.type": "slow_down", "retry.wait": 2.0, "openai.response.request_id": "req_1"},
        {"error.type": "http_502", "retry.wait": 2.0},
    ]
    lines = list(fields_of(caplog.records, "retry_scheduled"))
    assert [(line["levelname"], line["error"], line["retry.wait"]) for line in lines] == [
        ("WARNING", "slow_down", 2.0),
        ("WARNING", "http_502", 2.0),
    ]
    assert lines[0]["openai.response.request_id"] == "req_1"


ENDS = {
    "answered": answers(headers=(("x-request-id", "req_9"),)),
    "refused": refuses(400, x_request_id="req_9"),
    "busy": refuses(429, retry_after="60", x_request_id="req_9"),
    "broken off": Step(pieces=cut("Ye").pieces, headers=(("x-request-id", "req_9"),), end=httpx.ReadError("reset")),
    "refused inside the 200": Step(
        pieces=(b'data: {"error":{"code":"content_filter"}}\n\n',), headers=(("x-request-id", "req_9"),)
    ),
}


@pytest.mark.parametrize("step", ENDS.values(), ids=ENDS)
async def test_the_hosts_name_of_a_request_is_kept(step: Step, autojump_clock: MockClock) -> None:
    """However the call ended, span and log line of the turn have the `x-request-id` that the host's support wants."""
    seen, _ = await generated(Script([step]))
    assert (seen.spans.named("chat some-model").attributes or {})["openai.response.request_id"] == "req_9"
    (facts,) = seen.facts
    assert facts.details["model_request_id"] == "req_9"


@pytest.mark.parametrize("name", ["", "x" * (MAX_REQUEST_ID_CHARS + 1), "req_é"])
async def test_a_name_that_is_none_is_left_out(name: str, autojump_clock: MockClock) -> None:
    """Too long or unreadable, it would only fill the log."""
    seen, _ = await generated(Script([answers(headers=(("x-request-id", name),))]))
    assert "openai.response.request_id" not in (seen.spans.named("chat some-model").attributes or {})


@pytest.mark.parametrize(
    ("steps", "stage", "after_s"),
    [
        ([SILENT], "llm.first_token", 20),
        ([hangs()], "llm.first_token", 20),
        ([refuses(500), refuses(500), SILENT], "llm.first_token", 20),
        ([hangs("Ye")], "llm.idle", 10),
        ([Step(pieces=answers(*["Ye"] * 9).pieces[:-2], end=None, wait_s=19)], "llm.idle", 29),
        ([Step(wait_s=15, pieces=answers().pieces), SILENT], None, 15),
    ],
)
async def test_the_deadlines_hold_over_all_attempts(
    steps: list[Step], stage: str | None, after_s: float, autojump_clock: MockClock
) -> None:
    """First token and the time between tokens: retries do not begin them anew."""
    seen, _ = await generated(Script(steps))
    assert trio.current_time() == pytest.approx(after_s)
    (facts,) = seen.facts
    assert facts.error_type == (f"timeout.{stage}" if stage else None)


async def test_a_turn_that_is_cancelled_between_two_pieces_leaves_nothing(autojump_clock: MockClock) -> None:
    """The body's reader ends with the turn: no generator of httpx's is left to the garbage collector."""
    generate = Generate(Script([answers("Ye", "s.")]).model(), RULES)
    draft = generate.draft()
    turn = watched().telemetry.turn(turn_id="t", user_id="u", trace_id="0" * 32, surface="chat")
    with turn, trio.CancelScope() as scope:
        draft.on_text = lambda _text: scope.cancel()
        await generate(PROMPT, draft, turn)
    assert (scope.cancelled_caught, draft.text) == (True, "Ye")
    gc.collect()
    await trio.lowlevel.checkpoint()
