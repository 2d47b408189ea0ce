"""The body of a write: JSON bytes to rows of values by column, with what an absent column means decided."""

import json
import math
from typing import Final, NoReturn

from app.embedded.postgrest.column_types import Json
from app.embedded.postgrest.errors import DialectError

Fields = dict[str, Json]

# Largest body read. PostgREST sets none; ours only has to be far above any turn's rows.
MAX_BODY_BYTES: Final = 8 * 1024 * 1024


def parse_rows(body: bytes, columns: tuple[str, ...] | None, *, missing_default: bool) -> list[Fields]:
    """Return the rows of an insert. A column that a row leaves out gets its default.

    Args:
        body: one JSON object, or a list of them.
        columns: the `columns=` parameter: other keys are ignored, and absent ones are null unless `missing_default`.
        missing_default: whether `Prefer: missing=default` was sent.

    Raises:
        DialectError: PGRST102, it is not JSON, not objects, or without `columns` the objects have unlike keys.
    """
    document = _parse(body)
    rows = [_object(item) for item in (document if isinstance(document, list) else [document])]
    if columns is None:
        if any(row.keys() != rows[0].keys() for row in rows):
            raise DialectError("PGRST102", "All object keys must match")
        return rows
    if missing_default:
        return [{column: row[column] for column in columns if column in row} for row in rows]
    return [{column: row.get(column) for column in columns} for row in rows]


def parse_changes(body: bytes) -> Fields:
    """Return the columns that an update sets.

    Raises:
        DialectError: PGRST102, it is not one JSON object.
    """
    return _object(_parse(body))


def _parse(body: bytes) -> Json:
    try:
        document: Json = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise DialectError("PGRST102", "Empty or invalid json") from None
    if b"\\u" in body:  # the only way in for the two kinds of character that Postgres refuses
        _check_characters(document)
    return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DialectError("22003", f'"{text[:40]}" is out of range')
    return value


def _check_characters(document: Json) -> None:
    text = json.dumps(document, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        details = "Unicode high surrogate must be followed by a low surrogate, and only by one."
        raise DialectError("22P02", "invalid input syntax for type json", details=details) from None
    if _holds_nul(document):
        details = "\\u0000 cannot be converted to text."
        raise DialectError("22P05", "unsupported Unicode escape sequence", details=details)


def _holds_nul(document: Json) -> bool:
    if isinstance(document, dict):
        return any("\0" in key or _holds_nul(value) for key, value in document.items())
    if isinstance(document, list):
        return any(map(_holds_nul, document))
    return isinstance(document, str) and "\0" in document


def _object(item: Json) -> Fields:
    if not isinstance(item, dict):
        raise DialectError("PGRST102", "All object keys must match")
    return item
