"""A project whose keys a test publishes: Supabase's two addresses that the server asks, on one loopback port."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from app.clients.in_process import AsgiApp, Message
from tests.receive.auth.signing import Signer, claims, published, signer
from tests.server.neighbours import Neighbour, database_host

KEYS_PATH = "/auth/v1/.well-known/jwks.json"


@dataclass
class Auth:
    """What the address of the keys answers: `body` with `status`; or, `silent`, nothing at all."""

    body: bytes = field(default_factory=lambda: published(signer().jwk()))
    status: int = 200
    content_type: str = "application/json"
    mood: Literal["answers", "silent"] = "answers"

    def before(self, app: AsgiApp) -> AsgiApp:
        """Return `app` with the keys beside it."""

        async def serve(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            if scope["type"] != "http" or scope["path"] != KEYS_PATH:
                await app(scope, receive, send)
                return
            while self.mood == "silent":
                if (await receive())["type"] == "http.disconnect":
                    return
            headers = [(b"content-type", self.content_type.encode()), (b"cache-control", b"public, max-age=600")]
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            await send({"type": "http.response.body", "body": self.body})

        return serve


@dataclass
class Project:
    """A project at `url`: its database's and its keys' host, and who signs for it."""

    auth: Auth
    neighbour: Neighbour

    @property
    def url(self) -> str:
        return self.neighbour.url

    @property
    def settings(self) -> Mapping[str, str]:
        """What the server needs to know of it."""
        return {"SUPABASE_URL": self.url, "SUPABASE_KEY": "sb_secret_test"}

    @property
    def fetches(self) -> int:
        """How often the keys were asked for."""
        return len(self.neighbour.requests("GET", KEYS_PATH))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of `demo`, who has signed in just now."""
        return claims(time.time(), **({"iss": f"{self.url}/auth/v1", "sub": "demo"} | changes))

    def token(self, by: Signer | None = None, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """Return a token of the project's."""
        return (by or signer()).token(self.claims(**changes), **(header or {}))

    def insert(self, table: str, **row: Any) -> None:
        """Put a row into the project's database."""
        response = httpx.post(f"{self.url}/rest/v1/{table}", json=[row], trust_env=False)
        assert response.is_success, response.text


@contextmanager
def project(folder: Path, auth: Auth | None = None) -> Iterator[Project]:
    """Serve a project until the block ends."""
    auth = auth or Auth()
    with database_host(folder / "project.sqlite3", auth.before) as neighbour:
        yield Project(auth, neighbour)
