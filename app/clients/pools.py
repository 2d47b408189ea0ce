"""How the connections to the model's and the database's host stand, whichever transport holds them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx

from app.clients.by_plan import TransportByPlan
from app.clients.transport import TrioTransport

Target = Literal["model", "database"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """Connections that carry a request or are being opened for one, those that are idle, and requests that wait."""

    active: int = 0
    idle: int = 0
    waiting: int = 0

    def __add__(self, other: "PoolStatistics") -> "PoolStatistics":
        return PoolStatistics(
            active=self.active + other.active, idle=self.idle + other.idle, waiting=self.waiting + other.waiting
        )


NO_CONNECTIONS = PoolStatistics()


class Pools:
    """Tells of the pools that were added, at any time and to any thread.

    A service that is embedded in the process has no connections, and none of its requests waits for one.
    """

    def __init__(self) -> None:
        self._reads: dict[Target, Callable[[], PoolStatistics]] = {}

    def add(
        self, target: Target, transport: httpx.AsyncBaseTransport, waiting_before: Callable[[], int] = lambda: 0
    ) -> None:
        """Tell of `transport` as `target`'s; `waiting_before` counts requests that wait before they come to it."""
        self._reads[target] = lambda: statistics_of(transport) + PoolStatistics(waiting=waiting_before())

    def statistics(self, target: Target) -> PoolStatistics:
        """Return how the connections to a host stand."""
        read = self._reads.get(target)
        return read() if read else NO_CONNECTIONS


def statistics_of(transport: httpx.AsyncBaseTransport) -> PoolStatistics:
    """Return how a transport's connections stand; of one that is neither ours nor httpx's own, nothing is known."""
    if isinstance(transport, TransportByPlan):
        return sum(map(statistics_of, transport.carriers()), NO_CONNECTIONS)
    if isinstance(transport, TrioTransport):
        opened, idle = transport.statistics()
        return PoolStatistics(active=max(0, opened - idle), idle=idle, waiting=transport.waiting)
    if isinstance(transport, httpx.AsyncHTTPTransport):
        return _of_httpcore(transport)
    return NO_CONNECTIONS


def _of_httpcore(transport: httpx.AsyncHTTPTransport) -> PoolStatistics:
    pool = transport._pool  # httpx has no other way to it; of the requests, httpcore tells in its `repr` alone
    connections = pool.connections
    idle = sum(connection.is_idle() for connection in connections)
    waiting = sum(request.is_queued() for request in list(pool._requests))
    return PoolStatistics(active=len(connections) - idle, idle=idle, waiting=waiting)
