"""What the edge's guards cost: `python -m bench.edge` (about two minutes; `--quick` about 20 s).

Requests per second of `GET /healthz` on kept-alive connections, and the server's CPU time per request. The same
application, observed, is served by `hypercorn.trio.serve` ("before") and by our own edge ("after"), each in a process
of its own; a third process asks: bare sockets, one request at a time on each. The two take turns, so that what else
the machine does meets both. Medians with quartiles, and ratios: of the medians, and of the best tenths ("quiet"), which
other programs disturb least. CPU time per request is the steadier figure.
"""

import argparse
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import IO, Any
from urllib.parse import urlsplit

import trio
from hypercorn.trio import serve as serve_plainly

from app import bootstrap
from app.edge.serve import DrainRules, _config, listener_url, open_listener
from app.settings import load_settings

ROOT = Path(__file__).parent.parent
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
KINDS = ("before", "after")
MANY = 16


@dataclass(frozen=True)
class Round:
    """One server's figures in one round."""

    per_s: float
    cpu_us: float
    p50_us: float


async def serve(kind: str, folder: str) -> None:
    """Serve until stdin ends; print the URL, and for each line that comes, the CPU seconds so far."""
    settings = load_settings(_env_file=None, bind="127.0.0.1:0", data_dir=folder, embedded_llm="scripted")
    providers = bootstrap._providers("bench", metrics=False)
    async with (
        trio.open_nursery() as nursery,
        bootstrap.open_database(settings, nursery, providers) as database,
        bootstrap.open_model(settings, nursery, providers) as model,
    ):
        parts = bootstrap.join(
            settings, providers, bootstrap.Resources(database=database, model=model), nursery, "bench"
        )
        if kind == "before":
            url = (await nursery.start(_serve_plainly, parts))[0]
        else:
            listener = open_listener("127.0.0.1", 0)
            await nursery.start(parts.edge.serve, parts.app, listener, _no_drain())
            url = listener_url(listener)
        _say(url)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            used = resource.getrusage(resource.RUSAGE_SELF)
            _say(used.ru_utime + used.ru_stime)
        nursery.cancel_scope.cancel()


async def _serve_plainly(
    parts: bootstrap.Parts, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
) -> None:
    config = _config()
    config.bind = ["127.0.0.1:0"]
    config.backlog = 1024
    config.keep_alive_max_requests = sys.maxsize  # it closes after 1,000, which would be measured as a new connection
    app: Any = parts.app
    await serve_plainly(app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status, mode="asgi")


def _no_drain() -> DrainRules:
    return DrainRules(grace_s=0, timeout_s=1, last_call_s=0.5, on_drain=lambda: None, on_last_call=lambda: None)


def _say(fact: object) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def load() -> None:
    """For each line of stdin (a URL, connections, requests), ask, and print the figures."""
    for line in sys.stdin:
        url, connections, requests = json.loads(line)
        _say(asked(url, connections, requests))


def asked(url: str, connections: int, requests: int) -> tuple[int, float, float]:
    """Return how many requests were answered, in how many seconds, and the median microseconds of one."""
    where = urlsplit(url)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(connections):
            one = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(one, selectors.EVENT_READ, one)
        size = _size(one)
        sent = dict.fromkeys((key.data for key in selector.get_map().values()), 0.0)
        times: list[float] = []
        begun = time.perf_counter()
        for each in sent:
            sent[each] = time.perf_counter()
            each.sendall(REQUEST)
        got = dict.fromkeys(sent, 0)
        while len(times) < requests:
            for key, _events in selector.select():
                each = key.data
                got[each] += len(each.recv(65_536))
                if got[each] == size:
                    got[each], now = 0, time.perf_counter()
                    times.append(now - sent[each])
                    sent[each] = now
                    each.sendall(REQUEST)
        took = time.perf_counter() - begun
    return len(times), took, median(times) * 1e6


def _size(one: socket.socket) -> int:
    """Return how long an answer is; all are of one length."""
    one.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b'{"status": "alive"}'):
        answer += one.recv(65_536)
    return len(answer)


class Child:
    """A process of this module that answers line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def hear(self) -> Any:
        """Return the next thing it says."""
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise SystemExit("a process of the benchmark ended early")
        return json.loads(line)

    def ask(self, *question: object) -> Any:
        """Say something, and return the answer."""
        pipe = _pipe(self._process.stdin)
        pipe.write(json.dumps(question) + "\n")
        pipe.flush()
        return self.hear()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextmanager
def child(*arguments: str) -> Iterator[Child]:
    """Run `python -m bench.edge` with arguments until the block ends."""
    command = [sys.executable, "-m", "bench.edge", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Child(process)
    finally:
        _pipe(process.stdin).close()
        process.wait()
        _pipe(process.stdout).close()


def measured(server: Child, loader: Child, url: str, connections: int, requests: int) -> Round:
    """Ask one server."""
    cpu = server.ask()
    count, took, p50_us = loader.ask(url, connections, requests)
    return Round(count / took, (server.ask() - cpu) / count * 1e6, p50_us)


def compare(connections: int, pairs: int, requests: int) -> None:
    """Let the two take turns and print their medians, ranges and ratio."""
    rounds: dict[str, list[Round]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        loader = stack.enter_context(child("--load"))
        servers = {kind: stack.enter_context(child("--serve", kind, f"{folder}/{kind}")) for kind in KINDS}
        urls = {kind: server.hear() for kind, server in servers.items()}
        for kind in KINDS:  # to warm up
            measured(servers[kind], loader, urls[kind], connections, 1000)
        for pair in range(pairs):
            for kind in KINDS if pair % 2 == 0 else KINDS[::-1]:
                rounds[kind].append(measured(servers[kind], loader, urls[kind], connections, requests))
    print(f"\nconnections: {connections}; {pairs} pairs of {requests} requests; {os.cpu_count()} CPUs")
    print(f"{'':24}{'before':>24}{'after':>24}{'ratio':>10}{'quiet':>10}")
    for name, field in (("requests/s", "per_s"), ("server CPU us/request", "cpu_us"), ("p50 us", "p50_us")):
        before, after = ([getattr(each, field) for each in rounds[kind]] for kind in KINDS)
        quiet = 8 if field == "per_s" else 0
        usual, best = (quantiles(after, n=10)[at] / quantiles(before, n=10)[at] for at in (4, quiet))
        print(f"{name:24}{_shown(before):>24}{_shown(after):>24}{usual:>10.3f}{best:>10.3f}")


def _shown(figures: list[float]) -> str:
    low, middle, high = quantiles(figures, n=4)
    return f"{middle:.0f} ({low:.0f}..{high:.0f})"


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, *options.serve)
    elif options.load:
        load()
    else:
        for connections in (MANY, 1):
            compare(connections, pairs=20 if options.quick else 100, requests=160)


if __name__ == "__main__":
    main()
