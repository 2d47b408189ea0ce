"""Both transports through one case, request by request, held side by side.

Where the table of allowed.py lets ours do something else, httpx's is brought to the same state, so that the requests
that follow are compared as strictly as the first.
"""

from dataclasses import dataclass

from tests.clients.differential.exchange import Exchange
from tests.clients.differential.judge import allowed_rows
from tests.clients.differential.network import Server
from tests.clients.differential.peers import Ours, Seen, Theirs
from tests.clients.differential.script import Case

IDEMPOTENT = ("GET", "HEAD")


class DifferenceError(AssertionError):
    """What a caller sees differs, and no row allows it."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a case: the exchanges, the rows that each needed, the requests whose answer was too short."""

    exchanges: tuple[Exchange, ...]
    rows: tuple[frozenset[str], ...]
    exhausted: frozenset[int]


async def play(case: Case) -> Played:
    """Put the case to both transports.

    Raises:
        DifferenceError: with the seed and the bytes.
    """
    servers = Server(case), Server(case)
    ours, theirs = Ours(servers[0]), Theirs(servers[1])
    exchanges: list[Exchange] = []
    used: list[frozenset[str]] = []
    for number, method in enumerate(case.methods):
        for server in servers:
            server.request = number
        exchange = Exchange(method, case.answers[number], await ours.ask(method), await theirs.ask(method))
        exchange = await _sent_again(exchange, theirs)
        exchange.left, exchange.unread = theirs.leftovers, servers[1].lines[-1].unread
        exchange.kept = servers[0].kept, servers[1].kept
        rows = allowed_rows(exchange)
        if rows is None:
            raise DifferenceError(f"request {number} of {case}\n{_side_by_side(exchange)}")
        exchanges.append(exchange)
        used.append(frozenset(row.name for row in rows))
        if exchange.theirs.fault and not exchange.ours.fault:
            break  # ours goes on with a connection that httpx's has given up: no common state is left
        await _align(exchange, theirs)
    await ours.transport.aclose()
    if ours.transport.statistics() != (0, 0) or not all(line.closed for line in servers[0].lines):
        raise DifferenceError(f"connections are left open after {case}")
    return Played(tuple(exchanges), tuple(used), frozenset(servers[0].exhausted | servers[1].exhausted))


async def _sent_again(exchange: Exchange, theirs: Theirs) -> Exchange:
    """Have httpx's send once more what RFC 9110, 9.2.2, lets a client send once more, as ours does by itself."""
    line, again = theirs.server.lines[-1], theirs.server.case.again
    stale = bool(exchange.theirs.fault) and line.requests > 1 and line.heard == 0
    if stale and (exchange.method in IDEMPOTENT or line.taken == 0):
        return Exchange(exchange.method, again, exchange.ours, await theirs.ask(exchange.method), again=True)
    return exchange


async def _align(exchange: Exchange, theirs: Theirs) -> None:
    ours_kept, theirs_kept = exchange.kept
    if theirs_kept and not ours_kept:
        await theirs.close()
    elif exchange.left:
        theirs.forget_leftovers()


def _side_by_side(exchange: Exchange) -> str:
    ours, theirs = exchange.kept
    return f"  ours:  {_shown(exchange.ours)}, kept: {ours}\n  httpx: {_shown(exchange.theirs)}, kept: {theirs}"


def _shown(seen: Seen) -> str:
    return f"{seen.status} {seen.reason!r} {seen.headers!r} {seen.body!r} {seen.fault}"
