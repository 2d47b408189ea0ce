"""A user's conversations: the list, one of them, and what can be done with one.

The list is what the database has, with what waits in the outbox counted in: a conversation whose newest message waits
stands where that one puts it, and one that is still to be made is in it too.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.clients.ports import ConversationTable, LogRow
from app.conversations import ConversationHead, HeadPage, Place, contains, is_before, iso_time, title_of
from app.errors import CallerFault, DatabaseFault
from app.fetch.history import OnTheWay, next_id, resolved, waits_elsewhere
from telemetry import names

MAX_LIFTED = 100
"""Conversations with messages that wait, of one user: beyond them the list is as the database has it."""
Waiting = Mapping[uuid.UUID, Sequence[LogRow]]


class Conversations:
    """Reads and changes conversations. `outbox` holds what is on its way to the database; None where there is none.

    Every method raises `DatabaseFault` when that cannot be done now.
    """

    def __init__(self, table: ConversationTable, outbox: OnTheWay | None = None) -> None:
        self._table = table
        self._outbox = outbox

    async def page(self, user_id: str, limit: int, before: Place | None = None, text: str = "") -> HeadPage:
        """Return `limit` conversations, newest activity first.

        Args:
            user_id: whose.
            limit: at most so many.
            before: only those that come after this place in the list.
            text: only those that have it in their title or in a message.
        """
        waiting = self._waiting(user_id)
        stored = await self._table.heads(user_id, limit + 1 + len(waiting), before, text)
        heads = [head for head in stored if head.id not in waiting]
        if waiting:
            heads += await self._lifted(user_id, waiting, text)
        found = [head for head in heads if before is None or is_before(head, before)]
        found.sort(key=lambda head: (head.updated_at, head.id), reverse=True)
        shown = found[:limit]
        return HeadPage(heads=shown, next_before=before_of(shown[-1]) if len(found) > limit else None)

    async def one(self, user_id: str, id_: uuid.UUID) -> ConversationHead:
        """Return the user's conversation.

        Raises:
            CallerFault: `not_found`: they have none such.
        """
        standing, waiting = resolved(self._outbox, id_), self._waiting(user_id)
        stored = {head.id: head for head in await self._table.heads_of(user_id, {id_, standing})}
        id_ = id_ if id_ in stored else standing
        head = _lift(id_, stored.get(id_), waiting.get(id_, ()))
        if head is None:
            raise CallerFault("not_found", stage=names.DB_FETCH)
        return head

    async def make(self, user_id: str, page_id: str | None, title: str | None) -> tuple[ConversationHead, bool]:
        """Return the conversation of a page, made if missing, and whether it was; without a page, always a new one.

        A new one that has no page has its own id as its key, so that the next one without collides with nothing.
        """
        id_ = uuid.uuid4() if page_id is None else await next_id(self._table, self._outbox, user_id, page_id)
        return await self._table.make_conversation(user_id, page_id or str(id_), id_, title)

    async def rename(self, user_id: str, id_: uuid.UUID, title: str) -> ConversationHead:
        """Give the user's conversation a title, and return it.

        Raises:
            CallerFault: `not_found`: they have none such.
        """
        renamed = await self._table.rename_conversation(user_id, id_, title)
        if renamed is None:
            head = await self.one(user_id, id_)
            _refuse_unstored(head)
            renamed = await self._table.rename_conversation(user_id, head.id, title)
        if renamed is None:
            raise CallerFault("not_found", stage=names.DB_FETCH)
        return renamed

    async def hide(self, user_id: str, id_: uuid.UUID) -> None:
        """Delete the user's conversation, softly: the next message on its page begins a new one.

        A turn that runs in it goes on, and its rows are stored in it. As long as messages that it is shown with wait
        under its page's next id, it cannot be deleted: they would come back as that next conversation.

        Raises:
            CallerFault: `not_found`: they have none such.
        """
        head = await self.one(user_id, id_)
        _refuse_unstored(head)
        await self._refuse_if_next_waits(user_id, head)
        await self._table.hide_conversation(user_id, head.id)

    async def _refuse_if_next_waits(self, user_id: str, head: ConversationHead) -> None:
        rows = self._outbox.undelivered(user_id) if self._outbox else ()
        if head.page_id is None or not waits_elsewhere(head.page_id, head.id, rows):
            return
        next_one = await next_id(self._table, self._outbox, user_id, head.page_id)
        if any(row.conversation_id == next_one != head.id for row in rows):
            raise _on_its_way()

    def _waiting(self, user_id: str) -> Waiting:
        """Return what waits, by conversation: the newest of them, if they are very many."""
        found: dict[uuid.UUID, list[LogRow]] = {}
        for row in self._outbox.undelivered(user_id) if self._outbox else ():
            found.setdefault(row.conversation_id, []).append(row)
        return dict(list(found.items())[-MAX_LIFTED:])

    async def _lifted(self, user_id: str, waiting: Waiting, text: str) -> list[ConversationHead]:
        known = {head.id: head for head in await self._table.heads_of(user_id, waiting)}
        lifted = [_lift(id_, known.get(id_), rows) for id_, rows in waiting.items()]
        heads = [head for head in lifted if head is not None]
        if not text:
            return heads
        stored = {head.id for head in await self._table.heads(user_id, len(waiting), None, text, among=waiting)}
        return [head for head in heads if head.id in stored or _has(head, waiting[head.id], text)]


def _lift(id_: uuid.UUID, stored: ConversationHead | None, rows: Sequence[LogRow]) -> ConversationHead | None:
    """Return a conversation with rows that are on their way to it; None of one that was deleted, or never was."""
    if stored is not None:
        newest = max([stored.updated_at, *(row.created_at for row in rows)])
        return replace(stored, updated_at=newest) if stored.is_active else None
    if not rows:
        return None
    first = min(rows, key=lambda row: row.created_at)
    return ConversationHead(
        id=id_,
        title=title_of(first.message),
        page_id=first.page,
        created_at=first.created_at,
        updated_at=max(row.created_at for row in rows),
        is_stored=False,
    )


def _has(head: ConversationHead, rows: Sequence[LogRow], text: str) -> bool:
    return contains(head.title, text) or any(contains(row.message, text) for row in rows)


def _refuse_unstored(head: ConversationHead) -> None:
    if not head.is_stored:
        raise _on_its_way()


def _on_its_way() -> DatabaseFault:
    return DatabaseFault("database_unavailable", "the conversation is still on its way", error_type="not_stored")


def before_of(head: ConversationHead) -> str:
    """Return what `before` is for the conversations after this one."""
    return f"{iso_time(head.updated_at)}~{head.id}"
