"""Ten incidents, each as a fault that is scripted from outside: in a host that the server calls, or in who comes.

An incident begins when its switch is thrown. What it turns is a table; `incident_play` runs them all side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.grafana.incident_faults import (
    Handler,
    OneAtATime,
    a_third_of_a_second,
    no_writes,
    silent,
    slow,
    slow_projects,
    too_many,
)

Host = Literal["database", "model"]
PACE = "[[fault: slow first=0.1 each=0]]"
"""In a question: the scripted model takes a tenth of a second for its answer."""
PUPILS = tuple(f"pupil-{number}" for number in range(12))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitors:
    """Users who ask one question after the other, each of them `at_once` times side by side.

    Args:
        users: their ids.
        every_s: from the begin of a question to the begin of the next, if the first is answered by then.
        question: with the scripted model's pace in it, as a rule.
        fields: what the body has besides.
        path: asked with GET instead, where one is given.
        in_turn: the users share one connection and come one after the other.
    """

    users: tuple[str, ...] = ("ann", "ben", "cem", "dan")
    every_s: float = 1.5
    at_once: int = 1
    question: str = f"What is a hypothesis? {PACE}"
    fields: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    in_turn: bool = False


USUAL = (Visitors(),)


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel that an incident turns: it shows more than twice as much as before, or anything at all."""

    dashboard: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A fault, and what must turn.

    Args:
        name: the job's name in Prometheus.
        title: what the runbook's table calls it.
        alerts: those that must fire.
        also: those that may fire besides, each with the reason.
        panels: what must turn besides.
        host: where the fault is; it is a process's neighbour then, otherwise embedded in it.
        fault: what the host does while the switch is thrown.
        before: who comes from the start on.
        during: who comes besides while the switch is thrown.
        module: what is run instead of `app`.
        stacks: events of its log that have one; no others may.
        long_histories: how many conversations the database holds that are far too long.
        until: an expression that must give something, too, before the play may end.
        quick: whether it is played in `make test`; the others are for `make soak`.
    """

    name: str
    title: str
    alerts: tuple[str, ...] = ()
    also: Mapping[str, str] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    host: Host | None = None
    fault: Handler | None = None
    before: tuple[Visitors, ...] = USUAL
    during: tuple[Visitors, ...] = ()
    module: str = "app"
    stacks: frozenset[str] = frozenset()
    long_histories: int = 0
    until: str = ""
    quick: bool = False


_WAITS = {
    "TurnsSlowFastBurn": "what the turn waits for is overhead",
    "TurnsSlowSlowBurn": "what the turn waits for is overhead",
}
_UNANSWERED = {
    "TurnsUnansweredFastBurn": "such turns get no answer",
    "TurnsUnansweredSlowBurn": "such turns get no answer",
}
_REFUSED = _UNANSWERED | {
    "BreakerOpen": "ten failures in a row open it",
    "TurnsShed": "turns are turned away while the host is too busy or left alone",
}

CONTROL = Incident(name="control", title="nothing is wrong")
INCIDENTS = (
    Incident(
        name="slow-database",
        title="slow database",
        alerts=("TurnsSlowFastBurn", "TurnsSlowSlowBurn"),
        panels=(Panel("nursery-turns", "Stages, p95"), Panel("nursery-turns", "Overhead")),
        settings={"DB_FETCH_TIMEOUT": "10"},
        host="database",
        fault=slow,
    ),
    Incident(
        name="slow-project",
        title="one slow project fetch",
        alerts=("ProjectContextMissing",),
        panels=(Panel("nursery-turns", "Warnings"),),
        also=_WAITS,
        host="database",
        fault=slow_projects,
        before=(Visitors(fields={"page_id": "project-1"}),),
    ),
    Incident(
        name="provider-429",
        title="provider 429s",
        alerts=("ProviderRejects",),
        panels=(Panel("nursery-limiter", "Refusals by the model host"),),
        also=_REFUSED | _WAITS,
        host="model",
        fault=too_many,
    ),
    Incident(
        name="provider-silent",
        quick=True,
        title="provider silent",
        alerts=("ModelSilent",),
        panels=(Panel("nursery-turns", "Failed model calls"), Panel("nursery-process", "Breakers")),
        also=_REFUSED,
        settings={"LLM_FIRST_TOKEN_TIMEOUT": "1"},
        host="model",
        fault=silent,
    ),
    Incident(
        name="model-pool",
        title="pool too small",
        alerts=("QueueWaitLong", "TurnsShed"),
        panels=(Panel("nursery-limiter", "Wait for a slot"), Panel("nursery-limiter", "Slots and turns that wait")),
        also=_WAITS | _UNANSWERED,
        settings={"OPENAI_API_POOL_SIZE": "1", "LLM_QUEUE_TIMEOUT": "3"},
        before=(Visitors(users=("ann", "ben")),),
        during=(
            Visitors(
                users=PUPILS[:12],
                question="Slowly? [[fault: slow first=0.5 each=0]]",
            ),
        ),
    ),
    Incident(
        name="database-pool",
        title="pool too small",
        alerts=("TurnsSlowFastBurn",),
        panels=(Panel("nursery-process", "Requests that wait for a connection"),),
        also=_WAITS
        | dict.fromkeys(_UNANSWERED, "who finds no connection within DB_FETCH_TIMEOUT gets none")
        | {"OutboxOld": "what is put off finds no connection either"},
        settings={"SUPABASE_MAX_CONNECTIONS": "1"},
        host="database",
        fault=a_third_of_a_second,
        before=(Visitors(users=("ann", "ben")),),
        during=(Visitors(users=PUPILS[:4]),),
    ),
    Incident(
        name="greedy-user",
        quick=True,
        title="one greedy user",
        alerts=("OneUserCrowdsOut",),
        panels=(
            Panel("nursery-limiter", "Waiting though slots are free"),
            Panel("nursery-limiter", "Our refusals for haste"),
        ),
        also=_WAITS
        | dict.fromkeys(
            ("TurnsShed", *_UNANSWERED), "where answers are slow, the greedy user's own turns are turned away"
        )
        | {"QueueWaitLong": "the greedy user's own turns wait"},
        settings={"ENABLE_CHAT_RATE_LIMIT": "true", "CHAT_RATE_LIMIT_MAX": "40"},
        until='chat_rate_limited_total{job="greedy-user", kind="user"} > 0',
        during=(
            Visitors(users=("greedy",), at_once=8, every_s=0.3, question="More! [[fault: slow first=0.5 each=0]]"),
        ),
    ),
    Incident(
        name="outbox-stuck",
        quick=True,
        title="outbox stuck",
        alerts=("OutboxOld",),
        panels=(
            Panel("nursery-data-safety", "Age of the oldest row"),
            Panel("nursery-data-safety", "Rows in the outbox"),
        ),
        also=_WAITS,
        host="database",
        fault=no_writes,
    ),
    Incident(
        name="canary-broken",
        title="canary plan broken",
        alerts=("CanaryWorse",),
        panels=(Panel("nursery-canary", "Share that failed"),),
        also=_WAITS | _UNANSWERED,
        settings={"CHAT_CANARY_PERCENT": "50"},
        host="database",
        fault=OneAtATime(),
        before=(
            Visitors(
                users=PUPILS[:6],
                fields={"page_id": "project-1"},
                in_turn=True,
                every_s=0.3,
            ),
        ),
    ),
    Incident(
        name="canary-bug",
        title="canary plan broken",
        alerts=("CanaryWorse",),
        panels=(Panel("nursery-canary", "Turns that fell back to the sequential plan"),),
        settings={"CHAT_CANARY_PERCENT": "50"},
        module="tests.grafana.broken_plan",
        stacks=frozenset({"plan.failed"}),
        before=(Visitors(users=PUPILS[:4], every_s=3),),
        during=(Visitors(users=PUPILS[:4], every_s=2, fields={"page_id": "bug"}),),
    ),
    Incident(
        name="long-histories",
        title="memory from long histories",
        alerts=("MemoryHigh",),
        panels=(Panel("nursery-process", "Memory"), Panel("nursery-process", "History of a turn")),
        also=_WAITS
        | dict.fromkeys(_UNANSWERED, "where CPUs are few, a fetch of megabytes takes longer than DB_FETCH_TIMEOUT")
        | {"LoopStalled": "megabytes of JSON are parsed on the loop"},
        settings={"OPENAI_API_POOL_SIZE": "32"},
        host="database",
        long_histories=14,
        during=tuple(
            Visitors(
                users=(f"long-{number}",),
                fields={"page_id": "long"},
                every_s=4,
                question="Slowly? [[fault: slow first=3 each=0]]",
            )
            for number in range(14)
        ),
    ),
    Incident(
        name="loop-stall",
        quick=True,
        title="event-loop stall",
        alerts=("LoopStalled",),
        panels=(Panel("nursery-process", "Loop lag"),),
        also=_WAITS,
        module="tests.server.extended",
        during=(Visitors(users=("ann",), path="/test/stall/1.5", every_s=3),),
    ),
)
