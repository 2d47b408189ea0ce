"""The in-process transport: it streams both ways, makes the app wait for its reader, and cancels it. Virtual time."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.clients.in_process import AsgiApp, InProcessTransport, Message

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def piece(data: bytes, *, last: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": not last}


class Told:
    """An app that follows a script, with a record of what it got to, and of how it ended."""

    def __init__(self, script: Callable[[Receive, Send, "Told"], Awaitable[None]]) -> None:
        self._script = script
        self.notes: list[str] = []
        self.scope: Message = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        try:
            await self._script(receive, send, self)
            self.notes.append("returned")
        except BaseException as exc:
            errors = exc.split(trio.Cancelled)[1] if isinstance(exc, BaseExceptionGroup) else exc
            self.notes.append("cancelled" if errors is None or isinstance(exc, trio.Cancelled) else repr(errors))
            raise


def client_of(app: AsgiApp, nursery: trio.Nursery) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=InProcessTransport(app, nursery), base_url="http://app.test", timeout=None)


async def whole(client: httpx.AsyncClient, **request: Any) -> httpx.Response:
    """Post and read everything."""
    with trio.fail_after(10):
        return await client.post("/path", **request)


async def test_the_first_chunk_arrives_before_the_app_has_finished(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Status, then each chunk, are there at the moment the app sends them."""

    async def paced(_receive: Receive, send: Send, _told: Told) -> None:
        await trio.sleep(1)
        await send(START)
        for last in (False, False, True):
            await trio.sleep(1)
            await send(piece(b"x", last=last))

    times = []
    async with client_of(Told(paced), nursery).stream("GET", "/") as response:
        times.append(trio.current_time())
        times.extend([trio.current_time() async for _ in response.aiter_bytes()])
    assert times == pytest.approx([1, 2, 3, 4])


async def test_the_request_is_streamed_to_the_app(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """The app has the first piece of the body while the caller still makes the second."""
    seen: list[tuple[float, bytes, bool]] = []

    async def upload() -> AsyncIterator[bytes]:
        yield b"one"
        await trio.sleep(5)
        yield b"two"

    async def listening(receive: Receive, send: Send, _told: Told) -> None:
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            seen.append((trio.current_time(), message["body"], more))
        await send(START)
        await send(piece(b"", last=True))

    assert (await whole(client_of(Told(listening), nursery), content=upload())).status_code == 200
    assert seen == [(0, b"one", True), (5, b"two", True), (5, b"", False)]


async def test_an_answer_can_begin_before_the_request_is_read(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """An app that refuses early need not read the body, and the upload that nobody wants leaves no trace."""

    async def refusing(_receive: Receive, send: Send, _told: Told) -> None:
        await send({**START, "status": 413})
        await send(piece(b"too large", last=True))

    async def upload() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await trio.sleep(1)

    response = await whole(client_of(Told(refusing), nursery), content=upload())
    assert (response.status_code, response.text) == (413, "too large")


async def test_a_reader_that_stops_makes_the_app_wait(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Nothing is buffered: the app's second chunk is not out until the reader has asked for it."""

    async def eager(_receive: Receive, send: Send, told: Told) -> None:
        await send(START)
        for number in range(3):
            await send(piece(b"%d" % number, last=number == 2))
            told.notes.append(f"sent {number}")

    app = Told(eager)
    async with client_of(app, nursery).stream("GET", "/") as response:
        chunks = response.aiter_bytes()
        await wait_all_tasks_blocked()
        assert app.notes == []
        assert await anext(chunks) == b"0"
        await wait_all_tasks_blocked()
        assert app.notes == ["sent 0"]
        assert [chunk async for chunk in chunks] == [b"1", b"2"]
    await wait_all_tasks_blocked()
    assert app.notes == ["sent 0", "sent 1", "sent 2", "returned"]


async def sending_for_ever(_receive: Receive, send: Send, _told: Told) -> None:
    await send(START)
    while True:
        await send(piece(b"x"))


async def stalling(_receive: Receive, send: Send, _told: Told) -> None:
    await send(START)
    await send(piece(b"x"))
    await trio.sleep_forever()


async def waiting_for_the_client_to_leave(receive: Receive, send: Send, _told: Told) -> None:
    await send(START)
    await send(piece(b"x"))
    while True:
        await receive()


async def sending_in_a_nursery(receive: Receive, send: Send, told: Told) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await sending_for_ever(receive, send, told)


@pytest.mark.parametrize("script", [sending_for_ever, stalling, waiting_for_the_client_to_leave, sending_in_a_nursery])
async def test_closing_the_response_cancels_the_app(
    script: Callable[[Receive, Send, Told], Awaitable[None]],
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the app waits for, it is cancelled when the reader leaves, and that is nothing to log."""
    app = Told(script)
    with trio.CancelScope() as reader:
        async with client_of(app, nursery).stream("GET", "/") as response:
            async for _ in response.aiter_raw():
                reader.cancel()
    assert reader.cancelled_caught
    await wait_all_tasks_blocked()
    assert app.notes == ["cancelled"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert not [task for task in nursery.child_tasks if "_Call" in task.name]


async def test_a_response_may_be_closed_unread_and_twice(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """The first time cancels the app, which nobody has listened to; the second time there is nothing left to cancel."""
    app = Told(sending_for_ever)
    async with client_of(app, nursery).stream("GET", "/") as response:
        await response.stream.aclose()  # type: ignore[union-attr]  # httpx types it for both worlds
        await wait_all_tasks_blocked()
        assert app.notes == ["cancelled"]
        await response.aclose()
    assert response.is_closed


async def test_what_the_app_does_after_its_answer_goes_on_until_it_is_closed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The end of the body is not the end of the app, but closing the response is."""

    async def lingering(_receive: Receive, send: Send, _told: Told) -> None:
        await send(START)
        await send(piece(b"all", last=True))
        await trio.sleep_forever()

    app = Told(lingering)
    assert (await whole(client_of(app, nursery))).text == "all"
    await wait_all_tasks_blocked()
    assert app.notes == ["cancelled"]


async def failing_before(_receive: Receive, _send: Send, _told: Told) -> None:
    raise KeyError("bug")


async def returning_before(_receive: Receive, _send: Send, _told: Told) -> None:
    return


async def failing_after(_receive: Receive, send: Send, _told: Told) -> None:
    await send(START)
    await send(piece(b"half"))
    raise KeyError("bug")


async def returning_after(_receive: Receive, send: Send, _told: Told) -> None:
    await send(START)
    await send(piece(b"half"))


async def returning_after_start(_receive: Receive, send: Send, _told: Told) -> None:
    await send(START)


@pytest.mark.parametrize(
    ("script", "logged"),
    [
        (failing_before, ["embedded.failed"]),
        (returning_before, []),
        (failing_after, ["embedded.failed"]),
        (returning_after, []),
        (returning_after_start, []),
    ],
)
async def test_an_app_that_breaks_off_is_a_protocol_error(
    script: Callable[[Receive, Send, Told], Awaitable[None]],
    logged: list[str],
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As over a socket: no answer, or half of one, is `RemoteProtocolError`; a bug is logged and ends nothing else."""
    client = client_of(Told(script), nursery)
    with pytest.raises(httpx.RemoteProtocolError):
        await whole(client)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == logged
    assert not nursery.cancel_scope.cancel_called


async def test_what_came_before_the_break_is_read(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """The reader has the half that was sent before it learns that there is no more."""
    read = []

    async def reading() -> None:
        async with client_of(Told(returning_after), nursery).stream("GET", "/") as response:
            async for chunk in response.aiter_bytes():
                read.append(chunk)

    with pytest.raises(httpx.RemoteProtocolError):
        await reading()
    assert read == [b"half"]


async def test_waiting_for_the_client_to_leave_does_not_spin(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """After the body, `receive` waits: there is no end of messages that say nothing."""
    heard: list[str] = []

    async def listening(receive: Receive, send: Send, _told: Told) -> None:
        await send(START)
        while True:
            heard.append((await receive())["type"])

    async with client_of(Told(listening), nursery).stream("POST", "/", content=b"body"):
        await trio.sleep(100)
    assert heard == ["http.request", "http.request"]


async def test_a_closed_nursery_is_a_connect_error(autojump_clock: MockClock) -> None:
    """When the service's tasks have ended, it is as unreachable as a closed port."""
    async with trio.open_nursery() as ended:
        client = client_of(Told(stalling), ended)
    with pytest.raises(httpx.ConnectError):
        await whole(client)


async def test_a_service_that_is_cancelled_breaks_its_answers_off(autojump_clock: MockClock) -> None:
    """Ending the service's nursery ends what it was answering, as the end of a server would."""
    async with trio.open_nursery() as caller, trio.open_nursery() as service:
        app = Told(stalling)

        async def read() -> None:
            with pytest.raises(httpx.RemoteProtocolError):
                await whole(client_of(app, service))

        caller.start_soon(read)
        await wait_all_tasks_blocked()
        service.cancel_scope.cancel()
    assert app.notes == ["cancelled"]


async def test_a_caller_cancelled_before_the_headers_cancels_the_app(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A caller whose deadline comes while the app still thinks leaves no task behind."""

    async def thinking(_receive: Receive, _send: Send, _told: Told) -> None:
        await trio.sleep_forever()

    app = Told(thinking)
    with trio.move_on_after(2) as scope:
        await whole(client_of(app, nursery))
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert app.notes == ["cancelled"]
    assert trio.current_time() == 2


async def test_the_app_sees_the_request_as_a_server_would_show_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Method, decoded and raw path, query, lower-case header names; and the response's headers and status come back."""

    async def answering(_receive: Receive, send: Send, _told: Told) -> None:
        await send({**START, "status": 418, "headers": [(b"x-one", b"1"), (b"x-one", b"2")]})
        await send(piece(b"tea", last=True))

    app = Told(answering)
    url = "http://app.test:81/a%20b/%E3%81%82?q=x%20y&z="
    response = await client_of(app, nursery).patch(url, headers={"X-Key": "v"}, content=b"")
    assert (response.status_code, response.text) == (418, "tea")
    assert response.headers.get_list("x-one") == ["1", "2"]
    scope = app.scope
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("PATCH", "/a b/あ", b"/a%20b/%E3%81%82")
    assert (scope["query_string"], scope["server"], scope["scheme"]) == (b"q=x%20y&z=", ("app.test", 81), "http")
    assert (b"x-key", b"v") in scope["headers"]
    assert (b"host", b"app.test:81") in scope["headers"]
