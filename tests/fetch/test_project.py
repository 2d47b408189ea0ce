"""Which project a turn is about: named by the request, or by the page it was sent from."""

import pytest
from trio.testing import MockClock

from app.errors import CallerFault, DatabaseFault
from app.fetch.project import ProjectFetch, is_memo_page, names_project
from app.turn import Project, TurnRequest
from tests.standins import TRACE_ID, MemoryDatabase, failing, question, watched

RIVERS = Project(id=7, theme="rivers")


class AskedDatabase(MemoryDatabase):
    """Remembers how it was asked for a project; has one, whoever asks."""

    def __init__(self, found: Project | None = RIVERS) -> None:
        super().__init__()
        self.found = found
        self.asked: list[tuple[str, ...]] = []

    async def project(self, user_id: str, project_id: str) -> Project | None:
        await self.before_project()
        self.asked.append(("project", user_id, project_id))
        return self.found

    async def project_of_memo(self, user_id: str, memo_id: str) -> Project | None:
        self.asked.append(("memo", user_id, memo_id))
        return self.found

    async def latest_project(self, user_id: str) -> Project | None:
        self.asked.append(("latest", user_id))
        return self.found


async def fetch(database: MemoryDatabase, turn: TurnRequest) -> Project | None:
    seen = watched()
    with seen.telemetry.turn(turn_id=str(turn.turn_id), user_id="u1", trace_id=TRACE_ID, surface="chat") as trace:
        found = await ProjectFetch(database)(turn, trace)
    assert "fetch.project" in seen.spans.names()
    return found


PAGES = [
    ("general", []),
    ("", []),
    ("project", []),
    ("Project-12", []),
    ("my-project-12", []),
    ("project-12", [("project", "u1", "12")]),
    ("project-", [("project", "u1", "")]),
    ("project-0b5c7f2e-3f0e-4a53-9d3c-000000000001", [("project", "u1", "0b5c7f2e-3f0e-4a53-9d3c-000000000001")]),
    ("project-'; drop table users", [("project", "u1", "'; drop table users")]),
    ("12", [("memo", "u1", "12")]),
    ("007", [("memo", "u1", "007")]),
    ("9" * 18, [("memo", "u1", "9" * 18)]),
    ("9" * 19, []),
    ("１２", []),
    ("²", []),
    ("-12", []),
    ("1.5", []),
    ("conversation-agent-test", [("latest", "u1")]),
    ("conversation-agent-test2", []),
]


@pytest.mark.parametrize(("page", "asked"), PAGES)
async def test_the_page_decides_which_project_is_looked_up(
    page: str, asked: list[tuple[str, ...]], autojump_clock: MockClock
) -> None:
    """`project-<id>` names it, digits are a memo, one test page takes the latest, and any other page has none."""
    database = AskedDatabase()
    turn = question(page_id=page)
    assert await fetch(database, turn) == (RIVERS if asked else None)
    assert database.asked == asked
    assert names_project(turn) is bool(asked)


@pytest.mark.parametrize("page", ["general", "project-12", "12", "conversation-agent-test"])
async def test_a_project_that_the_request_names_wins(page: str, autojump_clock: MockClock) -> None:
    """Whatever the page says, the request's own project is looked up, and nothing else."""
    database = AskedDatabase()
    turn = question(page_id=page, project_id="7")
    assert await fetch(database, turn) == RIVERS
    assert database.asked == [("project", "u1", "7")]
    assert names_project(turn)


async def test_an_unknown_project_that_was_named_is_404(autojump_clock: MockClock) -> None:
    """The caller said which project: not having it, or having someone else's, is `not_found`."""
    with pytest.raises(CallerFault) as caught:
        await fetch(AskedDatabase(found=None), question(project_id="7"))
    assert (caught.value.code, caught.value.kind.status, caught.value.stage) == ("not_found", 404, "db_fetch")


@pytest.mark.parametrize("page", ["project-12", "12", "conversation-agent-test"])
async def test_a_page_that_names_none_of_the_users_means_no_context(page: str, autojump_clock: MockClock) -> None:
    """The page only hints at a project, so there is none, and no error."""
    assert await fetch(AskedDatabase(found=None), question(page_id=page)) is None


async def test_a_database_that_fails_is_passed_on(autojump_clock: MockClock) -> None:
    """Whether to go on without the project is not decided here."""
    database = AskedDatabase()
    database.before_project = failing(DatabaseFault("database_unavailable", error_type="ConnectError"))
    with pytest.raises(DatabaseFault):
        await fetch(database, question(page_id="project-1"))


@pytest.mark.parametrize(
    ("page", "is_memo"), [("1", True), ("", False), ("1 ", False), ("１", False), ("9" * 19, False)]
)
def test_a_memo_page_is_a_number_that_can_be_an_id(page: str, is_memo: bool) -> None:
    """ASCII digits that a bigint holds; the digits of other scripts are no number to the database."""
    assert is_memo_page(page) is is_memo
