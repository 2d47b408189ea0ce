"""Aiko, who has one of everything that has an id, and any number of Bens, who have next to nothing; see the test.

What Ben gets for an id of hers is compared with what he gets for one of nobody's, of the same form.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from app.clients.in_process import AsgiApp, Message
from tests.server.holding import HALF, Holding, question_of
from tests.server.id_places import Place
from tests.server.key_host import Auth, Project
from tests.server.neighbours import Neighbour, database_host, model_host
from tests.server.parts import metadata_of, parts_of, text_of
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, running
from tests.server.rows import stored

OPS = {"authorization": "Bearer of-the-operators"}
SECRET = "marmalade"
"""In every message, title and theme of Aiko's."""
PROJECT, MEMO, MEMO_PROJECT = 471_100_471_100, 815_100_815_100, 471_200_471_200
AT_A_TIME = 200
PATIENT = {"LLM_IDLE_TIMEOUT": "100", "LLM_TIMEOUT": "100", "TURN_TIMEOUT": "200"}
"""A turn that is held is held for as long as the test looks."""
OWNERS = {
    "users": "id", "projects": "user_id", "memos": "user_id", "chat_conversations": "user_id", "chat_logs": "user_id",
}  # fmt: skip
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
VARYING = ("x-request-id", "x-trace-id", "date", "server-timing", "content-length", "connection")
OF_THE_TURN = re.compile(r'("turn_id": "|_time": )[\w.-]+')
Ids = Mapping[str, Sequence[str]]
"""Ids by what they are of."""


@dataclass
class Mood:
    """What stands before the database: while `down`, it takes nothing from the server."""

    auth: Auth = field(default_factory=Auth)
    down: bool = False

    def before(self, app: AsgiApp) -> AsgiApp:
        async def serve(scope: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
            ours = b"apikey" in dict(scope.get("headers", ()))
            if not (self.down and ours) or scope["method"] == "GET":
                await app(scope, receive, send)
                return
            kind = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 500, "headers": kind})
            await send({"type": "http.response.body", "body": b'{"code":"XX000","message":"no"}'})

        return self.auth.before(serve)


@dataclass
class Town:
    """The server between its hosts, with its users."""

    server: ServerProcess
    project: Project
    model: Neighbour
    held: Holding
    mood: Mood
    folder: Path
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=WAIT_S, trust_env=False))
    _numbers: Iterator[int] = field(default_factory=count)
    _reader: tuple[str, str] | None = None
    _of_nobodys: dict[tuple[object, ...], dict[str, Any]] = field(default_factory=dict)

    def as_user(self, user: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.project.token(sub=user)}"}

    def close(self) -> None:
        self._http.close()

    def ask(self, user: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a user's request and return the response, whatever it is."""
        headers = self.as_user(user) | options.pop("headers", {})
        return self._http.request(method, self.server.url + path, headers=headers, **options)

    def aiko(self, method: str, path: str, **options: Any) -> Any:
        """Return what Aiko is answered, which is no error."""
        response = self.ask("aiko", method, path, **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def says(self, text: str, **fields: Any) -> dict[str, Any]:
        """Have Aiko say something, and return the answer."""
        headers = fields.pop("headers", {})
        body: dict[str, Any] = self.aiko("POST", "/chat", json={"message": her(text), **fields}, headers=headers)
        return body

    def ben(self) -> tuple[str, str]:
        """Return a Ben who has just come, and his one conversation."""
        number = next(self._numbers)
        if number % AT_A_TIME == 0:
            bens = range(number, number + AT_A_TIME)
            own = [{"id": own_of(n), "user_id": f"ben-{n}", "page_id": own_of(n), "title": "Ben's"} for n in bens]
            self._insert("users", [{"id": f"ben-{n}"} for n in bens])
            self._insert("chat_conversations", own)
        return f"ben-{number}", own_of(number)

    def _insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        self._http.post(f"{self.project.url}/rest/v1/{table}", json=rows).raise_for_status()

    def her_rows(self) -> list[str]:
        """Return all that the database's file holds of Aiko, value by value."""
        return [
            f"{table} {row}" for table, owner in OWNERS.items() for row in stored(self.folder, table, **{owner: "aiko"})
        ]

    def probe(self, place: Place, method: str, id_: str) -> httpx.Response:
        """Have a Ben send an id: a new one, where that may make something of his."""
        if self._reader is None:
            self._reader = self.ben()
        ben, own = self.ben() if method == "POST" and place.gives != (404,) else self._reader
        return self.ask(ben, method, place.url(id_, own), **place.send(id_))

    def told_of_nobodys(self, place: Place, method: str, like: str) -> dict[str, Any]:
        """Return what a Ben is told for an id of nobody's that has the form of another; each form is asked once."""
        form = UUID.sub("uuid", like) if UUID.search(like) else re.sub(r"\d+", "9", re.sub("[a-z]+-of-aiko", "x", like))
        known = (id(place), method, TIME.sub("t", form), self.mood.down and method not in ("GET", "HEAD"))
        if known not in self._of_nobodys:
            other = nobodys(like)
            self._of_nobodys[known] = told(self.probe(place, method, other), other)
        return self._of_nobodys[known]


def her(text: str) -> str:
    return f"{text} {SECRET} {AT_ONCE}"


@contextmanager
def town_in(folder: Path) -> Iterator[Town]:
    mood, held = Mood(), Holding(question_of, HALF)
    with database_host(folder / "supabase.sqlite3", mood.before) as database, model_host(held.around) as model:
        school = Project(mood.auth, database)
        school.insert("users", id="aiko", username=SECRET)
        for number, theme in ((PROJECT, SECRET), (MEMO_PROJECT, SECRET)):
            school.insert("projects", id=number, user_id="aiko", theme=theme, question=theme, hypothesis=theme)
        school.insert("memos", id=MEMO, user_id="aiko", project_id=MEMO_PROJECT, title=SECRET, content=SECRET)
        settings = {"OPENAI_BASE_URL": f"{model.url}/v1", "OPS_TOKEN": "of-the-operators", **school.settings, **PATIENT}
        with running(folder / "server", AUTH_MODE="supabase", **settings) as server:
            town = Town(server, school, model, held, mood, folder)
            with closing(town):
                yield town


def own_of(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"ben-{number}"))


def nobodys(id_: str) -> str:
    """Return an id of the same form that nobody has."""
    at, separator, behind = id_.rpartition("~")
    if UUID.search(behind):
        return at + separator + UUID.sub(lambda _: str(uuid.uuid4()), behind)
    return at + separator + re.sub(r"\d+", lambda found: f"9{found[0]}", behind.replace("aiko", "nobody"))


def told(response: httpx.Response, id_: str) -> dict[str, Any]:
    """Return what an answer says, with `id_` and all that is of this one request blotted out.

    Of an error, only its trace id is, and its own turn's id and times; what is said of one's own conversations and
    turns has ids and times of theirs.
    """
    headers = {name: text for name, text in response.headers.items() if name not in VARYING}
    body: Any
    if response.is_error or not response.content:
        body = OF_THE_TURN.sub("", response.text.replace(response.headers["x-trace-id"], ""))
        return {"status": response.status_code, **headers, "body": body}
    if "text/event-stream" in response.headers["content-type"]:
        parts = parts_of(response.text)
        body = {"text": text_of(parts), "warnings": metadata_of(parts)["warnings"]}
    elif "turn_id" in response.text and isinstance(response.json(), dict):
        kept = ("response", "context_metadata", "support_type", "history_count", "warnings", "saved", "error")
        body = {name: response.json().get(name) for name in kept}
    else:
        body = TIME.sub("time", UUID.sub("id", response.text.replace(f'"{id_}"', '"id"')))
    return {"status": response.status_code, "names": sorted(headers), "body": body}


def named(response: httpx.Response) -> set[str]:
    """Return the turns and conversations that an answer says are what it is about."""
    if "text/event-stream" in response.headers.get("content-type", ""):
        said = metadata_of(parts_of(response.text))
    elif response.is_success and response.content and isinstance(response.json(), dict):
        said = response.json()
    else:
        return set()
    return {str(said[name]) for name in ("id", "turn_id", "conversation_id") if name in said}
