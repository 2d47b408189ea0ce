"""A database host that fails as hosted ones do: the embedded dialect over a SQLite file, on a socket of its own.

A test sets its `Weather`: whether connections are taken at all, and which faults befall reads and writes, each with its
probability (1.0 is a switch; the draws come from the host's seed). The host lives in the test's process, so it outlives
every kill of the server that it serves, and its SQLite file is what is judged at the end.

    slow             answered after `slow_s`
    dropped          not applied; the connection is cut
    unheard          not applied; no answer ever comes
    silent           applied; no answer ever comes
    cut              applied; the connection is cut before the answer
    torn             applied; the connection is cut within the answer
    gateway_timeout  applied; a gateway's 504 is the answer
    late             cut at once; applied after `late_s`, when the caller may have asked again long since
    twice            applied twice; the second answer is given
    all of REFUSALS  not applied; refused, as the table in `database_faults` says

A connection on which no answer ever comes is cut when the weather changes.
"""

import random
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import trio

from app.clients.in_process import InProcessTransport
from app.embedded.postgrest import open_embedded_supabase
from tests.clients.transport.servers import Peer, Seen
from tests.server.database_faults import FAULTS, Course, Weather, as_bytes

WAIT_S = 20.0


class FaultyDatabase:
    """The host, for a test that is a task of the same Trio loop; `hits` counts what befell requests so far.

    `requests` is how many it has read, whatever became of them.
    """

    def __init__(self, inner: httpx.AsyncClient, nursery: trio.Nursery, seed: int) -> None:
        self.hits: Counter[str] = Counter()
        self.requests = 0
        self.weather = Weather()
        self._inner = inner
        self._nursery = nursery
        self._random = random.Random(seed)
        self._reserved = _bound(0)
        self._port: int = self._reserved.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._listening: trio.CancelScope | None = None
        self._closed = trio.Event()
        self._peers: set[Peer] = set()
        self._held: set[Peer] = set()
        self._under_way = 0
        self._changed = trio.Condition()

    async def become(self, weather: Weather) -> None:
        """Behave so from now on; what waits in vain is cut, and everything is unless the door stays open."""
        self.weather = weather
        for peer in list(self._held if weather.door == "open" else self._peers):
            _cut(peer)
        if weather.door == "refused":
            await self._stop_listening()
        elif self._listening is None:
            await self._nursery.start(self._listen)

    async def drained(self) -> None:
        """Take no more connections, and wait until all are closed by their clients and everything is applied."""
        await self._stop_listening()
        with trio.fail_after(WAIT_S):
            async with self._changed:
                while self._peers or self._under_way:
                    await self._changed.wait()

    def close(self) -> None:
        """Let go of the port."""
        self._reserved.close()

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await self._closed.wait()
            self._listening = None

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        """Serve; the port stays ours while nobody listens on it, so that it refuses and can be opened again."""
        self._closed = trio.Event()
        with trio.CancelScope() as self._listening:
            listening = trio.socket.from_stdlib_socket(_bound(self._port))
            listening.listen(128)
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(listening)], handler_nursery=self._nursery)
        self._closed.set()

    async def _serve(self, stream: trio.SocketStream) -> None:
        peer = Peer(0, stream, stream)
        self._peers.add(peer)
        try:
            if self.weather.door == "closed":
                self.hits["closed"] += 1
                _cut(peer)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while (seen := await peer.request()) is not None:
                    self.requests += 1
                    await self._befall(peer, seen)
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()
                await self._note(peer)

    async def _befall(self, peer: Peer, seen: Seen) -> None:
        name = self.weather.fault(seen.method, self._random.random())
        if name is not None:
            self.hits[name] += 1
        course = FAULTS[name] if name is not None else Course()
        if course.later:
            self._nursery.start_soon(self._apply_late, seen, self.weather.late_s)
        else:
            await self._answer(peer, seen, course)
        if course.then == "cut":
            _cut(peer)

    async def _answer(self, peer: Peer, seen: Seen, course: Course) -> None:
        if course.slow:
            await trio.sleep(self.weather.slow_s)
        answer = course.instead
        for _ in range(course.applied):
            own = await self._apply(seen)
            answer = course.instead or own
        if course.then == "hold":
            self._held.add(peer)
            await peer.closed()
        elif course.then in ("answer", "tear"):
            assert answer is not None
            data = as_bytes(answer)
            await peer.send(data if course.then == "answer" else data[: self._random.randrange(1, len(data))])
            if course.then == "tear":
                _cut(peer)

    async def _apply(self, seen: Seen) -> httpx.Response:
        """Have the real thing answer; nothing that happens to the caller's connection interrupts it."""
        self._under_way += 1
        try:
            return await self._inner.request(seen.method, seen.target, headers=seen.headers, content=seen.body)
        finally:
            self._under_way -= 1

    async def _apply_late(self, seen: Seen, late_s: float) -> None:
        self._under_way += 1
        await trio.sleep(late_s)
        await self._apply(seen)
        self._under_way -= 1
        await self._note()

    async def _note(self, gone: Peer | None = None) -> None:
        async with self._changed:
            if gone is not None:
                self._peers.discard(gone)
                self._held.discard(gone)
            self._changed.notify_all()


def _cut(peer: Peer) -> None:
    if peer.raw.socket.fileno() != -1:  # it may have been cut already
        peer.reset()


def _bound(port: int) -> socket.socket:
    """Return a socket that is bound to a port of loopback, of which there may be several."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


@asynccontextmanager
async def open_faulty_database(path: Path, seed: int = 0) -> AsyncIterator[FaultyDatabase]:
    """Serve the database at `path`, well at first, in this Trio loop; `SUPABASE_URL` is its URL."""
    async with open_embedded_supabase(path) as app, trio.open_nursery() as nursery:
        transport = InProcessTransport(app, nursery)
        async with httpx.AsyncClient(transport=transport, base_url="http://embedded", trust_env=False) as inner:
            host = FaultyDatabase(inner, nursery, seed)
            await host.become(Weather())
            try:
                yield host
            finally:
                host.close()
                nursery.cancel_scope.cancel()


class RemoteFaultyDatabase:
    """The host in a thread of its own, for a test that has no Trio loop."""

    def __init__(self, host: FaultyDatabase, token: trio.lowlevel.TrioToken) -> None:
        self._host = host
        self._token = token
        self.url = host.url

    @property
    def hits(self) -> Counter[str]:
        """What befell requests so far."""
        return self._host.hits

    def become(self, weather: Weather) -> None:
        """Behave so from now on."""
        trio.from_thread.run(self._host.become, weather, trio_token=self._token)


@contextmanager
def faulty_database(path: Path, seed: int = 0) -> Iterator[RemoteFaultyDatabase]:
    """Serve the database at `path` from a thread with a Trio loop of its own, which has ended afterwards."""
    ready, hosts, stop = threading.Event(), list[RemoteFaultyDatabase](), trio.Event()

    async def main() -> None:
        async with open_faulty_database(path, seed) as host:
            hosts.append(RemoteFaultyDatabase(host, trio.lowlevel.current_trio_token()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=partial(trio.run, main))
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield hosts[0]
    finally:
        for host in hosts:
            with suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(stop.set, trio_token=host._token)
        thread.join(WAIT_S)
    assert not thread.is_alive()
