"""HTTP/1.1 on one connection: Hypercorn's protocol, with guards against what a stranger may send.

Each guard names the defect it stands for and the version it was seen in; once Hypercorn does the thing by itself, the
guard's lines go and the test that proves it stays.

`_handle_events`    (Hypercorn 0.18) waited while a request was answered, and so never read the socket: a second
                    request on the line hid that the client had left
`_maybe_recycle`    (Hypercorn 0.18, quart-trio 0.12) the handler that sends the last byte is cancelled in it, which
                    left no keep-alive timer, and open what should have closed
`_take_request`     (Hypercorn 0.18) cleartext h2 cannot be switched off, and neither it nor websockets survive odd
                    input: nothing is upgraded here
`fault_of`          (Hypercorn 0.18) `http://[bad/`, and Content-Length beside Transfer-Encoding, went through
`stream_send`       (Hypercorn 0.18) closed after an answer without having said so
`_refuse`           (Hypercorn 0.18) answered with an empty body
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent, TaskGroup, WorkerContext

from app.deadlines import shielded
from app.edge.observe import REQUEST_ID
from app.edge.reply import edge_reply
from app.errors import CallerFault, Fault
from app.respond.language import Language, preferred_language

log = logging.getLogger(__name__)

LAST_STEP_S = 5.0
"""For letting go of a request that is answered. It waits for nothing but a send that may still be under way."""
VERSIONS = frozenset({b"1.0", b"1.1"})
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9_~-]{1,63}\.)*[A-Za-z0-9_~-]{0,63})(?::\d{1,5})?")
"""A name, an IPv4 or a bracketed IPv6 address, and perhaps a port (RFC 9112, 3.2); may be empty.

A name's parts are as long as DNS has them (RFC 1035, 2.3.4): routing fails on others (werkzeug 3.2).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The two ends of a connection, as host and port."""

    client: tuple[str, int] | None
    server: tuple[str, int] | None


class Http1(H11Protocol):
    """One connection's requests, one after the other.

    Args:
        ends: for the handlers to know.
        send: takes what is to be done with the connection.
        closing: whether answers should be the last ones of their connections.
        refused: told the code of each refusal.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        tasks: TaskGroup,
        ends: Ends,
        send: Callable[[Event], Awaitable[None]],
        *,
        closing: Callable[[], bool],
        refused: Callable[[str], None],
    ) -> None:
        state = ConnectionState({})
        super().__init__(app, config, context, tasks, state, False, ends.client, ends.server, send)
        self._closing = closing
        self._refused = refused
        self._parsing = trio.Lock()
        self._head_only = False
        self._gone = False
        self._kept = b""

    def bytes_ahead(self) -> int:
        """Return how much was received beyond the request that is being answered."""
        return len(self.connection.trailing_data[0]) if self.connection.their_state in _ALL_SENT else 0

    async def handle(self, event: Event) -> None:
        """Take what came, or that the connection ended; after a request that was the last or was broken, no more."""
        if isinstance(event, Closed):
            self._gone = True
        elif isinstance(event, RawData) and self.connection.their_state in _NOTHING_MORE:
            return
        await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what a handler says; an answer that will be the connection's last says so."""
        if isinstance(event, Response) and self._is_last():
            headers = [pair for pair in event.headers if pair[0].lower() != b"connection"]
            event = Response(event.stream_id, [*headers, (b"connection", b"close")], event.status_code)
        await super().stream_send(event)

    def _is_last(self) -> bool:
        """Whether the server drains, or is answering before the request has arrived in full."""
        return self._closing() or self.context.terminated.is_set() or self.connection.their_state is h11.SEND_BODY

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Send, but keep a head whose body comes with it: both in one packet, and one wake-up of the client less."""
        try:
            self._kept += self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if not (isinstance(event, h11.Response) and _tells_length(event)):
            data, self._kept = self._kept, b""
            await self.send(RawData(data))

    async def _maybe_recycle(self) -> None:
        with shielded(LAST_STEP_S) as step:
            await super()._maybe_recycle()
        if step.cancelled_caught:
            await self.send(Closed())
        elif self.connection.our_state is h11.IDLE and self.connection.trailing_data[0]:
            self.task_group.spawn(self._handle_events)  # not here: the request that just ended is being cancelled

    async def _handle_events(self) -> None:
        """Take what has arrived as far as it goes; one task at a time."""
        async with self._parsing:
            while await self._take_event():
                pass

    async def _take_event(self) -> bool:
        """Take one event; return whether there may be another."""
        if self.connection.their_state is h11.MUST_CLOSE:
            return False  # the client said that this was its last request: what follows it is nobody's
        await self._continue_if_asked()
        try:
            event = self.connection.next_event()
        except h11.RemoteProtocolError as error:
            what, _, _its_text = str(error).partition(":")  # the text may be a misspelt token's
            await self._refuse(_PARSE_FAULTS.get(error.error_status_hint, "bad_request"), what)
            return False
        if isinstance(event, h11.Request):
            await self.send(Updated(idle=False))
            return await self._take_request(event)
        if event is h11.PAUSED or event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
            return False
        if self.stream is None:
            return False
        if isinstance(event, h11.Data):
            await self.stream.handle(Body(stream_id=STREAM_ID, data=bytes(event.data)))
        elif isinstance(event, h11.EndOfMessage):
            await self.stream.handle(EndBody(stream_id=STREAM_ID))
        return True

    async def _continue_if_asked(self) -> None:
        if self.connection.they_are_waiting_for_100_continue:
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    async def _take_request(self, request: h11.Request) -> bool:
        if self._gone:  # asked here, where no more waiting lies between the question and the stream that can be told
            return False
        self._head_only = request.method == b"HEAD"
        fault = fault_of(request)
        if fault is not None:
            language = preferred_language(_header(request, b"accept-language").decode("latin-1"))
            await self._refuse(fault.code, fault.note, language, incoming_ids(request))
            return False
        target, headers = addressed(request)
        self.stream = HTTPStream(
            self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server, self.stream_send,
            STREAM_ID,
        )  # fmt: skip
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),  # as it came: to h11 a `head` is no HEAD, so it has a body
                raw_path=target,
                state=self.connection_state,
            )
        )
        return True

    async def _refuse(
        self, code: str, note: str, language: Language = "en", ids: tuple[str, str] | None = None
    ) -> None:
        """Answer with the problem, if an answer can still be given, and close."""
        self._refused(code)
        if self.connection.our_state is h11.SEND_BODY:
            return  # a handler answers what it could read of the request: as the last one, and in full
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            trace_id, request_id = ids or ("", "")
            reply = edge_reply(CallerFault(code, note), trace_id or secrets.token_hex(16), request_id, language)
            log.debug("request.refused", extra={"code": code, "note": note, "trace_id": reply.trace_id})
            headers = [*reply.headers, *self.config.response_headers("h11")]
            asked_head = self._head_only and self.connection.our_state is h11.SEND_RESPONSE
            body = [] if asked_head else [h11.Data(data=reply.body)]
            events = [h11.Response(status_code=reply.status, headers=headers), *body, h11.EndOfMessage()]
            # In one go: a handler may be about to answer the part of the request that could be read.
            await self.send(RawData(b"".join(self.connection.send(event) or b"" for event in events)))
        await self.send(Closed())


_ALL_SENT = {h11.DONE, h11.MIGHT_SWITCH_PROTOCOL}  # type: ignore[attr-defined]  # missing in `__all__` of h11 0.16
"""A request has come in full; the second: one with a wish to upgrade, or a CONNECT."""
_NOTHING_MORE = {h11.MUST_CLOSE, h11.ERROR}
_TRACEPARENT = re.compile(rb"00-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_PARSE_FAULTS = {431: "headers_too_large", 501: "not_implemented"}


def fault_of(request: h11.Request) -> Fault | None:
    """Return why a request that h11 could parse is refused all the same, or None."""
    names = {name for name, _value in request.headers}
    if request.http_version not in VERSIONS:
        return CallerFault("http_version", f"HTTP/{request.http_version.decode()}")
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        return CallerFault("bad_request", "Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    if not HOST.fullmatch(_header(request, b"host")):
        return CallerFault("bad_request", "Host")
    if request.target.startswith(b"/") or (request.target == b"*" and request.method == b"OPTIONS"):
        return None
    try:
        parts = urlsplit(request.target)
        whole = parts.scheme in {b"http", b"https"} and parts.hostname and HOST.fullmatch(parts.netloc)
    except ValueError:
        whole = False
    return None if whole else CallerFault("bad_request", "target")


def _tells_length(response: h11.Response) -> bool:
    return any(name == b"content-length" and value != b"0" for name, value in response.headers)


def addressed(request: h11.Request) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return a request's path with its query, and its headers; an absolute target names the host (RFC 9112, 3.2.2)."""
    headers = list(request.headers)
    if request.target.startswith(b"/") or request.target == b"*":
        return request.target, headers
    parts = urlsplit(request.target)
    query = b"?" + parts.query if parts.query else b""
    others = [pair for pair in headers if pair[0] != b"host"]
    return (parts.path or b"/") + query, [(b"host", parts.netloc), *others]


def incoming_ids(request: h11.Request) -> tuple[str, str]:
    """Return the trace id and the request id that came with a request; empty where there is none, or no proper one."""
    traced = _TRACEPARENT.fullmatch(_header(request, b"traceparent"))
    asked = _header(request, b"x-request-id").decode("latin-1")
    return traced[1].decode() if traced else "", asked if REQUEST_ID.fullmatch(asked) else ""


def _header(request: h11.Request, wanted: bytes) -> bytes:
    return next((value for name, value in request.headers if name == wanted), b"")
