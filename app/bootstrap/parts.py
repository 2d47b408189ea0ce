"""What a server is joined around, and what comes of it."""

from dataclasses import dataclass, field

from quart_trio import QuartTrio

from app.admit.door import Door
from app.admit.gate import Gate
from app.admit.limiter import Limiter
from app.admit.rollout import Rollout
from app.admit.steered_model import Steering
from app.bootstrap.limits import Limits
from app.bootstrap.upstreams import Breakers, ChosenModel
from app.clients.pools import Pools
from app.clients.ports import ChatDatabase
from app.edge.observe import Observe
from app.edge.serve import Edge
from app.edge.turns import Turns
from app.ops.recent_turns import RecentTurns
from app.ops.turn_log import TurnLog
from app.receive.auth.key_source import Keys
from app.save.outbox_file import Outbox
from telemetry.active_users import ActiveUsers
from telemetry.recent_errors import RecentErrors


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What is open while a server runs, and closed behind it.

    Args:
        database: where conversations are.
        model: who answers.
        breakers: of both.
        outbox: where rows wait that cannot be stored yet, if anywhere.
        turn_log: the file of turns, if there is one.
        steering: of the model's host, where `model` tells it.
        keys: verify tokens, in an identity mode that has them.
        pools: of the connections to both.
        errors: the last warnings and errors that were logged.
    """

    database: ChatDatabase
    model: ChosenModel
    breakers: Breakers = field(default_factory=Breakers)
    outbox: Outbox | None = None
    turn_log: TurnLog | None = None
    steering: Steering = field(default_factory=Steering)
    keys: Keys | None = None
    pools: Pools = field(default_factory=Pools)
    errors: RecentErrors = field(default_factory=RecentErrors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """What runs turns, refuses them and shows them, before it has addresses."""

    turns: Turns
    door: Door
    limiter: Limiter
    rollout: Rollout
    limits: Limits
    edge: Edge
    recent: RecentTurns
    users: ActiveUsers


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The server's parts, joined: what serving and tests need hold of."""

    app: Observe
    quart: QuartTrio
    edge: Edge
    door: Door
    gate: Gate
    turns: Turns
    recent: RecentTurns
