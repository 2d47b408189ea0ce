"""The turn's conversation and its newest messages, in one request."""

import uuid
from datetime import UTC, datetime, timedelta

from app.clients.ports import Database
from app.errors import CallerFault
from app.turn import TURN_IDS, Conversation, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace

LONG_MESSAGE_CHARS = 500
"""A message longer than this gets the longer history."""


class HistoryFetch:
    """Reads the newest `newest` messages, or `newest_for_long` when the message is a long one."""

    def __init__(self, database: Database, *, newest: int, newest_for_long: int) -> None:
        self._database = database
        self._newest = newest
        self._newest_for_long = newest_for_long

    async def __call__(self, request: TurnRequest, trace: TurnTrace) -> Conversation:
        """Return the conversation; one that does not exist yet has the id it will be made with.

        Raises:
            CallerFault: `not_found`: the conversation that was named is not this user's.
            DatabaseFault: it could not be read.
        """
        newest = self._newest_for_long if len(request.message) > LONG_MESSAGE_CHARS else self._newest
        newest = request.newest or newest
        with trace.stage(names.FETCH_CONVERSATION):
            if request.conversation_id is not None:
                found = await self._database.conversation(request.user_id, request.conversation_id, newest)
                if found is None:
                    raise CallerFault("not_found", stage=names.DB_FETCH)
                return found
            found = await self._database.conversation_for_page(request.user_id, request.page_id, newest)
        return found or Conversation(id=conversation_id(request.user_id, request.page_id), is_new=True)


def conversation_id(user_id: str, page_id: str) -> uuid.UUID:
    """Return the id of a user's new conversation for a page: the same on every replica, so racers agree."""
    return uuid.uuid5(TURN_IDS, f"{len(user_id)}:{user_id}:{page_id}")


def admission_time(now_ns: int, conversation: Conversation) -> datetime:
    """Return when the turn was admitted: now, but later than every message that was seen, whatever its writer's clock.

    Args:
        now_ns: nanoseconds since the epoch.
        conversation: with its newest messages.
    """
    now = datetime.fromtimestamp(now_ns // 1000 / 1e6, UTC)
    return max([now, *(message.created_at + timedelta(milliseconds=1) for message in conversation.messages)])
