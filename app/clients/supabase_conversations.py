"""Requests about conversations and pages of their messages; the other half of `supabase.SupabaseDatabase`.

A page goes on from a place by its key (time, id), never by an offset. Of messages, those of the place's very time and
those before it are embedded apart, so that each is a walk of `n` rows along (conversation_id, created_at desc, id desc)
in the index: one filter with `or` would be no range of it, and PostgREST has no comparison of rows.

Made URLs are not kept: hardly any is asked for again, and some hold what was searched for.
"""

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from app.caller_token import for_the_server
from app.clients.supabase_rows import head_of, message_of, promised, time_of
from app.conversations import ConversationHead, MessageName, Place
from app.errors import DatabaseFault
from app.turn import Conversation

MESSAGE_COLUMNS = "id,sender,message,created_at,context_data,turn_id"
_HEAD_COLUMNS = "id,title,page_id,is_active,created_at,updated_at"
_NEWEST_FIRST = "created_at.desc,id.desc"
_DUPLICATE = "23505"
_PAGE_KEY = "user_id,page_id"
_LIKE_SIGNS = re.compile(r"[%_\\]")
_REGEX_SIGNS = re.compile(r"[!-/:-@\[-`{-~]")
"""ASCII's punctuation: behind a backslash each of it is itself to PostgreSQL's regular expressions."""


class SupabaseConversations(ABC):
    """`ConversationTable`, for a class that can send requests."""

    @abstractmethod
    async def _select_if_typed(
        self, table: str, query: Mapping[str, str], *, again: bool = True
    ) -> list[dict[str, Any]]: ...

    @abstractmethod
    async def _insert(
        self, table: str, rows: Sequence[Mapping[str, Any]], *, on_conflict: str, returning: str = ""
    ) -> list[dict[str, Any]]: ...

    @abstractmethod
    async def _update(
        self, table: str, query: Mapping[str, str], changes: Mapping[str, Any]
    ) -> list[dict[str, Any]]: ...

    async def messages_before(
        self, user_id: str, of: uuid.UUID | str, before: Place, newest: int
    ) -> Conversation | None:
        """Return the conversation with its newest messages before a place, in one request."""
        where = {"page_id": f"eq.{of}"} if isinstance(of, str) else {"id": f"eq.{of}", "is_active": "is.true"}
        parts = _parts_before(before)
        query = {
            "select": ",".join(["id", *(f"{name}:chat_logs({MESSAGE_COLUMNS})" for name in parts)]),
            "user_id": f"eq.{user_id}",
            **where,
            **{f"{name}.{column}": value for name, part in parts.items() for column, value in part.items()},
            **{f"{name}.order": _NEWEST_FIRST for name in parts},
            **{f"{name}.limit": str(newest) for name in parts},
            "limit": "1",
        }
        rows = await self._select_if_typed("chat_conversations", query, again=False)
        if not rows:
            return None
        with promised():
            found = [message_of(row) for name in parts for row in rows[0][name]][:newest]
            return Conversation(id=uuid.UUID(rows[0]["id"]), messages=tuple(reversed(found)))

    async def place_of(self, user_id: str, name: MessageName) -> tuple[uuid.UUID, Place] | None:
        """Return where a message is. A bare UUID is looked for among turns first: row ids are hardly ever UUIDs."""
        ways = []
        if name.turn_id is not None:
            ways.append({"turn_id": f"eq.{name.turn_id}", "sender": f"eq.{name.sender}"})
        if name.id is not None:
            ways.append({"id": f"eq.{name.id}"})
        for way in ways:
            query = {"select": "id,created_at,conversation_id", **way, "user_id": f"eq.{user_id}", "limit": "1"}
            rows = await self._select_if_typed("chat_logs", query, again=False)
            if rows and rows[0].get("conversation_id"):
                with promised():
                    place = Place(at=time_of(rows[0]["created_at"]), id=_row_id(rows[0]["id"]))
                    return uuid.UUID(rows[0]["conversation_id"]), place
        return None

    async def heads(
        self,
        user_id: str,
        limit: int,
        before: Place | None = None,
        text: str = "",
        among: Collection[uuid.UUID] | None = None,
    ) -> list[ConversationHead]:
        """Return the first of the list: one request, or with a text two, for titles and for messages."""
        query = {
            "select": _HEAD_COLUMNS,
            "user_id": f"eq.{user_id}",
            "is_active": "is.true",
            **_heads_before(before),
            **({} if among is None else {"id": _in(among)}),
            "order": "updated_at.desc,id.desc",
            "limit": str(limit),
        }
        if not text:
            return await self._heads(query)
        has_text = containing(text)
        of_title = await self._heads({**query, "title": has_text})
        # The order is the index's, so that each conversation is read along it, as far as the first that has the text.
        in_message = {"chat_logs.message": has_text, "chat_logs.order": _NEWEST_FIRST, "chat_logs.limit": "1"}
        of_message = await self._heads({**query, "select": f"{_HEAD_COLUMNS},chat_logs!inner(id)", **in_message})
        found = {head.id: head for head in (*of_title, *of_message)}.values()
        return sorted(found, key=lambda head: (head.updated_at, head.id), reverse=True)[:limit]

    async def heads_of(self, user_id: str, ids: Collection[uuid.UUID]) -> list[ConversationHead]:
        """Return the conversations of these ids, in one request."""
        return await self._heads({"select": _HEAD_COLUMNS, "user_id": f"eq.{user_id}", "id": _in(ids)})

    async def _heads(self, query: Mapping[str, str]) -> list[ConversationHead]:
        rows = await self._select_if_typed("chat_conversations", query, again=False)
        with promised():
            return [head_of(row) for row in rows]

    async def make_conversation(
        self, user_id: str, page_id: str, conversation_id: uuid.UUID, title: str | None
    ) -> tuple[ConversationHead, bool]:
        """Insert the conversation; when there is one for the page, read that.

        One that is there under our own random id was made by this request, whose answer was lost at the first attempt.
        """
        row = {"id": str(conversation_id), "user_id": user_id, "page_id": page_id, "title": title}
        found, made = await self._made_or_standing(row, _HEAD_COLUMNS, by=("page_id",))
        with promised():
            head = head_of(found)
        return head, made or (head.id == conversation_id and conversation_id.version == 4)

    async def _made_or_standing(
        self, row: Mapping[str, Any], columns: str, *, by: Sequence[str]
    ) -> tuple[dict[str, Any], bool]:
        """Insert a conversation, and return it and True; if it cannot be, one that is there and False.

        Its page can have another; or its id is that of one that was deleted, which keeps its id and not its page.

        Args:
            row: the conversation.
            columns: what is returned of it.
            by: the columns in which the one that is there is as `row`; the first that finds one counts.
        """
        refusal = DatabaseFault("database_unavailable", "the conversation was deleted while it was made")
        try:
            if made := await self._insert("chat_conversations", [row], on_conflict=_PAGE_KEY, returning=columns):
                return made[0], True
        except DatabaseFault as fault:
            if fault.error_type != _DUPLICATE:
                raise
            refusal = fault
        with for_the_server():
            for column in by:
                query = {"select": columns, "user_id": f"eq.{row['user_id']}", column: f"eq.{row[column]}"}
                if standing := await self._select_if_typed("chat_conversations", {**query, "limit": "1"}, again=False):
                    return standing[0], False
        raise refusal

    async def rename_conversation(
        self, user_id: str, conversation_id: uuid.UUID, title: str
    ) -> ConversationHead | None:
        """Update the title, in one request."""
        query = {"id": f"eq.{conversation_id}", "user_id": f"eq.{user_id}", "is_active": "is.true"}
        rows = await self._update("chat_conversations", {**query, "select": _HEAD_COLUMNS}, {"title": title})
        with promised():
            return head_of(rows[0]) if rows else None

    async def hide_conversation(self, user_id: str, conversation_id: uuid.UUID) -> None:
        """Update what hides it; doing so again, because an answer was lost, changes nothing."""
        query = {"id": f"eq.{conversation_id}", "user_id": f"eq.{user_id}", "select": "id"}
        await self._update("chat_conversations", query, {"is_active": False, "page_id": None})


def containing(text: str) -> str:
    """Return the filter for a column that has a text in it, taken literally, whatever the case.

    PostgREST reads every `*` of a LIKE pattern as `%`, and has no way to say a star: such a text goes as a regular
    expression. At the top level a filter's value runs to its end: commas, quotes and parentheses are themselves there.
    """
    if "*" in text:
        return "imatch." + _REGEX_SIGNS.sub(r"\\\g<0>", text)
    return "ilike.%" + _LIKE_SIGNS.sub(r"\\\g<0>", text) + "%"


def _parts_before(place: Place) -> dict[str, dict[str, str]]:
    """Return the filters of the messages before a place, by the name each part is embedded under, newest first."""
    at = _time(place.at)
    if place.id is not None:
        return {"ties": {"created_at": f"eq.{at}", "id": f"lt.{place.id}"}, "older": {"created_at": f"lt.{at}"}}
    return {"older": {"created_at": f"{'lte' if place.after_ties else 'lt'}.{at}"}}


def _heads_before(place: Place | None) -> dict[str, str]:
    """Return the filters of the conversations after a place in the list: `lte` is the index's range."""
    if place is None:
        return {}
    at = _time(place.at)
    if place.id is None:
        return {"updated_at": f"lt.{at}"}
    return {"updated_at": f"lte.{at}", "or": f'(updated_at.lt."{at}",id.lt.{place.id})'}


def _in(ids: Collection[uuid.UUID]) -> str:
    return f"in.({','.join(map(str, ids))})"


def _time(at: datetime) -> str:
    return at.isoformat()


def _row_id(value: Any) -> int | uuid.UUID:
    return value if isinstance(value, int) else uuid.UUID(value)
