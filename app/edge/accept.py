"""The accept loop: it goes on whatever the kernel answers, and refuses politely what is one connection too many.

In place of `trio.serve_listeners` (Trio 0.35), which ends on errors that it does not know and logs a stack ten times a
second on those it knows; Hypercorn (0.18) has no limit of connections at all.
"""

import errno
import logging
import math
import resource
import secrets
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import trio

from app.edge.reply import edge_reply
from app.errors import OverloadFault

log = logging.getLogger(__name__)

RETRY_S = 0.1
"""After a failed accept (no file descriptor left, mostly), as in Trio's own loop."""
REFUSALS_AT_ONCE = 64
"""More than these are closed without a word: a flood of refusals must not become a load of its own."""
REFUSAL_S = 2.0
"""For the client to take its refusal and close."""
TELL_AGAIN_S = 10.0
"""At the limit a trouble comes and goes with every client that does, and a log that is flooded fills a disk."""
AT_ONCE = 100
"""So many connections are taken before others get to run. One at a time, as Trio's own loop does, each costs a pass of
the scheduler: with 1,000 open streams new ones waited for seconds (first text, p50: 1.7 s; with this 0.4 s)."""
ALREADY_GONE = frozenset(
    {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN}
    | {errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENONET}
)
"""Troubles of the one connection that was to be accepted; accept(2): "treat them like EAGAIN by retrying"."""
SPARE_DESCRIPTORS = 128
"""Kept from the connections: the database's, the calls' to the model and to Supabase, the log's."""


def connections_allowed(wanted: int) -> int:
    """Return how many connections can be held, at most `wanted`; raises the process's limit of descriptors for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft - SPARE_DESCRIPTORS, soft // 2))
    if allowed < wanted:
        log.warning("connections.capped", extra={"wanted": wanted, "allowed": allowed, "descriptors": soft})
    return allowed


class _Trouble:
    """Something to tell of when it begins, once, and again no sooner than `TELL_AGAIN_S` later."""

    def __init__(self) -> None:
        self._told = False
        self._next = -math.inf

    def begins(self) -> bool:
        """Note that it is there; return whether to tell of it."""
        if self._told or trio.current_time() < self._next:
            return False
        self._told, self._next = True, trio.current_time() + TELL_AGAIN_S
        return True

    def ends(self) -> bool:
        """Note that it is over; return whether it was told of."""
        told, self._told = self._told, False
        return told


class Accepting:
    """Accepts connections and serves each in a task of `nursery`, at most `most` at once.

    Args:
        nursery: outlives this loop, so that what was accepted is served to its end.
        serve: serves one connection; raises nothing but `Cancelled`.
        most: connections at once.
        refused: called for each one beyond them.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        serve: Callable[[trio.SocketStream], Awaitable[None]],
        most: int,
        refused: Callable[[], None],
    ) -> None:
        self._nursery = nursery
        self._serve = serve
        self._most = most
        self._refused = refused
        self._open = 0
        self._refusing = 0
        self._full, self._failing = _Trouble(), _Trouble()
        self._failures = 0
        self._refusals: trio.Nursery

    @property
    def open(self) -> int:
        """How many connections are served now."""
        return self._open

    async def run(self, listener: socket.socket) -> None:
        """Accept until cancelled; the listener is closed then, and whoever is still being refused."""
        listener.setblocking(False)
        with listener:
            async with trio.open_nursery() as self._refusals:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    try:
                        self._take_those_who_wait(listener)
                    except OSError as exc:
                        self._failures += 1
                        if self._failing.begins():
                            log.error("accept.failing", extra={"error": errno.errorcode.get(exc.errno or 0, str(exc))})
                        await trio.sleep(RETRY_S)

    def _take_those_who_wait(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in ALREADY_GONE:
                    continue
                raise
            if self._failing.ends():
                log.info("accept.recovered", extra={"failures": self._failures})
            self._failures = 0
            self._take(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))

    def _take(self, stream: trio.SocketStream) -> None:
        full = self._open >= self._most
        if full:
            if self._full.begins():
                log.warning("connections.full", extra={"open": self._open})
            self._refused()
            self._refusals.start_soon(self._refuse, stream)
        else:
            self._full.ends()
            self._open += 1
            self._nursery.start_soon(self._one, stream)

    async def _one(self, stream: trio.SocketStream) -> None:
        try:
            await self._serve(stream)
        finally:
            self._open -= 1

    async def _refuse(self, stream: trio.SocketStream) -> None:
        """Tell the client to come again, and let it read that."""
        polite = self._refusing < REFUSALS_AT_ONCE
        self._refusing += 1
        try:
            if polite:
                with trio.move_on_after(REFUSAL_S):
                    await stream.send_all(_refusal())
                    await stream.send_eof()
                    while await stream.receive_some():
                        pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has left
        finally:
            self._refusing -= 1
            stream.socket.close()


def _refusal() -> bytes:
    reply = edge_reply(OverloadFault("overloaded", "too many connections"), secrets.token_hex(16))
    lines = [f"HTTP/1.1 {reply.status} Service Unavailable".encode()]
    lines += [name + b": " + value for name, value in [*reply.headers, (b"date", formatdate(usegmt=True).encode())]]
    return b"\r\n".join([*lines, b"", reply.body])
