"""The student's project: named by the request, or found from the page it was sent from."""

from app.clients.ports import Database
from app.errors import CallerFault
from app.turn import Project, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace

PROJECT_PAGE = "project-"
LATEST_PROJECT_PAGE = "conversation-agent-test"
MAX_ID_DIGITS = 18
"""What a bigint surely holds; a longer number names nothing."""


class ProjectFetch:
    """Looks the project up; a page that names none of the user's just means no context."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, request: TurnRequest, trace: TurnTrace) -> Project | None:
        """Return the turn's project, or None.

        Raises:
            CallerFault: `not_found`: the request named a project that is not this user's.
            DatabaseFault: it could not be read.
        """
        with trace.stage(names.FETCH_PROJECT):
            if request.project_id is None:
                return await self._of_page(request.user_id, _page(request))
            project = await self._database.project(request.user_id, request.project_id)
            if project is None:
                raise CallerFault("not_found", stage=names.DB_FETCH)
            return project

    async def _of_page(self, user_id: str, page_id: str) -> Project | None:
        if page_id.startswith(PROJECT_PAGE):
            return await self._database.project(user_id, page_id.removeprefix(PROJECT_PAGE))
        if is_memo_page(page_id):
            return await self._database.project_of_memo(user_id, page_id)
        if page_id == LATEST_PROJECT_PAGE:
            return await self._database.latest_project(user_id)
        return None


def names_project(request: TurnRequest) -> bool:
    """Return whether there is a project to be looked up."""
    page = _page(request)
    return (
        request.project_id is not None
        or page.startswith(PROJECT_PAGE)
        or page == LATEST_PROJECT_PAGE
        or is_memo_page(page)
    )


def _page(request: TurnRequest) -> str:
    return request.page_id if request.project_page is None else request.project_page


def is_memo_page(page_id: str) -> bool:
    """Return whether the page is a memo: all digits, and a number that can be an id."""
    return page_id.isascii() and page_id.isdigit() and len(page_id) <= MAX_ID_DIGITS
