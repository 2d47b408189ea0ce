"""A conversation and its newest messages, in one request, with what is still on its way to the database.

Read your own writes: rows that wait in this process's outbox are looked at before the request is sent. Whatever is
delivered meanwhile is then in both and counts once; the other way round it could be in neither.

A conversation that was deleted keeps its id, and what waits for it is delivered into it, where nobody sees it. The next
one of its page has the next of the page's ids. Which that is, is asked only where it matters: of a page that has no
conversation, or not the one for which rows wait.

A conversation that was to be made when its page had got another one has lost to that, and its id leads there. But only
as long as nothing is stored under it: where the winner was deleted, the page's next one may be made with that very id.
"""

import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final, Protocol

from app.clients.ports import ConversationHeads, Database, LogRow
from app.errors import CallerFault
from app.standing import goes_over
from app.turn import TURN_IDS, Conversation, StoredMessage, TurnRequest
from telemetry import names
from telemetry.turn_trace import TurnTrace

ASKED_AT_ONCE: Final = 20
"""Of a page's ids, when the first that is free is looked for: a URL of some 900 characters."""


class OnTheWay(Protocol):
    """What the history asks of an outbox (`outbox_file.Outbox` is one)."""

    def undelivered(self, user_id: str) -> Sequence[LogRow]:
        """Return the user's rows that the database may not have yet, under the ids of conversations that stand."""

    def resolve(self, conversation_id: uuid.UUID) -> uuid.UUID:
        """Return the id of the conversation to which one lost the race for its page; any other's own.

        It says nothing of a conversation that is stored: that one stands under its own id.
        """


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
            CallerFault: `not_found`: the conversation that was named is not this user's, or was deleted.
            DatabaseFault: it could not be read.
        """
        waiting = self._outbox.undelivered(wanted.user_id) if self._outbox else ()
        joined = await self.joined(*await as_it_stands(self._outbox, wanted, self._stored), waiting)
        if joined is None and wanted.or_page:
            of_page = replace(wanted, conversation_id=None)
            joined = await self.joined(of_page, await self._stored(of_page), waiting)
        if joined is None:
            raise CallerFault("not_found", stage=names.DB_FETCH)
        return merged(*joined, wanted.newest)

    async def joined(
        self, wanted: Wanted, stored: Conversation | None, waiting: Sequence[LogRow]
    ) -> tuple[Conversation, Sequence[LogRow]] | None:
        """Return a conversation and those of the user's rows that are on their way to it; None where there is none.

        Args:
            wanted: which; the page's is always there, to be made if need be.
            stored: as the database has it; `as_it_stands` finds both.
            waiting: what was on its way before the database was asked.
        """
        if wanted.conversation_id is None:
            return await self._of_page(wanted, stored, waiting)
        named = wanted.conversation_id
        rows = self._rows_of({named}, waiting)
        if stored is not None:
            return stored, rows
        if not rows or await self._is_deleted(wanted.user_id, named):
            return None
        # Only for its own page may a conversation be made: of another page's, a row that waits knows that one.
        return Conversation(id=named, is_stored=False, is_new=named == await self._next_id(wanted)), rows

    async def _stored(self, wanted: Wanted) -> Conversation | None:
        if wanted.conversation_id is None:
            return await self._database.conversation_for_page(wanted.user_id, wanted.page_id, wanted.newest)
        return await self._database.conversation(wanted.user_id, wanted.conversation_id, wanted.newest)

    async def _of_page(
        self, wanted: Wanted, stored: Conversation | None, waiting: Sequence[LogRow]
    ) -> tuple[Conversation, Sequence[LogRow]]:
        if stored is not None and not waits_elsewhere(wanted.page_id, stored.id, waiting):
            return stored, self._rows_of({stored.id}, waiting)
        made_as = await self._next_id(wanted)
        if stored is None:
            return Conversation(id=made_as, is_stored=False, is_new=True), self._rows_of({made_as}, waiting)
        return replace(stored, waits_as=made_as), self._rows_of({stored.id, made_as}, waiting)

    async def _next_id(self, wanted: Wanted) -> uuid.UUID:
        return await next_id(self._database, self._outbox, wanted.user_id, wanted.page_id)

    async def _is_deleted(self, user_id: str, id_: uuid.UUID) -> bool:
        return any(not head.is_active for head in await self._database.heads_of(user_id, [id_]))

    def _rows_of(self, ids: Collection[uuid.UUID], rows: Sequence[LogRow]) -> list[LogRow]:
        """Return the rows of conversations, also of one that lost its page while the database was asked."""
        return [row for row in rows if {row.conversation_id, resolved(self._outbox, row.conversation_id)} & {*ids}]


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


def waits_elsewhere(page_id: str, id_: uuid.UUID, rows: Sequence[LogRow]) -> bool:
    """Return whether rows of a page wait for another conversation than the one that it has."""
    return any(row.page == page_id and row.conversation_id != id_ for row in rows)


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


def conversation_id(user_id: str, page_id: str, number: int = 1) -> uuid.UUID:
    """Return the id of a user's new conversation for a page: the same on every replica, so racers agree.

    `number` counts the conversations that the page has had: those that were deleted keep their ids.
    """
    first = uuid.uuid5(TURN_IDS, f"{len(user_id)}:{user_id}:{page_id}")
    return first if number == 1 else uuid.uuid5(first, str(number))


async def next_id(heads: ConversationHeads, outbox: OnTheWay | None, user_id: str, page_id: str) -> uuid.UUID:
    """Return the id with which a page's conversation is made, and under which its rows wait if another is found there.

    It is the first of the page's ids that no deleted conversation has: one request, unless very many were deleted.
    """
    for start in count(1, ASKED_AT_ONCE):
        numbers = range(start, start + ASKED_AT_ONCE)
        ids = [resolved(outbox, conversation_id(user_id, page_id, number)) for number in numbers]
        taken = {head.id for head in await heads.heads_of(user_id, ids) if head.page_id != page_id}
        if free := [id_ for id_ in ids if id_ not in taken]:
            return free[0]
    raise AssertionError("they are endless")


def resolved(outbox: OnTheWay | None, id_: uuid.UUID) -> uuid.UUID:
    """Return the id under which a conversation that is not stored stands, as far as an outbox knows."""
    return outbox.resolve(id_) if outbox else id_


async def as_it_stands(
    outbox: OnTheWay | None, wanted: Wanted, read: Callable[[Wanted], Awaitable[Conversation | None]]
) -> tuple[Wanted, Conversation | None]:
    """Return what is wanted and what `read` finds of it; for an id that is not stored and has lost, of the winner."""
    stored, named = await read(wanted), wanted.conversation_id
    if stored is None and named is not None and (standing := resolved(outbox, named)) != named:
        wanted = replace(wanted, conversation_id=standing)
        stored = await read(wanted)
    return wanted, stored


def admission_time(now_ns: int, conversation: Conversation) -> datetime:
    """Return when the turn was admitted: now, but later than every message that was seen, whatever its writer's clock.

    Args:
        now_ns: nanoseconds since the epoch.
        conversation: with its newest messages.
    """
    now = datetime.fromtimestamp(now_ns // 1000 / 1e6, UTC)
    return max([now, *(message.created_at + timedelta(milliseconds=1) for message in conversation.messages)])
