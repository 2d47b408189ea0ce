"""The database, the model and the OTLP collector of the benchmark, in one fast process: `python -m bench.standin`.

Prints its URL, serves until stdin ends. Every body is built beforehand. `PUT /control?database=0.1&model=1` sets the
delays in seconds: of each database answer, and of a whole model answer (its first token comes after 30 % of it, the
rest in ten pieces). With `per_s=3` instead, model answers are paced (bench/paced.py); `first_s`, `tokens` and `end` say
how. `GET /control` tells how many model calls there were, how many rows were inserted, and how many tokens were paced.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import httptools
import uvloop  # type: ignore[import-not-found]  # in .venv-bench

from bench import bodies
from bench.paced import Pace, PacedAnswer, chunked

FIRST_TOKEN_SHARE, PARTS = 0.3, 10


def _answer(body: bytes, status: str = "200 OK", kind: str = "application/json; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"date: Mon, 05 Jan 2026 09:00:00 GMT\r\nserver: standin\r\n\r\n" + body


class Answers:
    """What is answered, when, and how often it was."""

    def __init__(self, tokens: int) -> None:
        self.delays = {"database": 0.0, "model": 0.0}
        self.counts = {"model": 0, "rows": 0}
        self.pace = Pace()
        chunks = [chunked(event) for event in bodies.events(tokens)] + [chunked(b"")]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
        head += b"x-request-id: req_bench\r\n\r\n"
        first, token, last = bodies.paced()
        self.paced = head + chunked(first), chunked(token), chunked(last) + chunked(b"")
        self.stream = head + b"".join(chunks)
        per_part = -(-len(chunks) // PARTS)
        cut = [b"".join(chunks[start : start + per_part]) for start in range(0, len(chunks), per_part)]
        self.parts = [head + cut[0], *cut[1:]]
        self.completion = _answer(bodies.completion())
        self.read = {
            "chat_conversations": _answer(bodies.history()),
            "projects": _answer(bodies.project()),
            "users": _answer(b'[{"id":"bench"}]'),
        }
        self.written = _answer(b"", "201 Created")

    def control(self, method: bytes, query: str) -> bytes:
        """Set delays and pace, or tell the counts."""
        if method == b"PUT":
            told = {name: float(value) for name, value in parse_qsl(query)}
            self.delays |= {name: told.pop(name) for name in self.delays if name in told}
            self.pace.set(**told)
        return _answer(json.dumps({**self.counts, "tokens": self.pace.sent}).encode())


class Connection(asyncio.Protocol):
    """One client's connection; requests are answered in order, one at a time, as HTTP/1.1 clients send them."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answers, method = self._answers, self._parser.get_method()
        path = self._url.decode()
        if path.startswith("/rest/v1/"):
            table = path[9:].partition("?")[0]
            if method == b"GET":
                self._later("database", answers.read[table])
            else:
                answers.counts["rows"] += self._body.count(b'"sender":')  # of a bulk, every one's
                self._later("database", answers.written)
        elif path.endswith("/chat/completions"):
            self._complete()
        elif path.startswith("/control"):
            self._write(answers.control(method, urlsplit(path).query))
        elif path.startswith("/v1/"):  # traces, metrics
            self._write(_answer(b"", kind="application/x-protobuf"))
        else:
            self._write(_answer(b"{}", "404 Not Found"))

    def _later(self, host: str, answer: bytes) -> None:
        delay = self._answers.delays[host]
        if delay:
            asyncio.get_running_loop().call_later(delay, self._write_if_open, answer)
        else:
            self._write(answer)

    def _complete(self) -> None:
        answers = self._answers
        answers.counts["model"] += 1
        if b'"stream":true' not in self._body.replace(b": ", b":"):
            self._later("model", answers.completion)
            return
        if answers.pace.per_s:
            PacedAnswer(self._transport, answers.pace, answers.paced).begin()
            return
        delay = answers.delays["model"]
        if not delay:
            self._write(answers.stream)
            return
        first = FIRST_TOKEN_SHARE * delay
        step = (delay - first) / (len(answers.parts) - 1)
        later: Callable[..., object] = asyncio.get_running_loop().call_later
        for number, part in enumerate(answers.parts):
            later(first + number * step, self._write_if_open, part)

    def _write_if_open(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._write(data)


async def serve(tokens: int) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    answers = Answers(tokens)
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=40)
    uvloop.run(serve(parser.parse_args().tokens))


if __name__ == "__main__":
    main()
