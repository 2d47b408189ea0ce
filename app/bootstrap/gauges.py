"""What `/metrics` reads from the parts, at each scrape, and what stands there with 0 before it has happened."""

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from opentelemetry.metrics import Meter

from app.bootstrap.parts import Machinery, Resources
from app.clients.pools import Pools, Target
from app.turn import Fallback, Shortfall
from telemetry import names
from telemetry.metrics import Instruments, watch, watch_counts, watch_cpu, watch_each, watch_memory, watch_series

HOSTS: Final[tuple[Target, ...]] = ("model", "database")
FALLBACKS: Final = (*get_args(Fallback), "plan", "study")
"""Those that an answer names, and those that it does not."""
USUAL_REFUSALS: Final = ("rate_limit_exceeded", "slow_down", "insufficient_quota", "http_429")
"""By which hosts keep their limits; other codes are there when they first come."""


def start_counts(instruments: Instruments) -> None:
    """Have each kind of warning and of fallback on the page from the start, so that a first one is a rise."""
    for counter, kinds in ((instruments.warnings, get_args(Shortfall)), (instruments.fallbacks, FALLBACKS)):
        for kind in kinds:
            counter.add(0, {names.KIND: kind})


def watch_all(meter: Meter, machinery: Machinery, resources: Resources) -> None:
    """Have the gauges and the counted numbers of a server read."""
    limiter, gate = machinery.limiter, machinery.limiter.gate

    def mode() -> Mapping[str, str]:
        return {names.MODE: limiter.mode}

    watch(meter, names.LIMITER_TOTAL_GAUGE, lambda: gate.total, "Slots of the model limiter.", mode)
    watch(meter, names.LIMITER_BORROWED_GAUGE, lambda: gate.inflight, "Slots in use.", mode)
    watch(meter, names.LIMITER_WAITING_GAUGE, lambda: gate.waiting, "Turns that wait for a slot.", mode)
    changes = "Changes of the number of slots."
    watch_counts(meter, names.LIMITER_CHANGES, names.REASON, lambda: gate.statistics().changes, changes)
    not_taken = "Model calls that the host was too busy for, that its quotas refused, or that were not sent for these."
    watch_counts(meter, names.PACER_REFUSALS, names.REASON, limiter.steering.not_taken_calls, not_taken)
    watch(meter, names.PACER_WAITING_GAUGE, limiter.steering.paced, "Model calls that wait for the host's quotas.")
    failures = "Attempts at a model call that failed, by the host's code or by what broke."
    nothing = dict.fromkeys(USUAL_REFUSALS, 0)
    failed = limiter.steering.failures
    watch_counts(meter, names.UPSTREAM_REJECTIONS, names.CODE, lambda: {**nothing, **failed()}, failures)
    watch(meter, names.TURNS_INFLIGHT, machinery.turns.in_flight, "Turns that run now.")
    watch(meter, names.CONNECTIONS, machinery.edge.connections, "Connections of clients that are open now.")
    watch(meter, names.DRAINING, lambda: float(machinery.door.draining), "1 while the server drains.")
    limited = "Requests over the limit of a user's turns, or of an address's failed authentications."
    watch_counts(meter, names.RATE_LIMITED, names.KIND, machinery.limits.refusals.counts, limited)
    watch(meter, names.USERS_ACTIVE, machinery.users.count, "Distinct users in the last five minutes, estimated.")
    states = {each.target: each.state_value for each in (resources.breakers.model, resources.breakers.database)}
    watch_each(meter, names.BREAKER_STATE, names.TARGET, states, "0 closed, 1 half-open, 2 open.")
    watch_pools(meter, resources.pools)
    watch_cpu(meter)
    watch_memory(meter)


def watch_pools(meter: Meter, pools: Pools) -> None:
    """Have the connections to the hosts read; of a service that is embedded in the process there are none, always."""

    def connections() -> Iterator[tuple[float, Mapping[str, str]]]:
        for target in HOSTS:
            now = pools.statistics(target)
            for state, count in (("active", now.active), ("idle", now.idle)):
                yield count, {names.TARGET: target, names.STATE: state}

    def waiting() -> Iterator[tuple[float, Mapping[str, str]]]:
        for target in HOSTS:
            yield pools.statistics(target).waiting, {names.TARGET: target}

    open_now, in_line = "Connections to a host that a turn needs.", "Requests to a host that wait for a connection."
    watch_series(meter, names.UPSTREAM_CONNECTIONS, connections, open_now, unit="{connection}")
    watch_series(meter, names.UPSTREAM_WAITING, waiting, in_line, unit="{request}")
