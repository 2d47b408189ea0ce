"""Listen, serve until a signal, drain. One process, its own signal handling, HTTP/1.1 only.

In place of `hypercorn.trio.serve` (0.18), which accepts no other connection class; its lifespan, its protocol and its
streams are used as they are.

The drain, from the signal on:

    at once                    `on_drain`: `/readyz` and new turns are 503, every answer is its connection's last
    after `grace_s`            no new connection, idle ones are closed
    `last_call_s` before end   `on_last_call`: what still runs is told to end properly
    after `timeout_s`          what still runs is cut off

It ends as soon as nothing is left to do. A second signal ends the process on the spot, as if it had no handler.
"""

import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework

from app.edge.accept import Accepting, connections_allowed
from app.edge.connection import Connection, ConnectionRules, Drop
from app.errors import StartError

log = logging.getLogger(__name__)

BACKLOG = 1024
KEEP_ALIVE_S = 5.0
"""For a connection's next request head to arrive in full; so slow heads are cut by the same timer (Hypercorn's)."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO_S = 0.05
"""Until a signal can be a second one. A SIGTERM that the whole process group was sent is handed on by `make`: measured
up to 4 ms later, with three busy processes per core.
"""
_WORDS = {
    errno.EADDRINUSE: "the port is in use; stop what listens there, or set BIND to another",
    errno.EACCES: "not allowed; take a port above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRules:
    """How the server ends; the module's table says what happens when. All in seconds from the signal."""

    grace_s: float
    timeout_s: float
    last_call_s: float
    on_drain: Callable[[], None]
    on_last_call: Callable[[], None]
    turns_over: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    """Returns when no turn runs: one may go on though its client has left."""


class Edge:
    """The server's connections, for those who watch them.

    Args:
        max_connections: held at once; more are refused.
        send_timeout_s: longest wait for a client to take a piece of its answer.
        refused, dropped: told why a request or connection was refused, or a connection dropped.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        send_timeout_s: float,
        refused: Callable[[str], None],
        dropped: Callable[[Drop], None],
    ) -> None:
        self._max_connections = max_connections
        self._refused = refused
        self._draining = False
        self._accepting: Accepting | None = None
        self._rules = ConnectionRules(
            send_timeout_s=send_timeout_s, closing=lambda: self._draining, refused=refused, dropped=dropped
        )

    def connections(self) -> int:
        """Return how many connections are open now; safe to call from any thread."""
        return self._accepting.open if self._accepting else 0

    async def serve(
        self,
        app: ASGIFramework,
        listener: socket.socket,
        drain: DrainRules,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve `app` on `listener` until SIGTERM or SIGINT, then drain."""
        config, wrapped, context = _config(), ASGIWrapper(app), WorkerContext(None)
        lifespan = Lifespan(wrapped, config, {})
        async with trio.open_nursery() as lifespan_nursery:
            await lifespan_nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as drain_nursery:
                async with trio.open_nursery() as connections:

                    async def serve_one(stream: trio.SocketStream) -> None:
                        await Connection(wrapped, config, context, stream, self._rules).run()

                    most = connections_allowed(self._max_connections)
                    self._accepting = Accepting(connections, serve_one, most, partial(self._refused, "connections"))
                    async with trio.open_nursery() as accepting:
                        accepting.start_soon(self._accepting.run, listener)
                        await _signalled(task_status, partial(self._begin_drain, drain))
                        begun = trio.current_time()
                        drain_nursery.start_soon(_at, begun + drain.timeout_s - drain.last_call_s, drain.on_last_call)
                        connections.cancel_scope.deadline = begun + drain.timeout_s
                        await trio.sleep(drain.grace_s)
                        accepting.cancel_scope.cancel()
                    await context.terminated.set()
                with trio.move_on_at(begun + drain.timeout_s):
                    await drain.turns_over()
                drain_nursery.cancel_scope.cancel()
            await lifespan.wait_for_shutdown()
            lifespan_nursery.cancel_scope.cancel()

    def _begin_drain(self, drain: DrainRules) -> None:
        self._draining = True
        drain.on_drain()


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        StartError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        reason = _WORDS.get(exc.errno or 0, exc.strerror or str(exc))
        raise StartError(f"cannot listen on {host}:{port}: {reason}") from None


def listener_url(listener: socket.socket) -> str:
    """Return the URL at which a listener is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _config() -> Config:
    config = Config()
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


async def _signalled(task_status: trio.TaskStatus[None], act: Callable[[], None]) -> None:
    """Act at the first signal, and return; the next one meets the system's own handling, which needs no loop."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)  # what the receiver puts back when it closes
    with trio.open_signal_receiver(*SIGNALS) as signals:
        task_status.started()
        number = await anext(signals)
        act()
        with trio.move_on_after(ECHO_S):
            async for _echo in signals:
                pass
        log.info("server.draining", extra={"signal": signal.Signals(number).name})


async def _at(when: float, act: Callable[[], None]) -> None:
    await trio.sleep_until(when)
    act()
