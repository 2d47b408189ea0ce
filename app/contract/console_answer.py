"""What `/ops/console` answers. Only described here; `app/bootstrap/console.py` makes it."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.contract.ops_answers import Count, LimiterChange, LimiterNow, OfProcess, OutboxNow, RecentTurn
from app.ops.console_state import CONSIDERED, SHOWN, Name, State


class ConsoleLinks(TypedDict):
    """Where a trace can be seen; `{trace_id}` stands for it. Null where no viewer is set."""

    jaeger: str | None
    grafana: str | None


class Dependency(TypedDict):
    """Something that turns need. `down` is left alone for now; `trying` is on its way to `ok`; `off` is not there."""

    name: Name
    state: State
    note: Annotated[str | None, Field(description="A word of a closed list, or why the outbox is paused.")]


class ConsoleLimiter(LimiterNow):
    """The model limiter now, and its changes."""

    changes: list[LimiterChange]
    reverts_on_restart: Literal[True]


class ConsoleTurns(TypedDict):
    """The slowest of the last turns, slowest first."""

    considered: Annotated[Count, Field(le=CONSIDERED, description="How many of the last turns that is.")]
    slowest: Annotated[list[RecentTurn], Field(max_length=SHOWN)]


class Console(OfProcess):
    """What the console shows of this process, read at one moment."""

    auth: Literal["dev", "supabase"]
    model: str
    links: ConsoleLinks
    status: Literal["ready", "loading", "draining"]
    dependencies: list[Dependency]
    limiter: ConsoleLimiter
    outbox: Annotated[OutboxNow | None, Field(description="Null with `OUTBOX=off`.")]
    turns: ConsoleTurns
