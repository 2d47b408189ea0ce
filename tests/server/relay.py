"""What stands before a neighbour and can fail as a network does: it passes on, hangs up at once, or says nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Mode = Literal["well", "down", "silent"]


class Relay:
    """A port of its own whose connections lead to `upstream`."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._mode: Mode = "well"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def become(self, mode: Mode) -> None:
        """Behave so from now on; what is open is cut."""
        with self._lock:
            self._mode = mode
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut everything and wait for the end."""
        self._ended = True
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self.become("down")
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _address = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, self._held(client):
            if self._mode == "silent":
                while client.recv(65_536):
                    pass
            if self._mode == "well":
                with socket.create_connection(self._upstream) as upstream, self._held(upstream):
                    back = threading.Thread(target=_pump, args=(upstream, client))
                    back.start()
                    _pump(client, upstream)
                    back.join()

    @contextmanager
    def _held(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(connection)
        try:
            yield
        except OSError:
            pass  # cut: that is what it is for
        finally:
            with self._lock:
                self._open.discard(connection)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """Relay to the host at `url` until the block ends."""
    host, _, port = url.removeprefix("http://").partition(":")
    relay = Relay((host, int(port)))
    try:
        yield relay
    finally:
        relay.close()
