"""A page of a conversation's messages: the newest, or those before a place, with what waits in the outbox among them.

The order is (time, id). What waits has no id yet; it stands behind everything that is stored with its very time, where
it will be once it is delivered. A page's `next_before` names that place, `<time>~<id>`, rather than a message: it stays
where it is even if the message is replaced. Of a message that waits it is `<turn id>:<sender>`, which leads to the same
message whether it still waits then or is delivered.

Rows that wait can take the place of stored ones, with another time: so as many more are read as rows wait, lest a page
end where rows between two others were not read.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from app.clients.ports import ConversationTable, LogRow
from app.conversations import Before, MessageName, MessagePage, Place, iso_time
from app.errors import CallerFault
from app.fetch.history import ConversationReader, OnTheWay, Wanted, as_it_stands, merged
from app.turn import Conversation, StoredMessage
from telemetry import names


class MessagePages:
    """Reads pages of messages. `outbox` holds what is on its way to the database; None where there is none."""

    def __init__(self, table: ConversationTable, reader: ConversationReader, outbox: OnTheWay | None = None) -> None:
        self._table = table
        self._reader = reader
        self._outbox = outbox

    async def __call__(self, wanted: Wanted, before: Before | None = None) -> MessagePage:
        """Return the page of `wanted.newest` messages that ends at `before`, or at the end of the conversation.

        Raises:
            CallerFault: `not_found`: the conversation that was named is not this user's, or `before` names a message
                that is none of it.
            DatabaseFault: it could not be read.
        """
        waiting = tuple(self._outbox.undelivered(wanted.user_id)) if self._outbox else ()
        more = wanted.newest + 1 + len(waiting)
        if before is None:
            found = await self._reader(replace(wanted, newest=more))
        else:
            found = await self._before(wanted, before, waiting, more)
        messages = found.messages[-wanted.newest :]
        is_last = len(found.messages) <= wanted.newest
        return MessagePage(
            conversation_id=found.id, messages=messages, next_before=None if is_last else before_of(messages[0])
        )

    async def _before(self, wanted: Wanted, before: Before, waiting: Sequence[LogRow], more: int) -> Conversation:
        its, place, cut = (
            await self._place(wanted.user_id, before, waiting)
            if isinstance(before, MessageName)
            else (None, before, None)
        )

        async def read(wanted: Wanted) -> Conversation | None:
            of = wanted.conversation_id or wanted.page_id
            return await self._table.messages_before(wanted.user_id, of, place, more)

        joined = await self._reader.joined(*await as_it_stands(self._outbox, wanted, read), waiting)
        if joined is None:
            raise CallerFault("not_found", stage=names.DB_FETCH)
        conversation, rows = joined
        if its not in (None, conversation.id) and cut not in rows:
            raise CallerFault("not_found", stage=names.DB_FETCH)
        return replace(conversation, messages=older(conversation, rows, place, cut))

    async def _place(
        self, user_id: str, name: MessageName, waiting: Sequence[LogRow]
    ) -> tuple[uuid.UUID, Place, LogRow | None]:
        """Return the conversation of a message, its place, and the message if it waits."""
        for row in waiting:  # before what is stored of it, which may be an answer cut short, and of another time
            if row.key == (name.turn_id, name.sender):
                return row.conversation_id, Place(at=row.created_at, after_ties=True), row
        stored = await self._table.place_of(user_id, name)
        if stored is None:
            raise CallerFault("not_found", stage=names.DB_FETCH)
        return *stored, None


def older(
    conversation: Conversation, rows: Sequence[LogRow], place: Place, cut: LogRow | None = None
) -> tuple[StoredMessage, ...]:
    """Return the messages before a place, oldest first.

    Args:
        conversation: with stored messages, all of them before the place, oldest first.
        rows: of the conversation, that are on their way to it; any of them may be among its messages already.
        place: where the page ends.
        cut: the row at which it ends, where that one is on its way.
    """
    messages = merged(conversation, rows, len(conversation.messages) + len(rows) + 1).messages
    if cut is not None:
        end = next(i for i, message in enumerate(messages) if (message.turn_id, message.sender) == _key(cut))
        return tuple(messages[:end])
    stored = {id(message) for message in conversation.messages}
    return tuple(message for message in messages if id(message) in stored or message.created_at < place.at)


def before_of(message: StoredMessage) -> str:
    """Return what `before` is for the messages before this one."""
    if message.id is None:
        return f"{message.turn_id}:{message.sender}"
    return f"{iso_time(message.created_at)}~{message.id}"


def _key(row: LogRow) -> tuple[str, str]:
    return str(row.turn_id), row.sender
