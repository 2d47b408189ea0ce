"""What `/metrics` reads from the parts, at each scrape."""

from collections.abc import Mapping

from opentelemetry.metrics import Meter

from app.bootstrap.parts import Machinery
from app.bootstrap.upstreams import Breakers
from telemetry import names
from telemetry.metrics import watch, watch_counts, watch_each, watch_memory


def watch_all(meter: Meter, machinery: Machinery, breakers: Breakers) -> None:
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
    watch_counts(meter, names.UPSTREAM_REJECTIONS, names.CODE, limiter.steering.failures, failures)
    watch(meter, names.TURNS_INFLIGHT, machinery.turns.in_flight, "Turns that run now.")
    watch(meter, names.CONNECTIONS, machinery.edge.connections, "Connections of clients that are open now.")
    watch(meter, names.DRAINING, lambda: float(machinery.door.draining), "1 while the server drains.")
    limited = "Requests over the limit of a user's turns, or of an address's failed authentications."
    watch_counts(meter, names.RATE_LIMITED, names.KIND, machinery.limits.refusals.counts, limited)
    watch(meter, names.USERS_ACTIVE, machinery.users.count, "Distinct users in the last five minutes, estimated.")
    states = {each.target: each.state_value for each in (breakers.model, breakers.database)}
    watch_each(meter, names.BREAKER_STATE, names.TARGET, states, "0 closed, 1 half-open, 2 open.")
    watch_memory(meter)
