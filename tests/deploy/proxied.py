"""Two processes of the server behind the proxies of deploy/, which are the real ones, with the real files."""

import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx

from app.receive.auth.tokens import TokenRules, mint
from tests.needs import need_program
from tests.server.holding import HALF, Holding, question_of
from tests.server.neighbours import database_host, model_host
from tests.server.process import AT_ONCE, PROJECT_ROOT, WAIT_S, ServerProcess, until
from tests.server.streaming import Open

FOLDER = PROJECT_ROOT / "deploy"
SECRET = "a-secret-of-32-bytes-or-more-for-tests"
FAILURES_MAX = 3
ORIGIN = "https://school.example"
PLACES = ("127.0.0.1:8001", "127.0.0.1:8002")
"""Where both files expect the processes."""
Kind = Literal["nginx", "caddy"]
KINDS: tuple[Kind, ...] = ("nginx", "caddy")
DRAIN_GRACE: dict[Kind, str] = {"nginx": "0", "caddy": "5"}
"""As the files say."""


@dataclass(kw_only=True)
class Pair:
    """Two processes on one database and one model, which can be held, and the proxy at `http`."""

    kind: Kind
    settings: dict[str, str]
    folder: Path
    held: Holding
    servers: list[ServerProcess] = field(default_factory=list)
    http: httpx.Client = field(default_factory=httpx.Client)

    def post(self, chat: str | None, message: str, **fields: Any) -> httpx.Response:
        """Ask on the page `chat`, which the request names as a front end does."""
        body = {"message": message, "page_id": chat or "general", **fields}
        return self.http.post("/chat", json=body, headers=self.headers(chat))

    def get(self, path: str) -> httpx.Response:
        """Return what the user gets from an address; no header names a chat."""
        return self.http.get(path, headers=self.headers(None))

    def stop(self, path: str) -> bool:
        """Stop a chat's turn, as `post` without a header would."""
        return bool(self.http.post(path, headers=self.headers(None)).json()["stopped"])

    @contextmanager
    def opened(self, chat: str, message: str, **fields: Any) -> Iterator[Open]:
        """Open a stream; leaving the block before its end is a client that leaves."""
        body = {"message": message, "page_id": chat, **fields}
        with self.http.stream("POST", "/chat/stream", json=body, headers=self.headers(chat)) as response:
            assert response.status_code == 200, response.read()
            yield Open(response)

    def headers(self, chat: str | None) -> dict[str, str]:
        """Return the headers of the demo user."""
        rules = TokenRules(audience="authenticated", issuer=f"{self.settings['SUPABASE_URL']}/auth/v1")
        token = mint("demo", SECRET, rules, now=time.time(), valid_s=3600)
        named = {} if chat is None else {"x-chat-id": quote(chat, safe="")}
        return {"authorization": f"Bearer {token}", **named}

    def home(self, chat: str) -> int:
        """Return which process a conversation goes to."""
        return self.home_of(self.post(chat, f"Hello {AT_ONCE}"))

    def home_of(self, answer: httpx.Response) -> int:
        """Return which process has answered."""
        assert answer.status_code == 200, answer.text
        return self.number_of(answer.json()["trace_id"])

    def number_of(self, trace_id: str) -> int:
        """Return which process had a turn that is over."""
        found: list[int] = []

        def told() -> bool:
            found[:] = [n for n, server in enumerate(self.servers) if server.lines("turn.finished", trace_id=trace_id)]
            return bool(found)

        until(told, "one of them says that the turn is over")
        (number,) = found
        return number

    def chat_of(self, number: int, name: str) -> str:
        """Return the first of some conversations that goes to that process."""
        return next(chat for chat in (f"{name}-{n}" for n in range(64)) if self.home(chat) == number)

    def close(self) -> None:
        """End both at once: what they still have to do is no matter."""
        for server in self.servers:
            server.process.kill()
            server.process.wait()
            server.close()

    def begin_again(self, number: int) -> None:
        """Start a process that has ended, at the address that it had."""
        host, port = self.servers[number].address
        self.servers[number].close()
        self.servers[number] = started(self.folder / f"data{number}", self.settings | {"BIND": f"{host}:{port}"})
        self.servers[number].learn_address()


def started(data_dir: Path, settings: dict[str, str]) -> ServerProcess:
    """Start a process; whoever started it closes it."""
    return ServerProcess(data_dir, **settings)


@contextmanager
def pair(kind: Kind, folder: Path) -> Iterator[Pair]:
    """Run two processes and the proxy before them."""
    held = Holding(question_of, after=HALF)
    with database_host(folder / "supabase.sqlite3") as database, model_host(held.around) as model, ExitStack() as open_:
        settings = {
            "SUPABASE_URL": database.url, "SUPABASE_KEY": "service-key", "SUPABASE_JWT_SECRET": SECRET,
            "OPENAI_BASE_URL": f"{model.url}/v1", "TRUSTED_PROXIES": "127.0.0.1",
            "AUTH_FAILURES_MAX": str(FAILURES_MAX), "AUTH_FAILURES_WINDOW_SEC": "3600",
            "DRAIN_GRACE": DRAIN_GRACE[kind], "CORS_ALLOW_ORIGINS": ORIGIN,
        }  # fmt: skip
        both = Pair(kind=kind, settings=settings, folder=folder, held=held)
        open_.callback(both.close)
        both.servers += [started(folder / f"data{n}", settings) for n in range(2)]
        for server in both.servers:
            server.learn_address()
            until(lambda: server.http.get("/readyz").status_code == 200, "it is ready")  # noqa: B023 - called here
        addresses = [urlsplit(server.url).netloc for server in both.servers]
        url = open_.enter_context(proxy(kind, addresses))
        both.http = open_.enter_context(httpx.Client(base_url=url, timeout=WAIT_S, trust_env=False))
        yield both


@contextmanager
def proxy(kind: Kind, addresses: list[str]) -> Iterator[str]:
    """Run a proxy before servers, as somebody who may do nothing, and return its URL."""
    with tempfile.TemporaryDirectory() as text:
        folder, port = Path(text), free_port()
        folder.chmod(0o777)
        command = COMMANDS[kind](folder, port, addresses)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(folder), **unprivileged())
        try:
            until(lambda: listens(port) or process.poll() is not None, f"{kind} listens")
            assert process.poll() is None, (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(WAIT_S)


def nginx_command(folder: Path, port: int, addresses: list[str]) -> list[str]:
    """Write nginx.conf for this machine, and return what runs it."""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    here = {"http {": f"http {{ {temporary}", "listen 80;": f"listen 127.0.0.1:{port};"}
    file = _written(folder / "nginx.conf", "nginx.conf", here, addresses)
    program = need_program("nginx", "apt-get install nginx-light", "/usr/sbin")
    return [program, "-e", "stderr", "-c", str(file), "-p", str(folder), "-g", f"daemon off; pid {folder}/pid;"]


def caddy_command(folder: Path, port: int, addresses: list[str]) -> list[str]:
    """Write the Caddyfile for this machine, and return what runs it."""
    options = "{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}\n"
    here = {"chat.example.org {": f"http://127.0.0.1:{port} {{"}
    file = _written(folder / "Caddyfile", "Caddyfile", here, addresses, first=options)
    return [caddy(), "run", "--config", str(file), "--adapter", "caddyfile"]


def caddy() -> str:
    """Return the path of the program."""
    return need_program("caddy", "apt-get install caddy")


COMMANDS: dict[Kind, Callable[[Path, int, list[str]], list[str]]] = {"nginx": nginx_command, "caddy": caddy_command}


def _written(file: Path, name: str, here: dict[str, str], addresses: list[str], first: str = "") -> Path:
    text = (FOLDER / name).read_text("utf-8")
    for there, instead in [*here.items(), *zip(PLACES, addresses, strict=True)]:
        assert text.count(there) == 1, there
        text = text.replace(there, instead)
    file.write_text(first + text)
    return file


def _environment(folder: Path) -> dict[str, str]:
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return {"PATH": os.environ["PATH"], **own}


def unprivileged() -> dict[str, Any]:
    """Arguments of `subprocess`: as somebody who owns nothing, where we may choose."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def listens(port: int) -> bool:
    """Return whether anybody listens on a port of this machine."""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def raw_answer(url: str, method: str, path: str, body: bytes = b"") -> httpx.Response:
    """Return what a path gives that is sent as it stands, which no proper client would do."""
    place = urlsplit(url)
    head = f"{method} {path} HTTP/1.1\r\nhost: {place.netloc}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection((place.hostname, place.port), WAIT_S) as connection:
        connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    status = re.match(rb"HTTP/1\.[01] (\d{3})", received)
    assert status, received
    return httpx.Response(int(status[1]), content=received.partition(b"\r\n\r\n")[2])


def is_ours(response: httpx.Response) -> bool:
    """Return whether a server of ours gave a refusal, and not a proxy."""
    try:
        return str(response.json()["type"]).startswith("urn:nursery-chat:problem:")
    except (json.JSONDecodeError, KeyError, TypeError):
        return False
