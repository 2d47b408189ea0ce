"""PostgREST, asked by a doctor: no request changes a row, and each is sent once. `supabase.py` has the wire's sources.

Zero rows of an insert are planned like any others, so that PostgreSQL looks for the unique key that `on_conflict` names
(42P10 when there is none), and for the right to insert. It is an INSERT all the same: triggers FOR EACH STATEMENT run.
Our tables have none; a project may have some of its own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlencode

import httpx

from app.clients import USER_AGENT, basic_authorization
from app.clients.probe_request import Sent, send
from app.clients.probing import HostAnswer, Reader

_KNOWN_CODE = re.compile(r"[0-9A-Z]{5}|PGRST[0-9A-Z]{2,4}")
_READ = {"accept-profile": "public"}
_INSERT = {
    "content-type": "application/json",
    "content-profile": "public",
    "prefer": "resolution=ignore-duplicates,return=minimal",
}


class SupabaseProbe:
    """`DatabaseProbe` over httpx.

    Args:
        transport: carries the requests.
        url: the project's URL.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, url: str) -> None:
        self._transport = transport
        self._root = httpx.URL(url.rstrip("/") + "/rest/v1/")
        self._headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
            **basic_authorization(self._root),
        }

    async def columns(self, reader: Reader, table: str, columns: Sequence[str]) -> HostAnswer:
        """Select the columns with a limit of 0."""
        return await self._read(reader, table, {"select": ",".join(columns), "limit": "0"})

    async def related(self, reader: Reader, table: str, other: str) -> HostAnswer:
        """Embed the other table, with a limit of 0."""
        return await self._read(reader, table, {"select": f"id,{other}(id)", "limit": "0"})

    async def unique(self, reader: Reader, table: str, columns: Sequence[str]) -> HostAnswer:
        """Insert an empty list of rows."""
        names = ",".join(columns)
        query = {"columns": names, "on_conflict": names}
        return _told(await self._send(reader, "POST", table, query, _INSERT, b"[]"))

    async def first(self, reader: Reader, table: str, column: str) -> HostAnswer:
        """Select the column with a limit of 1."""
        return await self._read(reader, table, {"select": column, "limit": "1"})

    async def _read(self, reader: Reader, table: str, query: Mapping[str, str]) -> HostAnswer:
        return _told(await self._send(reader, "GET", table, query, _READ))

    async def _send(
        self,
        reader: Reader,
        method: str,
        table: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Sent:
        url = self._root.copy_with(raw_path=self._root.raw_path + f"{table}?{urlencode(query)}".encode())
        whose = {**self._headers, **headers, **_identity(reader)}
        return await send(self._transport, httpx.Request(method, url, headers=whose, content=body))


def _identity(reader: Reader) -> dict[str, str]:
    token = reader.token or (reader.key if reader.key and reader.key.count(".") == 2 else None)
    named = {"apikey": reader.key} if reader.key else {}
    return named | ({"authorization": f"Bearer {token}"} if token else {})


def _told(sent: Sent) -> HostAnswer:
    """Return what is told of an answer: of a good one how many rows it has, of a refusal its code."""
    answer = sent.answer
    if answer.status is None:
        return answer
    try:
        document = json.loads(sent.body) if sent.body else []
    except (ValueError, RecursionError):
        document = None
    if answer.good:
        if not isinstance(document, list):
            return replace(answer, status=None, code="not_json")
        return replace(answer, items=len(document))
    code = str(document.get("code")) if isinstance(document, dict) else ""
    return replace(answer, code=code if _KNOWN_CODE.fullmatch(code) else f"http_{answer.status}")
