"""From method, path, query string and headers to a `Request`; pure, and `DialectError` is all it ever raises."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from app.embedded.postgrest.errors import DialectError, unsupported
from app.embedded.postgrest.filters import parse_condition, parse_group
from app.embedded.postgrest.preferences import (
    Headers,
    check_content_type,
    check_profile,
    parse_prefer,
    parse_range,
    wants_single,
)
from app.embedded.postgrest.request import Condition, Group, Ordering, Request, Selection, Verb
from app.embedded.postgrest.scanner import Scanner
from app.embedded.postgrest.selection import EVERYTHING, parse_names, parse_order, parse_select

PREFIX: Final = "/rest/v1/"
VERBS: Final[dict[str, Verb]] = {
    "GET": "read",
    "HEAD": "read",
    "POST": "insert",
    "PATCH": "update",
    "DELETE": "delete",
}
# Bounds, so that no query string can make SQLite's parser or our recursion fail. SQLite's expression depth is 1000.
MAX_QUERY_BYTES: Final = 256 * 1024
MAX_PARAMETERS: Final = 200
MAX_CONDITIONS: Final = 400
MAX_OPERANDS: Final = 10_000

ONCE: Final = frozenset({"select", "columns", "on_conflict"})
MEANT_FOR: Final[dict[str, frozenset[Verb]]] = {
    "columns": frozenset({"insert"}),
    "on_conflict": frozenset({"insert"}),
}
INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)

Path = tuple[str, ...]


@dataclass(slots=True)
class _Clauses:
    """What the query string says about the rows of one table, the root's or an embedded one's."""

    filters: list[Condition | Group] = field(default_factory=list)
    ordering: tuple[Ordering, ...] | None = None
    limit: int | None = None
    offset: int | None = None


def parse_request(method: str, path: str, query: bytes, raw_headers: Iterable[tuple[bytes, bytes]]) -> Request:
    """Return the request.

    Args:
        method: as in HTTP, upper case.
        path: decoded, from the root.
        query: the raw query string without its question mark.
        raw_headers: names and values as ASGI hands them over.

    Raises:
        DialectError: it is not a request of this dialect.
    """
    headers = Headers(raw_headers)
    parameters = _parameters(query)
    verb = VERBS.get(method)
    table = _table(path, parameters, verb)
    if verb is None:
        raise DialectError("PGRST117", f"Unsupported HTTP method: {method}")
    check_profile(headers, verb)
    if verb in ("insert", "update"):
        check_content_type(headers.get("content-type"))
    once, clauses = _sort(parameters, verb)
    if verb != "read":
        _refuse_page(clauses[()])
    elif method == "GET":
        _apply_range(clauses[()], headers.get("range"))
    return Request(
        verb=verb,
        table=table,
        selection=_selection(parse_select(once["select"]) if "select" in once else EVERYTHING, clauses),
        prefer=parse_prefer(headers.get("prefer")),
        single=wants_single(headers.get("accept")),
        columns=_names(once, "columns"),
        on_conflict=_names(once, "on_conflict"),
    )


def _parameters(query: bytes) -> list[tuple[str, str]]:
    if len(query) > MAX_QUERY_BYTES:
        raise DialectError("PGRST100", f"the query string is longer than {MAX_QUERY_BYTES} bytes", status=414)
    try:
        text = query.decode("utf-8")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise DialectError("22021", 'invalid byte sequence for encoding "UTF8"') from None
    except ValueError:
        raise DialectError("PGRST100", f"the query string has more than {MAX_PARAMETERS} parameters") from None


def _table(path: str, parameters: list[tuple[str, str]], verb: Verb | None) -> str:
    name = path.removeprefix(PREFIX)
    if name == path or not name:
        raise DialectError("PGRST125", "Invalid path specified in request URL")
    if name.startswith("rpc/"):
        words = sorted({key for key, _ in parameters}) if verb == "read" else []
        function = f"public.{name.removeprefix('rpc/')}({', '.join(words)})"
        raise DialectError("PGRST202", f"Could not find the function {function} in the schema cache")
    if "/" in name:
        raise DialectError("PGRST125", "Invalid path specified in request URL")
    return name


def _sort(parameters: list[tuple[str, str]], verb: Verb) -> tuple[dict[str, str], dict[Path, _Clauses]]:
    once: dict[str, str] = {}
    clauses: dict[Path, _Clauses] = {(): _Clauses()}
    for key, value in parameters:
        _refuse_nul(key, value)
        if key not in ONCE:
            path, negated, name = _key(key)
            _add(clauses.setdefault(path, _Clauses()), name, negated, value)
        elif key in once or verb not in MEANT_FOR.get(key, {verb}):
            raise DialectError("PGRST100", f"the parameter {key} is out of place or given twice")
        else:
            once[key] = value
    _check_size([part for clause in clauses.values() for part in clause.filters])
    return once, clauses


def _refuse_nul(*texts: str) -> None:
    if any("\0" in text for text in texts):
        raise DialectError("22021", 'invalid byte sequence for encoding "UTF8": 0x00')


def _key(text: str) -> tuple[Path, bool, str]:
    scanner = Scanner(text, "parameter name")
    names = [scanner.name()]
    while scanner.take("."):
        names.append(scanner.name())
    scanner.end()
    negated = len(names) > 1 and names[-2] == "not" and names[-1] in ("and", "or")
    return tuple(names[: -2 if negated else -1]), negated, names[-1]


def _add(clauses: _Clauses, name: str, negated: bool, value: str) -> None:
    if name in ("and", "or"):
        clauses.filters.append(parse_group("and" if name == "and" else "or", negated, value))
    elif name not in ("order", "limit", "offset"):
        clauses.filters.append(parse_condition(name, value))
    elif getattr(clauses, name if name != "order" else "ordering") is not None:
        raise DialectError("PGRST100", f"the parameter {name} is given twice")
    elif name == "order":
        clauses.ordering = parse_order(value)
    elif name == "limit":
        clauses.limit = _count(name, value)
    else:
        clauses.offset = _count(name, value)


def _count(name: str, text: str) -> int:
    if not INTEGER.fullmatch(text):
        raise DialectError("PGRST100", f"{name} is not an integer: {text[:40]}")
    if text.startswith("-"):
        details = f"{name.capitalize()} should be greater than or equal to zero."
        raise DialectError("PGRST103", "Requested range not satisfiable", details=details)
    return int(text)


def _check_size(filters: list[Condition | Group]) -> None:
    conditions, operands, waiting = 0, 0, filters
    while waiting:
        part = waiting.pop()
        if isinstance(part, Group):
            waiting.extend(part.parts)
        else:
            conditions, operands = conditions + 1, operands + len(part.operands)
    if conditions > MAX_CONDITIONS or operands > MAX_OPERANDS:
        raise DialectError("54000", "the filter is too large", status=400)


def _refuse_page(root: _Clauses) -> None:
    if (root.ordering, root.limit, root.offset) != (None, None, None):
        raise unsupported("order, limit or offset of a write is")


def _apply_range(root: _Clauses, text: str) -> None:
    offset, limit = parse_range(text)
    if (offset, limit) == (0, None):
        return
    if (root.limit, root.offset) != (None, None):
        raise unsupported("Range together with limit or offset is")
    root.offset, root.limit = offset, limit


def _selection(selection: Selection, clauses: dict[Path, _Clauses]) -> Selection:
    known: set[Path] = set()
    complete = _complete(selection, clauses, (), known)
    for path in clauses.keys() - known:
        message = f"'{'.'.join(path)}' is not an embedded resource in this request"
        hint = f"Verify that '{path[-1]}' is included in the 'select' query parameter."
        raise DialectError("PGRST108", message, hint=hint)
    return complete


def _complete(selection: Selection, clauses: dict[Path, _Clauses], path: Path, known: set[Path]) -> Selection:
    known.add(path)
    mine = clauses.get(path, _Clauses())
    embeds = (
        dataclasses.replace(embed, selection=_complete(embed.selection, clauses, (*path, embed.name), known))
        for embed in selection.embeds
    )
    return dataclasses.replace(
        selection,
        embeds=tuple(embeds),
        filters=tuple(mine.filters),
        ordering=mine.ordering or (),
        limit=mine.limit,
        offset=mine.offset or 0,
    )


def _names(once: dict[str, str], name: str) -> tuple[str, ...] | None:
    return parse_names(once[name], f"{name} parameter") if name in once else None
