"""Whether two callers saw the same, or which rows of the table allow that they did not."""

from dataclasses import replace

from tests.clients.differential.allowed import AGAIN, CLOSED, FAULTS, LAXER, LINE_ENDS, LOWERED, STRICTER, Row
from tests.clients.differential.exchange import Exchange

Rows = list[Row]


def allowed_rows(exchange: Exchange) -> Rows | None:
    """Return the rows that allow an exchange's differences, none where there are none; None for a fault."""
    content, connection = _content(exchange), _connection(exchange)
    if content is None or connection is None:
        return None
    return content + connection + [AGAIN] * exchange.again


def _content(exchange: Exchange) -> Rows | None:
    ours, theirs = exchange.ours, exchange.theirs
    if ours == theirs:
        return []
    rows: Rows = []
    if ours.status and theirs.status:
        lowered = tuple(
            (name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in ours.headers
        )
        if lowered != ours.headers:
            rows.append(LOWERED)
        if replace(ours, headers=lowered, body=b"", fault="") != replace(theirs, body=b"", fault=""):
            return None
    if not (ours.body.startswith(theirs.body) or theirs.body.startswith(ours.body)):
        return None
    if ours.fault and theirs.fault:
        more = [] if ours.fault == theirs.fault else _which(FAULTS, exchange)
    elif ours.fault:
        more = _which(STRICTER, exchange) if _may_refuse(exchange) else None
    elif theirs.fault:
        more = _which(LAXER, exchange)
    else:
        more = [] if ours.body == theirs.body else None
    return None if more is None else rows + more


def _may_refuse(exchange: Exchange) -> bool:
    ours, theirs, answer = exchange.ours, exchange.theirs, exchange.answer
    as_wrong = ours.fault == "RemoteProtocolError" or (ours.fault == "WriteError" and answer.deaf)
    return as_wrong and theirs.body.startswith(ours.body) and not answer.proper


def _connection(exchange: Exchange) -> Rows | None:
    ours, theirs = exchange.kept
    if ours:
        if not theirs:
            return [] if exchange.theirs.fault and not exchange.ours.fault else None
        return _which((LINE_ENDS,), exchange) if exchange.left else []
    if theirs and not exchange.ours.fault:
        return _which(CLOSED, exchange)
    return []


def _which(rows: tuple[Row, ...], exchange: Exchange) -> Rows | None:
    return [row for row in rows if row.applies(exchange)] or None
