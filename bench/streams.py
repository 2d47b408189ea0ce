"""The load of streams, a process of its own: `python -m bench.streams '{"url": ..., ...}'` prints one JSON object.

Streams are opened one by one and held open: their answers, paced by the stand-ins (bench/paced.py), go on until told to
end. Then others begin beside them, a Poisson process, and are timed from the request to the first piece of text, less
what the stand-ins take on purpose. At last the tokens come faster, step by step, until the server no longer keeps up:
under 95 % of what was sent in a step came out, or the text was half a second late at its end.

Tokens are counted, not pieces: a server may hand on several as one. Every stream must end complete, and every token of
every answer must have come.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import cast
from urllib.parse import urlsplit

import uvloop  # type: ignore[import-not-found]  # in .venv-bench

from bench import bodies, system
from bench.stream_values import Step, StreamPlan, StreamResult

SETTLE_S = 1.0
PATIENCE_S = 90.0
SLOW = 0.25
"""Of the first rate: while streams are opened or ended, which is work enough."""
TEXT, FINISHED, ENDED = b'"type":"text-delta"', b'"type":"finish"', b"data: [DONE]\n\n\r\n0\r\n\r\n"
TAIL = 4096
"""Bytes of an answer's end that are looked at: the last text and the message's metadata."""


@dataclass
class Tally:
    """Of all streams: what has come, seconds to the first text of each, and what went wrong."""

    tokens: int = 0
    pieces: int = 0
    ended: int = 0
    first_s: list[float] = field(default_factory=list)
    problem: str = ""


class Stream(asyncio.Protocol):
    """One turn's stream, on a connection of its own."""

    def __init__(self, tally: Tally, request: bytes) -> None:
        self._tally, self._request = tally, request
        self._tail, self._begun, self._ended = b"", False, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._started = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        tally = self._tally
        tally.tokens += data.count(bodies.TICK)
        tally.pieces += data.count(TEXT)
        self._tail = (self._tail + data)[-TAIL:]
        if not self._begun and TEXT in self._tail:
            self._begun = True
            tally.first_s.append(time.perf_counter() - self._started)
        if self._tail.endswith(ENDED) and bodies.MARK in self._tail and FINISHED in self._tail:
            self._ended = True
            tally.ended += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            said = " ".join(self._tail[-600:].decode(errors="replace").split())
            self._tally.problem = self._tally.problem or f"a stream broke off ({exc}): {said}"


class Control:
    """Sets the stand-ins' pace, over a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def tell(self, **settings: float) -> int:
        """Set what is given; return how many tokens have been sent."""
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        self._writer.write(f"PUT /control?{query} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(json.loads(await self._reader.readexactly(length))["tokens"])

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@dataclass
class Reading:
    """How it stood at a moment."""

    at: float
    sent: int
    tokens: int
    pieces: int
    cpu_s: float


class Streams:
    """The streams of a plan. Its methods are called in their order."""

    def __init__(self, plan: StreamPlan, control: Control) -> None:
        self._plan, self._control = plan, control
        self._tally = Tally()
        address = urlsplit(plan.url)
        self._host, self._port = str(address.hostname), int(address.port or 80)
        self._opened: list[asyncio.Transport] = []
        self._slow = {"per_s": SLOW * plan.rates[0] / plan.streams}
        self._sent_before = 0

    async def open(self) -> None:
        """Open the streams that stay open, evenly over the ramp, and wait until each has text."""
        plan = self._plan
        delays = {"database": plan.database_s, "first_s": plan.first_s}
        self._sent_before = await self._control.tell(**delays, **self._slow, tokens=0, end=0)
        start = time.perf_counter()
        for number in range(plan.streams):
            await asyncio.sleep(max(0.0, start + number * plan.ramp_s / plan.streams - time.perf_counter()))
            await self._open_one(number)
        await self._until(lambda: len(self._tally.first_s) == plan.streams, "text of each stream")
        gc.collect()
        gc.freeze()

    async def begin_more(self) -> tuple[list[float], Step]:
        """Begin short streams beside the others; return what the server added to each first text, and how all went."""
        plan, draws = self._plan, random.Random(1)
        await self._control.tell(per_s=plan.rates[0] / plan.streams, tokens=plan.begun_tokens)
        await asyncio.sleep(SETTLE_S)
        before, first, number = await self._read(), len(self._tally.first_s), 0
        at = before.at
        while (at := at + draws.expovariate(plan.begun_per_s)) < before.at + plan.begun_s:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            await self._open_one(number)
            number += 1
        step = replace(self._step(plan.rates[0], before, await self._read()), with_turns=True)
        if not step.kept_up:
            await self._control.tell(**self._slow)
        await self._until(lambda: self._tally.ended == number, "end of the streams that were begun")
        meant_s = plan.database_s + plan.first_s
        return [1e3 * (seconds - meant_s) for seconds in self._tally.first_s[first:]], step

    async def faster(self) -> list[Step]:
        """Raise the rate step by step, until the server or the stand-ins no longer keep up."""
        steps: list[Step] = []
        for rate in self._plan.rates[1:]:
            step = await self._at(rate)
            if not step.kept_up:  # once more: it may have been a neighbour of the machine's
                step = await self._at(rate)
            steps.append(step)
            if not (step.kept_up and step.was_sent):
                break
        return steps

    async def _at(self, rate: float) -> Step:
        await self._control.tell(per_s=rate / self._plan.streams)
        await asyncio.sleep(SETTLE_S)
        before = await self._read()
        await asyncio.sleep(self._plan.step_s)
        return self._step(rate, before, await self._read())

    async def end(self) -> int:
        """End every stream; return how many tokens there were, once all of them have come.

        Raises:
            RuntimeError: some never came, or not every stream ended complete.
        """
        streams = len(self._opened)
        await self._control.tell(**self._slow, end=1)
        await self._until(lambda: self._tally.ended == streams, "end of every stream")
        sent = await self._control.tell(per_s=0, end=0, database=0) - self._sent_before
        if sent != self._tally.tokens:
            raise RuntimeError(f"{sent} tokens were sent, {self._tally.tokens} came")
        return sent

    def close(self) -> None:
        """Close what is open."""
        for transport in self._opened:
            transport.abort()

    async def _open_one(self, user: int) -> None:
        request = bodies.turn_request(user, "general", "/chat/stream")
        _, stream = await asyncio.get_running_loop().create_connection(
            lambda: Stream(self._tally, request), self._host, self._port
        )
        self._opened.append(stream.transport)

    async def _read(self) -> Reading:
        sent = await self._control.tell() - self._sent_before
        tally = self._tally
        return Reading(time.perf_counter(), sent, tally.tokens, tally.pieces, system.cpu_s(self._plan.pids))

    def _step(self, rate: float, before: Reading, after: Reading) -> Step:
        seconds = after.at - before.at
        sent_per_s = (after.sent - before.sent) / seconds
        return Step(
            wanted_per_s=rate,
            sent_per_s=sent_per_s,
            delivered_per_s=(after.tokens - before.tokens) / seconds,
            pieces_per_s=(after.pieces - before.pieces) / seconds,
            late_ms=1e3 * max(0, after.sent - after.tokens) / max(1.0, sent_per_s),
            cpu=(after.cpu_s - before.cpu_s) / seconds,
        )

    async def _until(self, there: Callable[[], bool], what: str) -> None:
        give_up = time.perf_counter() + PATIENCE_S
        while not there():
            if self._tally.problem:
                raise RuntimeError(self._tally.problem)
            if time.perf_counter() > give_up:
                raise RuntimeError(f"waited {PATIENCE_S} s for the {what}, in vain: {self._tally.ended} ended")
            await asyncio.sleep(0.02)


async def run(plan: StreamPlan) -> StreamResult:
    """Open the streams, time others beside them, find where the server no longer keeps up, end them all."""
    upstream = urlsplit(plan.upstream)
    control = Control(*await asyncio.open_connection(upstream.hostname, upstream.port))
    streams, rss_before_mb = Streams(plan, control), system.rss_mb(plan.pids)
    try:
        await streams.open()
        first_ms, step = await streams.begin_more()
        rss_mb = system.rss_mb(plan.pids)
        steps = [step, *(await streams.faster() if step.kept_up else ())]
        tokens = await streams.end()
    finally:
        streams.close()
        control.close()
    ordered = sorted(first_ms)
    return StreamResult(
        streams=plan.streams,
        begun=len(ordered),
        first_p50=ordered[len(ordered) // 2],
        first_p99=ordered[int(0.99 * len(ordered))],
        rss_before_mb=rss_before_mb,
        rss_mb=rss_mb,
        tokens=tokens,
        steps=steps,
    )


def main() -> None:
    """Run the plan on the command line."""
    plan = StreamPlan(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(uvloop.run(run(plan)))))


if __name__ == "__main__":
    main()
