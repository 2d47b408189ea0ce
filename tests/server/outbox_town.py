"""A server whose database can be told to fail, and what an outbox's tests look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server.database_faults import Weather
from tests.server.faulty_database import RemoteFaultyDatabase
from tests.server.process import AT_ONCE, ServerProcess, running, until
from tests.server.rows import stored

NO_WRITES = Weather(writes={"internal": 1.0})  # which leaves the breaker closed, so turns begin
REFUSED = Weather(writes={"key_rotated": 1.0})
WELL = Weather()
KEYS = {"SUPABASE_KEY": "sb_secret_test", "AUTH_MODE": "dev"}


@dataclass(slots=True)
class Town:
    """A database that can be told to fail, and what servers on it are to be started with."""

    folder: Path
    database: RemoteFaultyDatabase

    @contextmanager
    def server(self, module: str = "app", **settings: str) -> Iterator[ServerProcess]:
        """Run a server on the one `DATA_DIR`."""
        given = {"SUPABASE_URL": self.database.url, **KEYS, **settings}
        with running(self.folder / "server", module, **given) as process:
            yield process

    def rows(self) -> list[str]:
        """Return what the database holds, in the order in which it is read."""
        return [row["message"].split(" [[")[0] for row in stored(self.folder) if row["sender"] == "user"]


def ops(server: ServerProcess) -> dict[str, Any]:
    response = server.http.get("/ops/outbox")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def delivered(server: ServerProcess) -> None:
    until(lambda: ops(server)["waiting"] == 0, "all is delivered")


def readiness(server: ServerProcess) -> tuple[int, list[str]]:
    response = server.http.get("/readyz")
    return response.status_code, response.json()["degraded"]


def deferred(server: ServerProcess, question: str, **fields: Any) -> dict[str, Any]:
    """Ask while the database takes no rows; check that the answer says so, and return it."""
    body = server.answer(f"{question} {AT_ONCE}", **fields)
    assert body["saved"] == "outbox"
    assert [warning["code"] for warning in body["warnings"]] == ["save_deferred"]
    return body
