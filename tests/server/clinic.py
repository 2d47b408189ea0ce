"""Hosts with faults for the doctor to find, and the doctor itself, run here or as a process."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import jwt
import pytest
import trio
from hypercorn.config import Config

from app.bootstrap.doctor import examine
from app.clients.in_process import AsgiApp, Message
from app.embedded.postgrest import SHIPPED_SCHEMA
from app.ops.doctor.finding import Finding
from app.settings import load_settings
from tests.server.key_host import Auth
from tests.server.neighbours import Neighbour, database_host, model_host

KEY, ANON_KEY, MODEL_KEY = "sb_secret_canary-database", "sb_publishable_front-ends", "sk-canary-model"
JSON_KIND = (b"content-type", b"application/json")


@dataclass
class Gateway:
    """What stands before a project's database. Each field that is not its default is a fault.

    Args:
        auth: publishes the keys.
        open_to_all: whoever comes, with any key or none, reads what is there.
        slow_s: before each answer.
        pool: PostgREST's connections; who finds them all taken is refused at once, not after ten seconds.
        silent: never answers.
        clock_s: how far its clock is ahead.
        status: of a page that stands in the database's place.
        code: of a refusal of PostgREST's own, with that status.
        secret: who brings a token that this signed is who the token says, and reads none of the rows there are.
        signed_in: the roles of tokens that it has taken.
        busy, asked: requests that it has now, and that it had.
    """

    auth: Auth = field(default_factory=Auth)
    open_to_all: bool = False
    slow_s: float = 0.0
    pool: int | None = None
    silent: bool = False
    clock_s: float = 0.0
    status: int = 0
    code: str = ""
    secret: str = ""
    signed_in: set[str] = field(default_factory=set)
    busy: int = 0
    asked: int = 0

    def heal(self) -> None:
        """Take all faults back."""
        auth = self.auth
        vars(auth).update(vars(Auth()))
        vars(self).update(vars(Gateway(auth=auth)))

    def before(self, app: AsgiApp) -> AsgiApp:
        return self._dated(self.auth.before(self._guarded(app)))

    def _dated(self, app: AsgiApp) -> AsgiApp:
        """Return `app` with the gateway's own time in its answers."""

        async def serve(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            async def send_dated(message: Message) -> None:
                if message["type"] == "http.response.start":
                    date = formatdate(time() + self.clock_s, usegmt=True).encode()
                    message["headers"] = [*message["headers"], (b"date", date)]
                await send(message)

            await app(scope, receive, send_dated)

        return serve

    def _guarded(self, app: AsgiApp) -> AsgiApp:
        async def serve(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            self.asked += 1
            while self.silent:
                if (await receive())["type"] == "http.disconnect":
                    return
            headers = {name: value.decode() for name, value in scope["headers"]}
            own = self._refusal(headers.get(b"apikey", "")) or self._of_token(headers.get(b"authorization", ""))
            if own is not None:
                await answered(send, *own)
                return
            self.busy += 1
            try:
                await trio.sleep(self.slow_s)
                await app(scope, receive, send)
            finally:
                self.busy -= 1

        return serve

    def _refusal(self, key: str) -> tuple[int, bytes] | None:
        if self.status:
            return self.status, b'{"code":"%s"}' % self.code.encode() if self.code else b"a page"
        if self.pool is not None and self.busy >= self.pool:
            return 504, b'{"code":"PGRST003","message":"canary: no connection"}'
        if self.open_to_all or key == KEY:
            return None
        if key == ANON_KEY:
            return 401, b'{"code":"42501","message":"permission denied for table users"}'
        return 401, b'{"message":"canary: Invalid API key"}'

    def _of_token(self, authorization: str) -> tuple[int, bytes] | None:
        """Return what PostgREST answers to who brings a token: with row-level security, none of the rows."""
        if not self.secret or not authorization:
            return None
        try:
            token = authorization.removeprefix("Bearer ")
            claims = jwt.decode(token, self.secret, ["HS256"], audience="authenticated")
        except jwt.PyJWTError:
            return 401, b'{"code":"PGRST301","message":"canary: JWSError"}'
        self.signed_in.add(claims["role"])
        return 200, b"[]"


async def answered(send: Callable[[Message], Any], status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [JSON_KIND]})
    await send({"type": "http.response.body", "body": body})


def keyed(
    model: str = "scripted-tutor", status: int = 0, body: bytes = b"", listing: int = 200
) -> Callable[[AsgiApp], AsgiApp]:
    """Return what stands before a model: it wants the key and has one model; with a status it answers that alone.

    `listing` is the status of the list of models alone.
    """

    def around(app: AsgiApp) -> AsgiApp:
        async def serve(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            bearer = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
            if scope["type"] == "http" and status:
                await answered(send, status, body)
            elif scope["type"] == "http" and bearer != f"Bearer {MODEL_KEY}":
                await answered(send, 401, b'{"error":{"code":"invalid_api_key","message":"canary"}}')
            elif scope["type"] == "http" and scope["path"] == "/v1/models":
                await answered(send, listing, b'{"data":[{"id":"%s"}]}' % model.encode())
            else:
                await app(scope, receive, send)

        return serve

    return around


@dataclass
class Clinic:
    """A project and a model, and who looks at them; `settings` are the server's."""

    folder: Path
    gateway: Gateway
    settings: dict[str, str]
    monkeypatch: pytest.MonkeyPatch

    def found(self, anon_key: str | None = None, **changes: str) -> dict[str, Finding]:
        """Return what the doctor finds, by check; of several of one check the first."""
        return {finding.check: finding for finding in reversed(self.found_all(anon_key, **changes))}

    def found_all(self, anon_key: str | None = None, **changes: str) -> list[Finding]:
        """Return all that the doctor finds, where settings are as given."""
        with self.as_environment(changes):
            return trio.run(examine, load_settings(), anon_key)

    @contextmanager
    def as_environment(self, changes: Mapping[str, str]) -> Iterator[pytest.MonkeyPatch]:
        """Have the settings, with changes, as this process's environment."""
        with self.monkeypatch.context() as here:
            here.chdir(self.folder)  # where no `.env` of a developer's lies
            for name in [name for name in os.environ if name.startswith(("OTEL_", "SUPABASE_", "OPENAI_"))]:
                here.delenv(name)
            for name, value in (self.settings | dict(changes)).items():
                here.setenv(name, value)
            yield here


def schema_without(folder: Path, *pieces: tuple[str, str]) -> list[Path]:
    """Return the embedded database's schema with pieces of it replaced: an older deployment's."""
    text = SHIPPED_SCHEMA[0].read_text("utf-8")
    for piece, instead in pieces:
        assert piece in text
        text = text.replace(piece, instead)
    (folder / "001_older.sql").write_text(text, "utf-8")
    return [folder / "001_older.sql"]


@contextmanager
def project_of(
    folder: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, schema: list[Path] | None = None
) -> Iterator[Neighbour]:
    """Serve a project behind a gateway, which has a clock of its own."""
    monkeypatch.setattr(Config, "include_date_header", False)
    with database_host(folder / "project.sqlite3", gateway.before, schema or list(SHIPPED_SCHEMA)) as host:
        yield host


@contextmanager
def clinic(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    gateway: Gateway | None = None,
    *,
    schema: list[Path] | None = None,
    **changes: str,
) -> Iterator[Clinic]:
    """Serve a project and a model, for a doctor to look at."""
    gateway = gateway or Gateway()
    with project_of(folder, gateway, monkeypatch, schema) as database, model_host(keyed()) as model:
        settings: Mapping[str, str] = {
            "DATA_DIR": str(folder / "data"),
            "SUPABASE_URL": database.url,
            "SUPABASE_KEY": KEY,
            "SUPABASE_MAX_CONNECTIONS": "4",
            "TELEMETRY_HASH_KEY": "canary-hash-key",
            "OPENAI_BASE_URL": f"{model.url}/v1",
            "OPENAI_API_KEY": MODEL_KEY,
            "OPENAI_MODEL": "scripted-tutor",
            **changes,
        }
        yield Clinic(folder, gateway, dict(settings), monkeypatch)
