"""The column types: from a filter's text or a JSON value to what SQLite stores, and back to JSON.

Stored forms. boolean: 0 or 1. bigint: integer. text: text. uuid: lower case with hyphens. timestamptz: UTC with always
six digits of microseconds, so that the order of the texts is the order of the times. jsonb: its JSON text; a number is
stored as bytes, because a column that SQLite takes for numeric would turn the text `1.0` into 1.
"""

import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Literal, cast

from app.embedded.postgrest.errors import DialectError, unsupported

ColumnType = Literal["bigint", "boolean", "jsonb", "text", "timestamptz", "uuid"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Stored = None | int | float | str | bytes

# What a schema file may declare. SQLite counts rows only in a column that is declared exactly `integer primary key`.
DECLARED: Final[dict[str, ColumnType]] = {
    "bigint": "bigint",
    "integer": "bigint",
    "boolean": "boolean",
    "jsonb": "jsonb",
    "text": "text",
    "timestamptz": "timestamptz",
    "uuid": "uuid",
}
# As Postgres names them in messages.
LONG_NAMES: Final[dict[ColumnType, str]] = {"timestamptz": "timestamp with time zone"}

INTEGER: Final = re.compile(r"\s*([+-]?[0-9]+)\s*", re.ASCII)
BIGINT_DIGITS: Final = 19
UUID: Final = re.compile(r"\{?[0-9a-f]{4}(?:-?[0-9a-f]{4}){7}\}?", re.ASCII | re.IGNORECASE)
# Every way in which Postgres spells a boolean: each beginning of these words that fits only one of them.
TRUE: Final = frozenset({"1", "on", "t", "tr", "tru", "true", "y", "ye", "yes"})
FALSE: Final = frozenset({"0", "of", "off", "f", "fa", "fal", "fals", "false", "n", "no"})
TIME: Final = re.compile(
    r"\s*(\d{4})-(\d\d?)-(\d\d?)(?:[T ]+(\d\d?):(\d\d)(?::(\d\d)(?:\.(\d{1,12}))?)?)?"
    r"\s*(Z|UTC|[+-]\d\d?(?::?\d\d)?)?\s*",
    re.ASCII | re.IGNORECASE,
)


def from_text(kind: ColumnType, text: str) -> Stored:
    """Return the stored form of `text`, as Postgres's input function of the type reads it.

    Raises:
        DialectError: 22P02, 22003, 22007 or 22008, it is no value of the type; PGRST127, the type is jsonb.
    """
    return FROM_TEXT[kind](text)


def from_json(kind: ColumnType, value: Json) -> Stored:
    """Return the stored form of a value of a JSON body; null is SQL's NULL for every type.

    Raises:
        DialectError: as `from_text`; PGRST127, a fraction, list or object for a column of texts.
    """
    if value is None:
        return None
    if kind == "jsonb":
        return _stored_json(value)
    if isinstance(value, str):
        return from_text(kind, value)
    if isinstance(value, bool):
        return from_text(kind, "true" if value else "false")
    if isinstance(value, int):
        return from_text(kind, str(value))
    if kind == "text":  # Postgres would keep the caller's spelling, which is gone by now
        raise unsupported("A fraction, list or object in a column of type text is")
    raise _invalid(kind, json.dumps(value, ensure_ascii=False))


def to_json(kind: ColumnType, stored: Stored) -> Json:
    """Return the JSON value of what a column of type `kind` holds."""
    show = TO_JSON.get(kind)
    return cast("Json", stored) if show is None or stored is None else show(stored)


def _stored_json(value: Json) -> Stored:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return text.encode() if number else text


def _text(text: str) -> str:
    return text


def _bigint(text: str) -> int:
    found = INTEGER.fullmatch(text)
    if found is None:
        raise _invalid("bigint", text)
    digits = found[1].lstrip("+-").lstrip("0")
    value = int(found[1]) if len(digits) <= BIGINT_DIGITS else 2**63
    if not -(2**63) <= value < 2**63:
        raise DialectError("22003", f'value "{text}" is out of range for type bigint')
    return value


def _boolean(text: str) -> int:
    word = text.strip().lower()
    if word not in TRUE | FALSE:
        raise _invalid("boolean", text)
    return int(word in TRUE)


def _uuid(text: str) -> str:
    if not UUID.fullmatch(text) or text.startswith("{") != text.endswith("}"):
        raise _invalid("uuid", text)
    return str(uuid.UUID(text))


def _timestamptz(text: str) -> str:
    found = TIME.fullmatch(text)
    if found is None or (found[4] is None and "-" in (found[8] or "")):  # a date and `-04` are not told apart
        raise _invalid("timestamptz", text, code="22007")
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=_zone(found[8]))
        moment = (local + timedelta(microseconds=_microseconds(found[7]))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise DialectError("22008", f'date/time field value out of range: "{text}"') from None
    return moment.isoformat(timespec="microseconds")


def _zone(text: str | None) -> timezone:
    if text is None or text.upper() in ("Z", "UTC"):
        return UTC
    digits = text[1:].replace(":", "")
    hours, minutes = (int(digits[:-2]), int(digits[-2:])) if len(digits) > 2 else (int(digits), 0)
    if hours > 15 or minutes > 59:  # Postgres's own bound
        raise ValueError(text)
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text.startswith("-") else offset)


def _microseconds(fraction: str | None) -> int:
    return round(int(fraction) / 10 ** (len(fraction) - 6)) if fraction else 0


def _document(stored: Stored) -> Json:
    document: Json = json.loads(stored) if isinstance(stored, str | bytes) else stored
    return document


def _shown_time(stored: Stored) -> str:
    stored = str(stored)
    moment, zone = stored[:-6], stored[-6:]
    return (moment.rstrip("0").rstrip(".") if "." in moment else moment) + zone


def _jsonb(text: str) -> Stored:
    raise unsupported("Comparing a value of type jsonb is")


def _invalid(kind: ColumnType, text: str, code: str = "22P02") -> DialectError:
    return DialectError(code, f'invalid input syntax for type {LONG_NAMES.get(kind, kind)}: "{text}"')


FROM_TEXT: Final[dict[ColumnType, Callable[[str], Stored]]] = {
    "bigint": _bigint,
    "boolean": _boolean,
    "jsonb": _jsonb,
    "text": _text,
    "timestamptz": _timestamptz,
    "uuid": _uuid,
}
# The types that are not stored as JSON shows them.
TO_JSON: Final[dict[ColumnType, Callable[[Stored], Json]]] = {
    "boolean": bool,
    "jsonb": _document,
    "timestamptz": _shown_time,
}
