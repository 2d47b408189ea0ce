"""Listen, serve until a signal, drain. One process, its own signal handling, no h2 (see the design's pitfalls)."""

import errno
import logging
import signal
import socket
from collections.abc import Callable

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework

from app.errors import StartError

log = logging.getLogger(__name__)

BACKLOG = 1024
_WORDS = {
    errno.EADDRINUSE: "the port is in use; stop what listens there, or set BIND to another",
    errno.EACCES: "not allowed; take a port above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


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


async def serve(
    app: ASGIFramework,
    listener: socket.socket,
    *,
    graceful_timeout_s: float,
    on_drain: Callable[[], None],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on `listener` until SIGTERM or SIGINT; then call `on_drain` and finish what is being answered.

    A second signal meets Python's own handling, which ends the process at once.
    """
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.graceful_timeout = graceful_timeout_s
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")

    async def until_signalled() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for signum in signals:
                log.info("server.draining", extra={"signal": signal.Signals(signum).name})
                on_drain()
                return

    await hypercorn_serve(app, config, shutdown_trigger=until_signalled, mode="asgi", task_status=task_status)
