"""A stand-in for the tables behind lists and pages, in memory, in the order of the real ones."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime

import trio

from app.clients.ports import ConversationTable
from app.conversations import ConversationHead, MessageName, Place, contains, is_before
from app.turn import Conversation, StoredMessage
from tests.standins import Before, MemoryDatabase, at_once

CONVERSATION = uuid.UUID(int=1)


def head(id_: uuid.UUID, at: datetime, title: str | None = None, page_id: str | None = None) -> ConversationHead:
    """Return a conversation of which all that a test does not name is nothing."""
    return ConversationHead(id=id_, title=title, page_id=page_id, created_at=at, updated_at=at)


@dataclass
class PageTable(MemoryDatabase):
    """One user's conversation with its messages, and their list; `before_read` is what a page waits for first.

    `looks` counts how often conversations were looked for by their ids.
    """

    conversation_id: uuid.UUID = CONVERSATION
    messages: list[StoredMessage] = field(default_factory=list)
    heads_by_id: dict[uuid.UUID, ConversationHead] = field(default_factory=dict)
    before_read: Before = at_once
    looks: int = 0

    def add(self, message: StoredMessage) -> None:
        """Store a message under the next id."""
        self.messages.append(replace(message, id=len(self.messages) + 1))

    def in_order(self) -> list[StoredMessage]:
        """Return the messages as they are read, oldest first."""
        return sorted(self.messages, key=lambda message: (message.created_at, message.id or 0))

    async def conversation(self, user_id: str, conversation_id: uuid.UUID, newest: int) -> Conversation | None:
        await self.before_read()
        if conversation_id != self.conversation_id:
            return None
        return Conversation(id=conversation_id, messages=tuple(self.in_order()[-newest:]))

    async def messages_before(
        self, user_id: str, of: uuid.UUID | str, before: Place, newest: int
    ) -> Conversation | None:
        await self.before_read()
        if of != self.conversation_id:
            return None
        found = [message for message in self.in_order() if _is_older(message, before)]
        return Conversation(id=self.conversation_id, messages=tuple(found[-newest:]))

    async def place_of(self, user_id: str, name: MessageName) -> tuple[uuid.UUID, Place] | None:
        await trio.lowlevel.checkpoint()
        for message in self.messages:
            of_turn = name.turn_id is not None and (message.turn_id, message.sender) == (str(name.turn_id), name.sender)
            if of_turn or (name.id is not None and message.id == name.id):
                assert isinstance(message.id, int)
                return self.conversation_id, Place(at=message.created_at, id=message.id)
        return None

    async def heads(
        self,
        user_id: str,
        limit: int,
        before: Place | None = None,
        text: str = "",
        among: Collection[uuid.UUID] | None = None,
    ) -> list[ConversationHead]:
        await trio.lowlevel.checkpoint()
        found = [
            each
            for each in self.heads_by_id.values()
            if each.is_active
            and (before is None or is_before(each, before))
            and (among is None or each.id in among)
            and contains(each.title, text)
        ]
        return sorted(found, key=lambda each: (each.updated_at, each.id), reverse=True)[:limit]

    async def heads_of(self, user_id: str, ids: Collection[uuid.UUID]) -> list[ConversationHead]:
        await trio.lowlevel.checkpoint()
        self.looks += 1
        return [each for each in self.heads_by_id.values() if each.id in ids]

    async def make_conversation(
        self, user_id: str, page_id: str, conversation_id: uuid.UUID, title: str | None
    ) -> tuple[ConversationHead, bool]:
        raise NotImplementedError

    async def rename_conversation(
        self, user_id: str, conversation_id: uuid.UUID, title: str
    ) -> ConversationHead | None:
        await trio.lowlevel.checkpoint()
        found = self.heads_by_id.get(conversation_id)
        return replace(found, title=title) if found and found.is_active else None

    async def hide_conversation(self, user_id: str, conversation_id: uuid.UUID) -> None:
        await trio.lowlevel.checkpoint()
        hidden = replace(self.heads_by_id[conversation_id], is_active=False, page_id=None)
        self.heads_by_id[conversation_id] = hidden


def _is_older(message: StoredMessage, place: Place) -> bool:
    if message.created_at != place.at or place.after_ties:
        return message.created_at <= place.at
    return place.id is not None and isinstance(message.id, int) and message.id < place.id  # type: ignore[operator] # ints


def holds_protocol(table: PageTable) -> ConversationTable:
    """Have the type checker agree that the stand-in is one."""
    return table
