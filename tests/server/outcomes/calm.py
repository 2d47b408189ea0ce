"""What ends turns on a server with the usual deadlines and an outbox; one after the other, in this order."""

import uuid
from dataclasses import replace
from typing import Any

from tests.server.ending import STALLS
from tests.server.outcomes.cases import (
    AGENT,
    ANSWER,
    ASKED,
    BY_MODEL,
    BY_RULES,
    EARLIER,
    FETCH,
    FREE,
    FRESH,
    PROJECT,
    QUESTION,
    READ,
    SAVED,
    SPOKE,
    STREAM,
    WHOLE,
    Case,
    ask,
    fault,
    in_mood,
)  # fmt: skip
from tests.server.outcomes.house import STEADY, USER, House, posted
from tests.server.outcomes.trace_judge import CHAT, Turn
from tests.server.process import AT_ONCE, until
from tests.server.streaming import opened
from tests.server.wire import connected

KEY = {"idempotency-key": "asked-twice"}


def _leave_json(house: House) -> None:
    begun = house.first_words()
    with connected(house.server) as wire:
        wire.send(posted(STALLS, "left"))
        until(lambda: house.first_words() > begun, "the first word has come")


def _leave_stream(house: House) -> None:
    with opened(house.server, STALLS, user=USER, page_id="left stream") as stream:
        stream.deltas(1)


def _stop(house: House) -> None:
    with opened(house.server, STALLS, user=USER, page_id="stopped") as stream:
        stream.deltas(1)
        headers = {"authorization": f"Bearer {USER}"}
        assert house.server.http.post("/chat/stopped/stop", headers=headers).json() == {"stopped": True}
        stream.rest()


def _defer(house: House) -> Any:
    with house.moods.of("POST chat_logs", "silent"):
        answer = house.ask(f"Later {AT_ONCE}", "deferred")
    until(lambda: house.server.http.get("/ops/outbox").json()["waiting"] == 0, "all is delivered")
    return answer


PARTIAL = Turn(
    tree=WHOLE,
    outcome="upstream_error",
    error="RemoteProtocolError",
    failed={CHAT: "RemoteProtocolError"},
    events=SPOKE,
    finish="error",
    status=502,
)
LEFT = Turn(
    tree=WHOLE,
    outcome="cancelled",
    error="cancelled",
    failed={CHAT: "cancelled"},
    events=SPOKE,
    finish="cancelled",
    status=None,
)


def _streamed(turn: Turn, **more: Any) -> Turn:
    """Return the same turn, asked for as a stream, whose status had been sent."""
    return replace(turn, surface="stream", route=STREAM, status=200, **more)


CALM: dict[str, Case] = {
    "ok": Case(
        act=ask(f"Hello {AT_ONCE}", "ok"),
        turns=(Turn(tree=WHOLE, says={"db_fetch": FRESH, "llm.queue": FREE, "db_save": SAVED}, events=SPOKE),),
    ),
    "ok, with history and project": Case(
        act=ask(f"And then? {AT_ONCE}", "ok", project_id=7),
        turns=(
            Turn(
                tree=(*READ, *PROJECT, *ASKED, "save.user", "save.user/POST", *ANSWER),
                says={"db_fetch": {"chat.history.count": 2, "chat.context.present": True}},
                events=SPOKE,
            ),
        ),
    ),
    "ok, streamed": Case(
        act=ask(f"Hello {AT_ONCE}", "streamed", path=STREAM),
        turns=(Turn(tree=WHOLE, surface="stream", route=STREAM, events=SPOKE),),
    ),
    "ok, sequential": Case(
        act=ask(f"Hello {AT_ONCE}", "steady", user=STEADY),
        turns=(
            Turn(
                tree=(*FETCH, *ASKED, "db_save", *(f"db_save/{path}" for path in QUESTION), "db_save/POST"),
                plan="sequential",
                events=SPOKE,
            ),
        ),
    ),
    "degraded: no project": Case(
        act=in_mood("GET projects", "internal", ask(f"Hello {AT_ONCE}", "project-7")),
        turns=(
            Turn(
                tree=(*WHOLE, *PROJECT),
                outcome="degraded",
                failed={"db_fetch/fetch.project": "XX000"},
                says={"db_fetch": FRESH},
                events=SPOKE,
                warnings=("project_unavailable",),
            ),
        ),
    ),
    "fallback: another model": Case(
        act=fault("fallback", "http 429 rate_limit_exceeded retry-after=60"),
        turns=(
            Turn(
                tree=(*WHOLE, f"{CHAT}/POST"),
                outcome="degraded",
                fallback="model",
                events=("fallback", *SPOKE),
                warnings=("fallback",),
            ),
        ),
        rejected={"rate_limit_exceeded": 1},
    ),
    "fallback: after retries": Case(
        act=fault("retried", "http 503 server_is_overloaded retry-after-ms=50"),
        turns=(
            Turn(
                tree=(*WHOLE, *[f"{CHAT}/POST"] * 3),
                outcome="degraded",
                fallback="model",
                events=("retry_scheduled", "retry_scheduled", "fallback", *SPOKE),
                warnings=("fallback",),
            ),
        ),
        rejected={"server_is_overloaded": 3},
    ),
    "agent, by rules": Case(
        act=ask("I feel lost", "rules", path=AGENT),
        turns=(Turn(tree=BY_RULES, surface="agent", route=AGENT),),
    ),
    "agent, by the model": Case(
        act=fault("modelled", "slow first=1.5 each=0", path=AGENT, mock_mode=False),
        turns=(
            Turn(
                tree=BY_MODEL,
                surface="agent",
                route=AGENT,
                failed={f"agent/{CHAT}": (None, "cancelled")},  # the study is waited for a tenth of the reply's time
                events=SPOKE,
            ),
        ),
    ),
    "fallback: rules": Case(
        act=fault("heuristic", "http 401 invalid_api_key", path=AGENT, mock_mode=False),
        turns=(
            Turn(
                tree=BY_MODEL,
                outcome="degraded",
                surface="agent",
                route=AGENT,
                fallback="heuristic",
                failed={
                    "agent/agent.reply": "invalid_api_key",
                    f"agent/agent.reply/{CHAT}": "invalid_api_key",
                    f"agent/{CHAT}": ("cancelled", "invalid_api_key"),
                },
                warnings=("fallback",),
            ),
        ),
        rejected=None,  # the study's call may have been refused too by then
    ),
    "the model refuses": Case(
        act=fault("refused", "http 401 invalid_api_key"),
        turns=(
            Turn(
                tree=WHOLE,
                outcome="upstream_error",
                error="invalid_api_key",
                failed={CHAT: "invalid_api_key"},
                finish="error",
                status=502,
            ),
        ),
        rejected={"invalid_api_key": 1},
    ),
    "partial": Case(act=fault("partial", "cut after=3"), turns=(PARTIAL,), rejected={"RemoteProtocolError": 1}),
    "partial, streamed": Case(
        act=fault("partial stream", "cut after=3", path=STREAM),
        turns=(_streamed(PARTIAL),),
        rejected={"RemoteProtocolError": 1},
    ),
    "the database fails": Case(
        act=in_mood("GET chat_conversations", "internal", ask(f"Hello {AT_ONCE}", "unread")),
        turns=(
            Turn(
                tree=READ,
                outcome="upstream_error",
                error="XX000",
                failed={"db_fetch": "XX000", "db_fetch/fetch.conversation": "XX000"},
                finish=None,
                known=False,
                status=503,
            ),
        ),
    ),
    "no such conversation": Case(
        act=lambda house: house.ask("Hello", "unknown", conversation_id=str(uuid.uuid4())),
        turns=(
            Turn(
                tree=READ,
                outcome="refused",
                error="not_found",
                failed={"db_fetch": "not_found", "db_fetch/fetch.conversation": "not_found"},
                finish=None,
                known=False,
                status=404,
            ),
        ),
    ),
    "under a key": Case(
        act=ask(f"Once {AT_ONCE}", "key", headers=KEY),
        turns=(Turn(tree=(*WHOLE, *EARLIER), events=SPOKE),),
    ),
    "repeated": Case(
        act=ask(f"Once {AT_ONCE}", "key", headers=KEY),
        turns=(Turn(tree=(*READ, *EARLIER), says={"db_fetch": {"chat.history.count": 2}}, finish=None),),
    ),
    "another message under the key": Case(
        act=ask(f"Twice {AT_ONCE}", "key", headers=KEY),
        turns=(
            Turn(
                tree=(*READ, *EARLIER),
                outcome="refused",
                error="idempotency_mismatch",
                failed={
                    "db_fetch": "idempotency_mismatch",
                    "db_fetch/fetch.conversation": (None, "cancelled"),  # whichever read comes first ends the other
                },
                finish=None,
                known=False,
                status=422,
            ),
        ),
    ),
    "deferred": Case(
        act=_defer,
        turns=(
            Turn(
                tree=(*FETCH, *ASKED, *QUESTION, "db_save"),
                outcome="degraded",
                failed={"save.user": "timeout.save.user"},
                says={"db_save": {"save.mode": "await", "save.deferred": True}},
                events=SPOKE,
                warnings=("save_deferred",),
            ),
        ),
    ),
    "cancelled": Case(act=_leave_json, turns=(LEFT,)),
    "cancelled, streamed": Case(act=_leave_stream, turns=(_streamed(LEFT),)),
    "stopped": Case(act=_stop, turns=(_streamed(LEFT, error="stopped"),)),
}
