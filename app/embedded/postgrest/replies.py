"""Answers as HTTP has them: status, headers and body, from what a request found or touched. Pure."""

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from app.embedded.postgrest.column_types import Json
from app.embedded.postgrest.errors import DialectError
from app.embedded.postgrest.request import Preferences, Request
from app.embedded.postgrest.rows import Row

Header = tuple[bytes, bytes]

JSON_TYPE: Final = "application/json; charset=utf-8"
OBJECT_TYPE: Final = "application/vnd.pgrst.object+json; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer."""

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""


def refusal(error: DialectError) -> Reply:
    """Return the answer to a request that is refused."""
    return Reply(status=error.status, headers=(_header("content-type", JSON_TYPE),), body=_json(error.body()))


def read_reply(request: Request, rows: list[Row], total: int | None) -> Reply:
    """Return the answer to a read; `total` is the exact count when it was asked for.

    Raises:
        DialectError: PGRST103, the offset is behind the last row; PGRST116, one object was asked for.
    """
    first = request.selection.offset
    if total is not None and first > total:
        details = f"An offset of {first} was requested, but there are only {total} rows."
        raise DialectError("PGRST103", "Requested range not satisfiable", details=details)
    check_single(request, len(rows))
    status = 206 if total is not None and len(rows) < total else 200
    headers = (_content_range(first, len(rows), total), *_applied(request.prefer, "count", "handling"))
    return _with_rows(request, status, headers, rows)


def inserted_reply(request: Request, rows: list[Row], touched: int, inserted: int, key: dict[str, Json]) -> Reply:
    """Return the answer to an insert; `key` is the primary key of the only row, empty when there is not one row."""
    only_merged = request.prefer.resolution == "merge-duplicates" and not inserted
    headers = [_content_range(1, 0, touched if request.prefer.count else None)]
    if request.prefer.returned == "headers-only" and key:
        where = urlencode({column: f"eq.{value}" for column, value in key.items()})
        headers.append(_header("location", f"/{quote(request.table)}?{where}"))
    applied = _applied(request.prefer, "resolution", "missing", "return", "count", "handling")
    return _written(request, 200 if only_merged else 201, (*headers, *applied), rows)


def changed_reply(request: Request, rows: list[Row], touched: int) -> Reply:
    """Return the answer to an update or a delete."""
    total = touched if request.prefer.count else None
    span = _content_range(0, touched, total) if request.verb == "update" else _content_range(1, 0, total)
    applied = _applied(request.prefer, "return", "count", "missing", "handling", "max-affected")
    return _written(request, 200 if request.prefer.returned == "representation" else 204, (span, *applied), rows)


def check_single(request: Request, found: int) -> None:
    """Make sure that there is one row where one object is asked for.

    Raises:
        DialectError: PGRST116, there are none or several.
    """
    if request.single and found != 1:
        message = "Cannot coerce the result to a single JSON object"
        raise DialectError("PGRST116", message, details=f"The result contains {found} rows")


def _written(request: Request, status: int, headers: tuple[Header, ...], rows: list[Row]) -> Reply:
    if request.prefer.returned == "representation":
        return _with_rows(request, status, headers, rows)
    return Reply(status=status, headers=headers)


def _with_rows(request: Request, status: int, headers: tuple[Header, ...], rows: list[Row]) -> Reply:
    media_type = _header("content-type", OBJECT_TYPE if request.single else JSON_TYPE)
    return Reply(status=status, headers=(media_type, *headers), body=_json(rows[0] if request.single else rows))


def _content_range(first: int, count: int, total: int | None) -> Header:
    span = f"{first}-{first + count - 1}" if count and total != 0 else "*"
    return _header("content-range", f"{span}/{'*' if total is None else total}")


def _applied(prefer: Preferences, *names: str) -> tuple[Header, ...]:
    terms = [term for name in names for term in prefer.applied if term.partition("=")[0] == name]
    return (_header("preference-applied", ", ".join(terms)),) if terms else ()


def _header(name: str, value: str) -> Header:
    return name.encode(), value.encode("latin-1")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
