"""A conversation and its newest messages, in one request, with what is still on its way to the database.

Read your own writes: rows that wait in this process's outbox are looked at before the request is sent. Whatever is
delivered meanwhile is then in both and counts once; the other way round it could be in neither.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from app.clients.ports import Database, LogRow
from app.errors import CallerFault
from app.standing import goes_over
from app.turn import TURN_IDS, Conversation, StoredMessage, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace


class OnTheWay(Protocol):
    """What the history asks of an outbox (`outbox_file.Outbox` is one)."""

    def undelivered(self, user_id: str) -> Sequence[LogRow]:
        """Return the user's rows that the database may not have yet, under the ids of conversations that stand."""

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        """Return the id under which a conversation stands that lost the race for its page; any other's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A user's conversation that is to be read, with its `newest` messages.

    It is the one of `conversation_id`, if one is named, else `page_id`'s. `or_page`: where the one that is named is
    none of the user's, the page's is meant.
    """

    user_id: str
    page_id: str
    newest: int
    conversation_id: uuid.UUID | None = None
    or_page: bool = False


class ConversationReader:
    """Reads conversations. `outbox` holds what is on its way to the database; None where there is none."""

    def __init__(self, database: Database, outbox: OnTheWay | None = None) -> None:
        self._database = database
        self._outbox = outbox

    async def __call__(self, wanted: Wanted) -> Conversation:
        """Return the conversation; one that does not exist yet has the id it will be made with.

        Raises:
            CallerFault: `not_found`: the conversation that was named is not this user's.
            DatabaseFault: it could not be read.
        """
        waiting = self._outbox.undelivered(wanted.user_id) if self._outbox else ()
        if wanted.conversation_id is not None:
            return await self._named(wanted, self._resolve(wanted.conversation_id), waiting)
        return await self._of_page(wanted, waiting)

    async def _named(self, wanted: Wanted, named: uuid.UUID, waiting: Sequence[LogRow]) -> Conversation:
        found = await self._database.conversation(wanted.user_id, named, wanted.newest)
        rows = _rows_of({named}, waiting)
        if found is None and not rows:
            if wanted.or_page:
                return await self._of_page(wanted, waiting)
            raise CallerFault("not_found", stage=names.DB_FETCH)
        # Only for its own page may a conversation be made: of another page's, a row that waits knows that one.
        new = Conversation(id=named, is_new=named == self._made_as(wanted))
        return merged(found or new, rows, wanted.newest)

    async def _of_page(self, wanted: Wanted, waiting: Sequence[LogRow]) -> Conversation:
        made_as = self._made_as(wanted)
        found = await self._database.conversation_for_page(wanted.user_id, wanted.page_id, wanted.newest)
        conversation = found or Conversation(id=made_as, is_new=True)
        return merged(conversation, _rows_of({conversation.id, made_as}, waiting), wanted.newest)

    def _made_as(self, wanted: Wanted) -> uuid.UUID:
        """Return the id under which the page's conversation is made, and its rows wait if another is found there."""
        return self._resolve(conversation_id(wanted.user_id, wanted.page_id))

    def _resolve(self, id_: uuid.UUID) -> uuid.UUID:
        return self._outbox.resolve(id_) if self._outbox else id_


class HistoryFetch:
    """Reads a turn's conversation: the `newest` messages, or `newest_for_long` when the message is a long one."""

    def __init__(self, conversations: ConversationReader, *, newest: int, newest_for_long: int) -> None:
        self._conversations = conversations
        self._newest = newest
        self._newest_for_long = newest_for_long

    async def __call__(self, request: TurnRequest, trace: TurnTrace) -> Conversation:
        """Return the conversation. Raises as `ConversationReader`."""
        newest = self._newest_for_long if request.is_long else self._newest
        with trace.stage(names.FETCH_CONVERSATION):
            return await self._conversations(
                Wanted(
                    user_id=request.user_id,
                    page_id=request.page_id,
                    newest=request.newest or newest,
                    conversation_id=request.conversation_id,
                    or_page=request.or_page,
                )
            )


def _rows_of(ids: Collection[uuid.UUID], rows: Sequence[LogRow]) -> list[LogRow]:
    return [row for row in rows if row.conversation_id in ids]


def merged(conversation: Conversation, rows: Sequence[LogRow], newest: int) -> Conversation:
    """Return the conversation with rows that are on their way to it: each message once, oldest first, `newest` of them.

    A whole answer counts before the one of its turn that was cut short.

    Args:
        conversation: as the database has it, with its newest messages.
        rows: of the conversation; any of them may be among its messages already.
        newest: how many messages are kept, 1 or more.
    """
    if not rows:
        return conversation
    places = {(row.turn_id, row.sender): place for place, row in enumerate(conversation.messages) if row.turn_id}
    messages = [*conversation.messages]
    for row in rows:
        place = places.get((str(row.turn_id), row.sender))
        if place is None:
            messages.append(message_of(row))
        elif goes_over(row, messages[place]):
            messages[place] = message_of(row)
    messages.sort(key=lambda message: message.created_at)
    return replace(conversation, messages=tuple(messages[-newest:]))


def message_of(row: LogRow) -> StoredMessage:
    """Return a row that is on its way as it will be read."""
    return StoredMessage(
        sender=row.sender,
        message=row.message,
        created_at=row.created_at,
        turn_id=str(row.turn_id),
        context_data=row.context_data,
    )


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
