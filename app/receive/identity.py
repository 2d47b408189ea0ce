"""Who asks. `AUTH_MODE=dev`: the bearer token is the user's id; for one's own machine only."""

import math
import re
from typing import Protocol

from app.clients.ports import Database
from app.deadlines import stage_deadline
from app.errors import CallerFault
from app.receive.auth.remembered import Remembered
from telemetry import names

USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_KNOWN_USERS = 10_000


class Identity(Protocol):
    """Tells who sent a request."""

    async def user(self, authorization: str, *, from_here: bool) -> str:
        """Return the user's id.

        Args:
            authorization: the header of that name; empty when the request has none.
            from_here: whether the request was sent on this machine (app/loopback.py).

        Raises:
            CallerFault: `unauthenticated`.
        """

    async def admit(self, user_id: str) -> None:
        """See to it that the user is one of the database's; asked once the rest of the request is known to be right.

        Raises:
            CallerFault: `unauthenticated`: there is no such user.
            DatabaseFault, StageTimeout: that cannot be found out (in time).
        """


class DevIdentity:
    """`Bearer <user id>`, from this machine only.

    Args:
        database: knows the users.
        make_users: whether unknown users are made (the embedded database) or refused.
        timeout_s: seconds that the database may take.
    """

    def __init__(self, database: Database, *, make_users: bool, timeout_s: float = 5.0) -> None:
        self._database = database
        self._timeout_s = timeout_s
        self._make_users = make_users
        self._known: Remembered[str, bool] = Remembered(MAX_KNOWN_USERS)

    async def user(self, authorization: str, *, from_here: bool) -> str:
        """Return the bearer token's user."""
        if not from_here:
            raise CallerFault("unauthenticated", "AUTH_MODE=dev answers this machine only")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not USER_ID.fullmatch(token.strip()):
            raise CallerFault("unauthenticated")
        return token.strip()

    async def admit(self, user_id: str) -> None:
        """Look the user up, or make them; once."""
        if not self._known.get(user_id, 0.0):
            with stage_deadline(names.DB_FETCH, self._timeout_s):
                await self._look_up(user_id)
            self._known.put(user_id, True, math.inf)

    async def _look_up(self, user_id: str) -> None:
        if self._make_users:
            await self._database.ensure_user(user_id)
        elif not await self._database.user_exists(user_id):
            raise CallerFault("unauthenticated")
