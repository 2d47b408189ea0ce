"""The database over PostgREST's HTTP dialect: the only file that knows it. The embedded one gets the same requests.

Sources: the PostgREST 12 reference (tables and views, resource embedding, preferences, errors) and captured traffic of
the official clients. Answers are judged by `code`, never by the text of a message, and that text, which may quote what
a student wrote, goes nowhere.
"""

import json
import logging
import random
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import httpx
import trio

from app.caller_token import CALLER_TOKEN
from app.clients import USER_AGENT, basic_authorization
from app.clients.breaker import Breaker, BreakerOpenError, Verdict
from app.clients.ports import LogRow, RowKey
from app.clients.supabase_conversations import MESSAGE_COLUMNS, SupabaseConversations
from app.clients.supabase_rows import columns_of, id_of, json_of, message_of, promised, rows_of, text_of
from app.errors import CallerFault, DatabaseFault
from app.turn import Conversation, EarlierTurn, Project, is_of_key

log = logging.getLogger(__name__)

_PROJECT_COLUMNS = "id,theme,question,hypothesis"
_KNOWN_CODE = re.compile(r"[0-9A-Z]{5}|PGRST[0-9A-Z]{2,4}")
_TOKEN_REFUSED = frozenset({"PGRST301", "PGRST302", "PGRST303"})
"""A token that cannot be verified, is missing where one must be, or has expired meanwhile."""
_NOT_OF_THE_TYPE = frozenset({"22P02", "22003"})  # not a value of the column's type, or out of its range
_JSON = {"content-type": "application/json"}
_POOL_IS_FULL = "PGRST003"
"""PostgREST waited in vain for a connection of its own pool: asking again would only lengthen that queue."""
_OUR_OWN_RACE = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: the database lives."""
_MAY_PASS = _OUR_OWN_RACE | {"PGRST000", "PGRST001", "PGRST002", "http_502", "http_503", "http_504"}
KNOWN_URLS = 1024
"""Made URLs that are kept, of about 1 kB each: a conversation's is the same for all of its turns, and takes 0.05 ms."""
MAX_RETRIES = 2
FIRST_WAIT_S = 0.1
"""Short: the whole of a save has 2 s, and a turn that is read for waits."""
MAX_ANSWER_BYTES = 16 << 20
"""Fifty messages with all that is stored beside them are some hundred kilobytes."""
SILENT_S = 1.5
"""Less than the shortest of the default deadlines, 2 s for a save."""


class SupabaseDatabase(SupabaseConversations):
    """`Database` over httpx.

    Args:
        transport: carries the requests; the stages' deadlines end slow ones. No `httpx.AsyncClient` is around it: what
            that merges, times and keeps (a cookie jar) is not wanted here, and costs 0.15 ms a request.
        url: the project's URL, without a path.
        breaker: of the host.
        max_connections: requests at once; None for any number. Who waits for a place here says nothing of the host.
        key: a legacy key (a JWT, sent as a bearer token too) or a new one (`sb_secret_...`, sent as `apikey` only).
        silent_s: a request that is cut off after so long without an answer counts as the host's failure.
        as_caller: what is read for a caller (`CALLER_TOKEN`) is asked for with their token beside the key.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        url: str,
        key: str,
        breaker: Breaker | None = None,
        *,
        max_connections: int | None = None,
        silent_s: float = SILENT_S,
        as_caller: bool = False,
    ) -> None:
        self._transport = transport
        self._places = trio.Semaphore(max_connections) if max_connections else None
        self._silent_s = silent_s
        self._as_caller = as_caller
        self._breaker = breaker or Breaker("database")
        self._root = httpx.URL(url.rstrip("/") + "/rest/v1/")
        self._url = lru_cache(KNOWN_URLS)(self._make_url)
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "apikey": key,
            "user-agent": USER_AGENT,
            **basic_authorization(self._root),
        }
        if key.count(".") == 2:
            self._headers["authorization"] = f"Bearer {key}"

    @property
    def waiting(self) -> int:
        """How many requests wait for a place. Safe to read from any thread."""
        return self._places.statistics().tasks_waiting if self._places else 0

    async def user_exists(self, user_id: str) -> bool:
        """Return whether there is such a user; an id that the column's type cannot hold is nobody's."""
        return bool(await self._select_if_typed("users", {"select": "id", "id": f"eq.{user_id}", "limit": "1"}))

    async def ensure_user(self, user_id: str) -> None:
        """Make the user, unless there is one."""
        await self._insert("users", [{"id": user_id, "username": user_id}], on_conflict="id")

    async def user_of_auth_id(self, auth_id: str) -> str | None:
        """Return the user to whom `user_id_mapping` leads; an older deployment's column may hold numbers."""
        query = {"select": "user_id", "auth_id": f"eq.{auth_id}", "limit": "1"}
        rows = await self._select_if_typed("user_id_mapping", query)
        if not rows:
            return None
        with promised():
            return id_of(rows[0]["user_id"])

    async def conversation(self, user_id: str, conversation_id: uuid.UUID, newest: int) -> Conversation | None:
        """Return the user's conversation with its newest messages, in one request."""
        return await self._conversation({"id": f"eq.{conversation_id}", "is_active": "is.true"}, user_id, newest)

    async def conversation_for_page(self, user_id: str, page_id: str, newest: int) -> Conversation | None:
        """Return the user's conversation for a page with its newest messages, in one request."""
        return await self._conversation({"page_id": f"eq.{page_id}"}, user_id, newest)

    async def _conversation(self, where: Mapping[str, str], user_id: str, newest: int) -> Conversation | None:
        rows = await self._select(
            "chat_conversations",
            {
                "select": f"id,title,chat_logs({MESSAGE_COLUMNS})",
                "user_id": f"eq.{user_id}",
                **where,
                "chat_logs.order": "created_at.desc,id.desc",
                "chat_logs.limit": str(newest),
                "limit": "1",
            },
        )
        if not rows:
            return None
        with promised():
            messages = tuple(message_of(row) for row in reversed(rows[0]["chat_logs"]))
            return Conversation(id=uuid.UUID(rows[0]["id"]), messages=messages)

    async def project(self, user_id: str, project_id: str) -> Project | None:
        """Return the user's project, or None."""
        return await self._project(user_id, {"id": f"eq.{project_id}"})

    async def project_of_memo(self, user_id: str, memo_id: str) -> Project | None:
        """Return the project of the user's memo, joined by the database, or None."""
        where = {"memos.id": f"eq.{memo_id}", "memos.user_id": f"eq.{user_id}"}
        return await self._project(user_id, where, f"{_PROJECT_COLUMNS},memos!inner(id)")

    async def latest_project(self, user_id: str) -> Project | None:
        """Return the user's project that was changed last, or None."""
        return await self._project(user_id, {"order": "updated_at.desc.nullslast,id.desc"})

    async def _project(self, user_id: str, where: Mapping[str, str], columns: str = _PROJECT_COLUMNS) -> Project | None:
        query = {"select": columns, "user_id": f"eq.{user_id}", **where, "limit": "1"}
        rows = await self._select_if_typed("projects", query)
        if not rows:
            return None
        with promised():
            texts = {name: text_of(rows[0][name]) for name in ("theme", "question", "hypothesis")}
            return Project(id=rows[0]["id"], **texts)

    async def ensure_conversation(
        self, user_id: str, page_id: str, conversation_id: uuid.UUID, title: str
    ) -> uuid.UUID:
        """Insert the conversation; when another request was first, return the one it made.

        Racers mostly make it under the same id, and only by that is it found if it was deleted since.
        """
        row = {"id": str(conversation_id), "user_id": user_id, "page_id": page_id, "title": title}
        found, _ = await self._made_or_standing(row, "id", by=("id", "page_id"))
        with promised():
            return uuid.UUID(found["id"])

    async def turn(self, user_id: str, turn_id: uuid.UUID) -> EarlierTurn | None:
        """Return what is stored of a user's turn, or None."""
        query = {
            "select": f"conversation_id,{MESSAGE_COLUMNS}",
            "turn_id": f"eq.{turn_id}",
            "user_id": f"eq.{user_id}",
        }
        rows = await self._select("chat_logs", query, again=False)
        if not rows:
            return None
        with promised():
            by_sender = {message.sender: message for message in map(message_of, rows)}
            return EarlierTurn(
                conversation_id=uuid.UUID(rows[0]["conversation_id"]),
                question=by_sender.get("user"),
                answer=by_sender.get("assistant"),
            )

    async def write_rows(self, rows: Sequence[LogRow]) -> Collection[RowKey]:
        """Insert the rows in one request, which PostgREST makes one transaction. See `Database`."""
        asked = {row.key for row in rows if is_of_key(row.turn_id)}
        written = await self._insert(
            "chat_logs", [columns_of(row) for row in rows], on_conflict="turn_id,sender",
            returning="turn_id,sender" if asked else "",
        )  # fmt: skip
        if not asked:
            return ()
        with promised():
            return asked - {(uuid.UUID(row["turn_id"]), row["sender"]) for row in written}

    async def replace_row(self, row: LogRow, written_at: datetime) -> bool:
        """Update the row of that key, if it is the one of `written_at`: of two who try at once, one does."""
        query = {
            "turn_id": f"eq.{row.turn_id}",
            "sender": f"eq.{row.sender}",
            "user_id": f"eq.{row.user_id}",
            "created_at": f"eq.{written_at.isoformat()}",
            "select": "turn_id",
        }
        columns = columns_of(row)
        changes = {name: columns[name] for name in ("message", "context_data", "created_at")}
        return bool(await self._update("chat_logs", query, changes))

    async def _select_if_typed(
        self, table: str, query: Mapping[str, str], *, again: bool = True
    ) -> list[dict[str, Any]]:
        try:
            return await self._select(table, query, again=again)
        except DatabaseFault as fault:
            if fault.error_type in _NOT_OF_THE_TYPE:
                return []
            raise

    async def _select(self, table: str, query: Mapping[str, str], *, again: bool = True) -> list[dict[str, Any]]:
        """Read, for a caller with their own token where that is wanted; a refusal of it is not our key's fault."""
        headers = {"accept-profile": "public"}
        caller = CALLER_TOKEN.get() if self._as_caller else None
        if caller is None:
            return await self._send("GET", table, query, headers, again=again)
        try:
            return await self._send("GET", table, query, {**headers, "authorization": caller.header}, again=again)
        except DatabaseFault as fault:
            if fault.error_type not in _TOKEN_REFUSED:
                raise
            log.warning("database.token_refused", extra={"error": fault.error_type, "note": fault.note})
            raise CallerFault("unauthenticated", fault.note, error_type=fault.error_type) from None

    async def _insert(
        self, table: str, rows: Sequence[Mapping[str, Any]], *, on_conflict: str, returning: str = ""
    ) -> list[dict[str, Any]]:
        query = {"on_conflict": on_conflict} | ({"select": returning} if returning else {})
        prefer = f"resolution=ignore-duplicates,return={'representation' if returning else 'minimal'}"
        headers = {**_JSON, "content-profile": "public", "prefer": prefer}
        return await self._send("POST", table, query, headers, json_of(rows))

    async def _update(self, table: str, query: Mapping[str, str], changes: Mapping[str, Any]) -> list[dict[str, Any]]:
        headers = {**_JSON, "content-profile": "public", "prefer": "return=representation"}
        return await self._send("PATCH", table, query, headers, json_of(changes), again=False)

    async def _send(
        self,
        method: str,
        table: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        again: bool = True,
    ) -> list[dict[str, Any]]:
        """Send a read, or a write that changes nothing when it is repeated: so both may be sent again.

        The URL is kept, unless it will not be asked for `again`.
        """
        url = (self._url if again else self._make_url)(table, tuple(query.items()))
        request = httpx.Request(method, url, headers={**self._headers, **headers}, content=body)
        what = f"{method} {table}"
        for retry in range(MAX_RETRIES):
            try:
                return await self._once(request, what)
            except DatabaseFault as fault:
                wait_s = FIRST_WAIT_S * 2**retry * random.uniform(0.75, 1)  # noqa: S311 - to part the retries, no secret
                late = trio.current_time() + wait_s >= trio.current_effective_deadline()
                if not fault.ask_again or late or self._breaker.state == "open":
                    raise
                log.warning("database.retry", extra={"error": fault.error_type, "note": fault.note, "wait_s": wait_s})
                await trio.sleep(wait_s)
        return await self._once(request, what)

    def _make_url(self, table: str, query: tuple[tuple[str, str], ...]) -> httpx.URL:
        return self._root.copy_with(raw_path=self._root.raw_path + f"{table}?{urlencode(query)}".encode())

    async def _once(self, request: httpx.Request, what: str) -> list[dict[str, Any]]:
        try:
            await self._take_place()
            try:
                with self._breaker.call() as verdict:
                    return await self._judged(request, what, verdict)
            finally:
                self._leave_place()
        except BreakerOpenError as exc:
            raise DatabaseFault(
                "database_unavailable", "the host is left alone", retry_after_s=exc.retry_after_s,
                error_type="breaker_open",
            ) from None  # fmt: skip

    async def _take_place(self) -> None:
        """Take a place; with none free, wait, but not for requests to a host that hangs."""
        if self._places is not None:
            try:
                self._places.acquire_nowait()
            except trio.WouldBlock:
                self._breaker.check()
                await self._places.acquire()

    def _leave_place(self) -> None:
        if self._places is not None:
            self._places.release()

    async def _judged(self, request: httpx.Request, what: str, verdict: Verdict) -> list[dict[str, Any]]:
        asked = trio.current_time()
        try:
            status, answer = await self._answer(request)
        except httpx.HTTPError as exc:
            verdict.bad()
            name = type(exc).__name__
            fault = DatabaseFault("database_unavailable", f"{what}: {name}", error_type=name)
            fault.ask_again = isinstance(exc, httpx.TransportError)
            raise fault from exc
        except trio.Cancelled:
            if trio.current_time() - asked >= self._silent_s:
                verdict.bad()
            raise
        if 200 <= status < 300:
            verdict.good()
            return rows_of(answer)
        fault = _fault(status, answer, what)
        if fault.ask_again and fault.error_type not in _OUR_OWN_RACE:
            verdict.bad()
        elif fault.error_type != _POOL_IS_FULL:
            verdict.good()
        raise fault

    async def _answer(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._transport.handle_async_request(request)
        body = bytearray()
        try:
            with trio.CancelScope() as reading:
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        reading.cancel()
        finally:
            await response.aclose()
        if len(body) > MAX_ANSWER_BYTES:  # no sign of ill health, and no smaller the next time
            raise DatabaseFault("database_unavailable", f"over {MAX_ANSWER_BYTES} bytes", error_type="too_large")
        return response.status_code, bytes(body)


def _fault(status: int, answer: bytes, what: str) -> DatabaseFault:
    code = ""
    try:
        body = json.loads(answer)
        code = str(body.get("code")) if isinstance(body, dict) else ""
    except (ValueError, RecursionError):
        pass  # a gateway's error page
    error_type = code if _KNOWN_CODE.fullmatch(code) else f"http_{status}"
    fault = DatabaseFault("database_unavailable", f"{what}: {status} {error_type}", error_type=error_type)
    fault.ask_again = error_type in _MAY_PASS
    return fault
