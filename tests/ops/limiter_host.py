"""A limiter's document, and a small server on loopback that answers for it with whatever a test wants."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.ops.limiter_cli.document import Limiter
from app.ops.limiter_cli.history import Look

CHANGE = {"at": "2026-11-23T04:00:00.123Z", "before": 10, "after": 12, "reason": "manual", "times": 1}


def document(**fields: Any) -> dict[str, Any]:
    """Return what a server with ten slots says that is at rest, with these fields instead."""
    return {
        "instance": "1f2e3d4c5b6a",
        "scope": "process",
        "reverts_on_restart": True,
        "mode": "fixed",
        "total_tokens": 10,
        "min": 1,
        "max": 64,
        "borrowed": 3,
        "studies": 0,
        "waiting": 0,
        "oldest_wait_seconds": 0.0,
        "users": 3,
        "users_at_cap": 0,
        "queue_max": 64,
        "queue_timeout_seconds": 10.0,
        "per_user_max": 2,
        "mean_service_seconds": 3.91,
        "last_minute": dict.fromkeys(
            ("wait_p50_seconds", "wait_p95_seconds", "service_p50_seconds", "service_p95_seconds")
        ),
        "admitted": 812,
        "abandoned": 0,
        "shed": {"queue_full": 0, "predicted_wait": 0, "queue_timeout": 0},
        "rejections": {"overload": 0, "quota": 0, "quota_wait": 0},
        "pacer": None,
        "changes": [],
        **fields,
    }


def look(at_s: float = 0.0, **fields: Any) -> Look:
    """Return a look at it."""
    return Look(at_s=at_s, limiter=Limiter.model_validate_json(json.dumps(document(**fields))))


@dataclass(slots=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    authorization: str | None
    body: Any


@dataclass(slots=True)
class Host:
    """The server: answers each request with `status` and `body`, after `released`."""

    url: str
    status: int = 200
    body: bytes = json.dumps(document()).encode()
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def host(status: int = 200, body: Any = None, *, waits: bool = False, drips: bool = False) -> Iterator[Host]:
    """Serve until the block ends; `waits` holds every answer back, `drips` never comes to the end of one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            given = self.headers.get("authorization")
            served.asked.append(Asked(self.command, self.path, given, json.loads(content) if content else None))
            if drips:
                self.send_response(200)
                self.send_header("content-length", "1000000")
                self.end_headers()
                while not served.released.wait(0.02):
                    self.wfile.write(b" ")
                return
            served.released.wait()
            self.send_response(served.status)
            self.send_header("content-length", str(len(served.body)))
            self.end_headers()
            self.wfile.write(served.body)

        do_GET = do_PUT = answer  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name for it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # whoever hung up is gone
    served = Host(f"http://127.0.0.1:{server.server_address[1]}", status)
    if body is not None:
        served.body = body if isinstance(body, bytes) else json.dumps(body).encode()
    if not waits and not drips:
        served.released.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
