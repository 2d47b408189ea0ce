"""Two processes answer one question: what either promised is kept, in whatever order it comes to the database.

The crash runs meet this once in hundreds of seeds; here each step waits for the one before it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.to_thread import run_sync

from tests.crash.asking import Question, received
from tests.crash.left_over import set_aside
from tests.crash.plan import ClientPlan
from tests.crash.posting import post_json
from tests.crash.servers import Server, until_delivered, warm
from tests.crash.verdict import Asked, Received, Row, verdict
from tests.server.answering import AnsweringModel, answering_model, whole
from tests.server.faulty_database import FaultyDatabase, open_faulty_database
from tests.server.outbox_town import KEYS, NO_WRITES, WELL
from tests.server.process import WAIT_S, until
from tests.server.rows import stored

ASKER = ClientPlan(name="a", user_id="demo", pages=("notes",), pause_s=0, repeats=True)
QUESTION = Question(client=ASKER, number=0, page="notes", text="Why?")


@dataclass(slots=True)
class Places:
    """Where two servers run, each in a folder of its own, on one database; the nth to be asked gives answer n."""

    folder: Path
    database: FaultyDatabase
    model: AnsweringModel
    http: httpx.AsyncClient
    servers: list[Server]

    def place(self, **settings: str) -> Server:
        """Return a place for a server, which is still to be started."""
        number = len(self.servers)
        folder = self.folder / f"server-{number}"
        folder.mkdir()
        hosts = {"SUPABASE_URL": self.database.url, "OPENAI_BASE_URL": self.model.url}
        self.servers.append(Server(number, folder, warm, **hosts, **KEYS, **settings))
        return self.servers[-1]

    async def ask(self, server: Server) -> Received:
        """Ask a server the one question, under its key."""
        response = await post_json(self.http, server.url + QUESTION.path, QUESTION.body, **QUESTION.headers)
        assert response.status_code == 200, response.text
        answer = received(QUESTION, response.text)
        assert answer is not None
        return answer

    async def delivers(self, server: Server) -> list[dict[str, Any]]:
        """Wait until nothing waits in a server's outbox, and return what ops then tell to be in there."""
        await until_delivered(self.http, server.url)
        entries: list[dict[str, Any]] = (await self.http.get(f"{server.url}/ops/outbox")).json()["entries"]
        return entries

    def rows(self) -> list[Row]:
        """Return what is stored, in the order in which it is read."""
        return [Row.of(row) for row in stored(self.folder)]

    def stands(self, answer: Received, *, asked_before: datetime) -> None:
        """Check that the question, as it was asked before a time, and this answer are stored, and nothing else."""
        question, stands = self.rows()
        assert (question.message, question.created_at < asked_before) == (QUESTION.text, True)
        assert (stands.turn_id, stands.message, stands.finish) == (answer.turn_id, answer.text, "stop")

    async def keeps(self, *answers: Received) -> list[str]:
        """Kill all, check that each answer is where it was promised to be, and return what is set aside."""
        for server in self.servers:
            server.kill()
            await server.ended()
        aside = [row for server in self.servers for row in set_aside(self.folder / f"server-{server.number}")]
        asked = [
            Asked(
                client=f"a{number}", number=0, user_id=ASKER.user_id, page=QUESTION.page, question=QUESTION.text,
                repeats=True, received=answer,
            )
            for number, answer in enumerate(answers)
        ]  # fmt: skip
        assert verdict(asked, self.rows(), aside) == ()
        return [row.message for row in aside]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Places]:
    async with (
        open_faulty_database(folder / "supabase.sqlite3") as database,
        httpx.AsyncClient(timeout=WAIT_S, trust_env=False, verify=False) as http,
    ):
        with answering_model() as model:
            places = Places(folder, database, model, http, [])
            try:
                yield places
            finally:
                with trio.move_on_after(WAIT_S, shield=True):
                    for server in places.servers:
                        server.kill()
                        await server.ended()


@pytest.mark.parametrize("first", [0, 1])
async def test_both_promise_while_the_database_is_away(tmp_path: Path, first: int) -> None:
    """Whoever delivers first has the place; the other's answer is set aside, though its process was killed meanwhile.

    The question stands at the time at which it was asked first, and is answered with what is stored from then on.
    """
    async with opened(tmp_path) as places:
        servers = [places.place(), places.place()]
        for server in servers:
            await server.start()
        await places.database.become(NO_WRITES)
        answers = [await places.ask(servers[0])]
        between = datetime.now(UTC)
        answers.append(await places.ask(servers[1]))
        assert [(answer.text, answer.saved) for answer in answers] == [
            (whole(QUESTION.text, number), "outbox") for number in (1, 2)
        ]
        assert answers[0].turn_id == answers[1].turn_id
        second = servers[1 - first]
        second.kill()
        await second.ended()
        await places.database.become(WELL)
        assert await places.delivers(servers[first]) == []
        assert [row.message for row in places.rows()] == [QUESTION.text, answers[first].text]
        await second.start()
        (entry,) = await places.delivers(second)
        assert (entry["turn_id"], entry["sender"]) == (answers[0].turn_id, "assistant")
        assert (entry["state"], entry["reason"]) == ("set_aside", "superseded")
        for server in servers:
            again = await places.ask(server)
            assert (again.text, again.saved, again.replayed) == (answers[first].text, "database", True)
        places.stands(answers[first], asked_before=between)
        assert await places.keeps(*answers) == [answers[1 - first].text]


@pytest.mark.parametrize(("mode", "saved"), [("await", "no"), ("outbox", "outbox")])
async def test_an_answer_is_not_older_than_its_question(tmp_path: Path, mode: str, saved: str) -> None:
    """The question of a later request is stored first, then the turn of the earlier one is delivered."""
    async with opened(tmp_path) as places:
        one, two = places.place(), places.place(SAVE_MODE=mode)
        await one.start()
        await two.start()
        await places.database.become(NO_WRITES)
        earlier, answered = await places.ask(one), datetime.now(UTC)
        assert earlier.saved == "outbox"
        one.kill()
        await one.ended()
        await places.database.become(WELL)
        places.model.holds.add((QUESTION.text, 2))
        told: list[Received] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_append, told, places.ask, two)
            await run_sync(places.model.wait_for, QUESTION.text, 2)
            await run_sync(until, lambda: bool(places.rows()), "the later question is stored")
            assert places.rows()[0].created_at > answered
            await one.start()
            assert await places.delivers(one) == []
            places.stands(earlier, asked_before=answered)
            await run_sync(places.model.let_go, QUESTION.text, 2)
        (later,) = told
        assert (later.text, later.saved) == (whole(QUESTION.text, 2), saved)
        await places.delivers(two)
        places.stands(earlier, asked_before=answered)
        assert await places.keeps(earlier, later) == [later.text] * (saved == "outbox")


async def _append(told: list[Received], ask: Callable[[Server], Awaitable[Received]], server: Server) -> None:
    told.append(await ask(server))
