"""What happens in a run, drawn from one integer seed: who asks where, which weather comes when, who is killed when.

The plan is the same for the same seed. What comes of it is not to the last step: processes and sockets have their say.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from app.turn import OnDisconnect, Saved
from tests.server.database_faults import COURSES, FAULTS, REFUSALS, Weather

SPAN_S = 0.7
RESTLESS = 0.3
"""The share of the seeds with two servers whose clients have no patience."""
USERS = ("demo", "ada", "bo")
PAGES = ("general", "project-1", "notes")
Way = Literal["json", "stream", "sdk"]
"""How a client asks: `POST /chat`, `POST /chat/stream` with our body, or that with the AI SDK's."""
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPlan:
    """One client: it asks on its pages, and pauses between its questions for up to `pause_s`.

    One that `repeats` sends a question under one key until it has a whole answer. With `patience_s` it leaves after
    about so long, twice as long the next time, and sends it again at once; `on_disconnect` is what the turn does then.
    """

    name: str
    user_id: str
    pages: tuple[str, ...]
    pause_s: float
    way: Way = "json"
    repeats: bool = False
    patience_s: float | None = None
    on_disconnect: OnDisconnect = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A server that is killed `after_s` from the start, or when clients hold so many `answers` before that.

    With `saved`, only answers that were saved so count. The server is started again `down_s` after its end.
    """

    server: int
    after_s: float
    answers: int | None
    saved: Saved | None
    down_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run. `weather` comes one after the other, each for so many seconds; `settings` are the servers'."""

    seed: int
    span_s: float
    clients: tuple[ClientPlan, ...]
    weather: tuple[tuple[float, Weather], ...]
    kills: tuple[Kill, ...]
    settings: Mapping[str, str]


def make_plan(seed: int, servers: int = 1, span_s: float = SPAN_S) -> Plan:
    """Return the plan of a seed for so many servers, whose clients ask for `span_s` seconds."""
    draw = random.Random(seed)
    plan = Plan(
        seed=seed,
        span_s=span_s,
        clients=tuple(_client(draw, number) for number in range(draw.randint(4, 8))),
        weather=tuple(_weather_for(draw, span_s)),
        kills=tuple(_kill(draw, number % servers, span_s) for number in range(draw.randint(servers, 2))),
        settings={
            "USE_OPTIMIZED_CHAT": draw.choice(("true", "true", "false")),
            "SAVE_MODE": draw.choice(("await", "outbox")),
            "OUTBOX_SYNC": draw.choice(("full", "normal")),
        },
    )
    return _restless(plan) if servers > 1 and draw.random() < RESTLESS else plan


def _restless(plan: Plan) -> Plan:
    """Return the plan with few clients, who leave turns that go on and ask elsewhere: so one question has two answers.

    Both wait in outboxes.
    """
    clients = tuple(
        replace(client, repeats=True, patience_s=0.08, on_disconnect="continue") for client in plan.clients[:3]
    )
    settings = {**plan.settings, "USE_OPTIMIZED_CHAT": "true", "SAVE_MODE": "outbox"}
    return replace(plan, clients=clients, settings=settings)


def _client(draw: random.Random, number: int) -> ClientPlan:
    """Return a client; the first two are two tabs of one page."""
    user, pages = (USERS[0], PAGES[:1]) if number < 2 else (draw.choice(USERS), tuple(draw.sample(PAGES, 2)))
    repeats = draw.random() < 0.7
    return ClientPlan(
        name=f"c{number}",
        user_id=user,
        pages=pages,
        pause_s=draw.choice((0.0, 0.02, 0.08)),
        way=draw.choice(WAYS),
        repeats=repeats,
        patience_s=draw.choice((None, 0.03, 0.08)) if repeats else None,
        on_disconnect=draw.choice(("cancel", "continue")),
    )


def _weather_for(draw: random.Random, span_s: float) -> list[tuple[float, Weather]]:
    found, spent = [(draw.uniform(0, 0.1), Weather())], 0.0
    while spent < span_s:
        lasting = draw.uniform(0.05, 0.25)
        found.append((lasting, _weather(draw)))
        spent += lasting
    return found


def _weather(draw: random.Random) -> Weather:
    """Return some weather; most of it lets turns begin, or nothing would be left to save."""
    kind = draw.random()
    if kind < 0.2:
        return Weather()
    if kind < 0.75:
        return Weather(writes=_rates(draw), slow_s=draw.uniform(0.02, 0.2), late_s=draw.uniform(0.02, 0.3))
    if kind < 0.85:
        few = {name: rate / 4 for name, rate in _rates(draw).items()}
        return Weather(reads=few, writes=_rates(draw))
    if kind < 0.95:
        return Weather(door=draw.choice(("refused", "closed")))
    everything = {draw.choice(sorted(REFUSALS)): 1.0}
    return Weather(reads=everything, writes=everything)


def _rates(draw: random.Random) -> dict[str, float]:
    """Return one fault or two: one whose caller cannot know what became of its request, and any."""
    names = {draw.choice(sorted(COURSES)), draw.choice(sorted(FAULTS))}
    share = draw.choice((0.3, 0.6, 1.0)) / len(names)
    return dict.fromkeys(sorted(names), share)


def _kill(draw: random.Random, server: int, span_s: float) -> Kill:
    """Return a kill: at a moment, after some answers, or, which is where promises are broken, after one just queued."""
    answers, saved = draw.choice(_MOMENTS)
    return Kill(
        server=server,
        after_s=draw.uniform(0.1 if answers is None else 0.5, 0.9) * span_s,
        answers=answers and draw.randint(1, answers),
        saved=saved,
        down_s=draw.choice((0.0, 0.0, draw.uniform(0, 0.1))),
    )


_MOMENTS: tuple[tuple[int | None, Saved | None], ...] = ((None, None), (12, None), (2, "outbox"))
