"""What is measured: each figure of the table, in rounds that alternate between the variants."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore,import-not-found]  # in .venv-bench

from bench.load import Plan, Result
from bench.processes import BenchError, Server, Standin, load, load_streams, ours, standin
from bench.stream_values import StreamPlan, StreamResult
from bench.system import allow_files, cpu_s
from bench.variants import BY_KEY, OPEN_STREAMS, VARIANTS, Variant

DATABASE_S, MODEL_S = 0.1, 1.0
ONE_CLIENT = (
    "ours", "ours-100", "ours-no-otel", "ours-bare", "ours-httpcore", "ours-sequential", "ours-outbox",
    "fastapi-httpx", "fastapi-aiohttp", "litellm", "litellm-streamed",
)  # fmt: skip
DELAYED = ("ours", "ours-outbox", "ours-sequential", "ours-httpcore", "fastapi-httpx", "fastapi-aiohttp")
UNDER_LOAD = ("ours", "ours-pool-10", "ours-httpcore", "fastapi-httpx", "fastapi-aiohttp")
RATES = (5, 20, 40, 58, 80)
AT_RATE = 58.0
USERS = 2000
FILES = 65_536
"""That may be open: a stream takes two of the server's, one of the load's, and one of the stand-ins'."""


@dataclass(frozen=True)
class Scale:
    """How long it all lasts. `streams` are the fields of a `StreamPlan`."""

    rounds: int
    seconds: float
    delayed_turns: int
    poisson_s: float
    streams: Mapping[str, Any]
    rss_turns: int = 0


FULL = Scale(
    rounds=5,
    seconds=3.0,
    delayed_turns=5,
    poisson_s=12.0,
    streams={"rates": (3000, 3750, 4700, 5900, 7300, 9200, 11_500, 14_300, 18_000, 22_000, 28_000)},
    rss_turns=100_000,
)
QUICK = Scale(
    rounds=2,
    seconds=1.0,
    delayed_turns=2,
    poisson_s=4.0,
    streams={"streams": 100, "rates": (300, 600), "ramp_s": 1.0, "begun_s": 1.5, "begun_tokens": 3, "step_s": 1.0},
)


@dataclass
class Found:
    """Everything that was measured; by variant's key, a result for each round."""

    standin_per_s: float = 0.0
    tokens: int = 0
    scale: Scale = FULL
    variants: list[Variant] = field(default_factory=list)
    throughput: dict[str, list[Result]] = field(default_factory=dict)
    one_client: dict[str, list[Result]] = field(default_factory=dict)
    delayed: dict[str, list[Result]] = field(default_factory=dict)
    sweep: dict[str, dict[float, Result]] = field(default_factory=dict)
    poisson: list[Result] = field(default_factory=list)
    few_connections: list[Result] = field(default_factory=list)
    many_connections: list[Result] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    rss: list[tuple[int, float]] = field(default_factory=list)
    streams: StreamResult | None = None
    failed: dict[str, str] = field(default_factory=dict)


class Bench:
    """The servers of a run, and what loads them."""

    def __init__(self, folder: Path, upstreams: Standin, scale: Scale, chosen: list[Variant]) -> None:
        self.folder, self.upstreams, self.scale = folder, upstreams, scale
        self.chosen = chosen
        self.found = Found(scale=scale, variants=chosen)
        self._servers: dict[str, Server] = {}

    def measure(self, variant: Variant, *, may_fail: bool = False, **options: object) -> Result:
        """Load a variant, and check with the stand-ins that every turn did all of its work."""
        server = self._servers[variant.base or variant.key]
        plan = Plan(server.url, server.pids, variant.kind, variant.page, **options)  # type: ignore[arg-type]  # the measures' own words for a plan's fields
        before = self.upstreams.counts()
        result = load(plan, self.folder, may_fail=may_fail)
        if not may_fail:
            self._check_work(variant, before, result.turns + plan.warm_ups)
        if not variant.late:
            return result
        return replace(result, cpu_s=result.cpu_s + cpu_s(server.pids) - result.cpu_end_s)

    def _check_work(self, variant: Variant, before: dict[str, int], turns: int) -> None:
        """Check that all rows of so many turns are stored; what is stored after its answer is waited for."""
        wanted = {"model": before["model"] + turns, "rows": before["rows"] + turns * variant.rows}
        found = self.upstreams.counts_once(wanted) if variant.late else self.upstreams.counts()
        if found != wanted:
            did = {name: found[name] - before[name] for name in found}
            raise BenchError(f"{variant.name}: {turns} turns made {did}")

    def stream(self, options: Mapping[str, Any]) -> StreamResult:
        """Load a server of its own with streams, and check with the stand-ins that every turn did all of its work."""
        before = self.upstreams.counts()
        try:
            with OPEN_STREAMS.start(self.folder, self.upstreams.url) as server:
                plan = StreamPlan(server.url, self.upstreams.url, server.pids, **options)
                result = load_streams(plan, self.folder)
                self._check_work(OPEN_STREAMS, before, result.streams + result.begun)
        finally:
            self.upstreams.unpaced()
            self.upstreams.delay()
        return result

    @contextmanager
    def running(self, variants: list[Variant], bar: tqdm) -> Iterator[None]:
        """Run the servers of these variants; one that does not start is left out, and said to be."""
        with ExitStack() as stack:
            for variant in variants:
                key = variant.base or variant.key
                bar.set_description(f"starting {key}")
                if key not in self._servers:
                    server = BY_KEY[key].start(self.folder, self.upstreams.url)
                    try:
                        self._servers[key] = stack.enter_context(server)
                    except BenchError as exc:
                        self.found.failed[key] = str(exc)
            try:
                yield
            finally:
                self._servers.clear()

    def runs(self, key: str) -> bool:
        """Return whether a variant's server runs."""
        return key in {variant.key for variant in self.chosen} and (BY_KEY[key].base or key) in self._servers

    def each_round(
        self, rounds: dict[str, list[Result]], keys: list[str], what: str, bar: tqdm, options: dict[str, Any]
    ) -> None:
        """Measure the variants one after the other, round after round, into `rounds`; one that fails ends with that."""
        rounds |= {key: [] for key in keys if self.runs(key)}
        for number in range(self.scale.rounds):
            for key, results in rounds.items():
                bar.set_description(f"{what}: {key}, round {number + 1}")
                if f"{key}, {what}" not in self.found.failed:
                    try:
                        results.append(self.measure(BY_KEY[key], seed=number + 1, **options))
                    except BenchError as exc:
                        self.found.failed[f"{key}, {what}"] = f"from round {number + 1} on: {exc}"
                bar.update()


def throughput(bench: Bench, bar: tqdm) -> None:
    """Turns per CPU-second and per second, 16 users, upstreams without delay."""
    keys = [variant.key for variant in bench.chosen]
    options: dict[str, Any] = {"seconds": bench.scale.seconds, "connections": 16}
    bench.each_round(bench.found.throughput, keys, "throughput", bar, options)


def one_client(bench: Bench, bar: tqdm) -> None:
    """Latency at one client, upstreams without delay."""
    options: dict[str, Any] = {"seconds": bench.scale.seconds, "connections": 1, "users": 1, "warmup": 50}
    bench.each_round(bench.found.one_client, list(ONE_CLIENT), "one client", bar, options)


def delayed(bench: Bench, bar: tqdm) -> None:
    """Latency at one client, with realistic upstreams."""
    bench.upstreams.delay(DATABASE_S, MODEL_S)
    options: dict[str, Any] = {"turns": bench.scale.delayed_turns, "connections": 1, "users": 1, "warmup": 1}
    bench.each_round(bench.found.delayed, list(DELAYED), "database 100 ms, model 1 s", bar, options)
    bench.upstreams.delay()


def under_load(bench: Bench, bar: tqdm) -> None:
    """Latency against load: Poisson arrivals at several rates, 128 connections, 2,000 users, realistic upstreams."""
    keys = [key for key in UNDER_LOAD if bench.runs(key)]
    wide: dict[str, Any] = {"connections": 128, "users": USERS}
    for key in keys:  # every user is known before the clock runs
        bar.set_description(f"making {USERS} users known: {key}")
        bench.measure(BY_KEY[key], turns=USERS, warmup=0, connections=8, users=USERS)
    bench.upstreams.delay(DATABASE_S, MODEL_S)
    for rate in RATES:
        for key in keys:
            bar.set_description(f"{rate} turns/s: {key}")
            if rate <= _bearable(key):
                warm: dict[str, Any] = {"warmup": 8 if key == "ours-pool-10" else 128}
                bench.found.sweep.setdefault(key, {})[rate] = bench.measure(
                    BY_KEY[key], rate=float(rate), seconds=bench.scale.poisson_s, may_fail=True, **wide, **warm
                )
            bar.update()
    for number in range(bench.scale.rounds if "ours" in keys else 0):
        bar.set_description(f"{AT_RATE:.0f} turns/s, round {number + 1}")
        bench.found.poisson.append(
            bench.measure(
                BY_KEY["ours"], rate=AT_RATE, seconds=bench.scale.poisson_s, warmup=128, seed=number + 2, **wide
            )
        )
        bar.update()
    bench.upstreams.delay()


def _bearable(key: str) -> float:
    """Return the highest rate that a variant is offered: a pool of 10 gives under 10 answers a second."""
    return 8.0 if key == "ours-pool-10" else 1e9


def connections(bench: Bench, bar: tqdm) -> None:
    """CPU per turn over 10 connections, alone and with 990 more open, each in the middle of sending a request."""
    for number in range(bench.scale.rounds if bench.runs("ours") else 0):
        for held, results in ((0, bench.found.few_connections), (990, bench.found.many_connections)):
            bar.set_description(f"{held + 10} connections, round {number + 1}")
            result = bench.measure(BY_KEY["ours"], connections=10, held=held, seconds=bench.scale.seconds)
            results.append(result)
            bar.update()


def starts(bench: Bench, bar: tqdm) -> None:
    """Seconds from the process's start to `server.listening`, scripted model, a new embedded database."""
    for _ in range(bench.scale.rounds):
        bar.set_description("start")
        with ours(bench.folder, EMBEDDED_LLM="scripted") as server:
            bench.found.starts_s.append(server.start_s)
        bar.update()


def rss(bench: Bench, bar: tqdm) -> None:
    """Resident memory over many turns, read ten times on the way."""
    if not (bench.scale.rss_turns and bench.runs("ours")):
        return
    part, done = bench.scale.rss_turns // 10, 0
    bench.measure(BY_KEY["ours"], turns=max(2000, part // 2), warmup=0)
    for number in range(11):
        bar.set_description(f"memory over {bench.scale.rss_turns:,} turns")
        result = bench.measure(BY_KEY["ours"], turns=part if number else 100, warmup=0)
        done += part if number else 0
        bench.found.rss.append((done, result.rss_mb))
        bar.update()


def streams(bench: Bench, bar: tqdm) -> None:
    """Streams held open: the first token of others that begin, memory, and the tokens per second that are too many."""
    if bench.runs("ours"):
        bar.set_description("streams")
        allow_files(FILES)
        bench.found.streams = bench.stream(bench.scale.streams)
        bar.update()


MEASURES = (
    throughput, one_client, delayed, under_load, connections, starts, rss, streams,
)  # fmt: skip


def measure_all(scale: Scale, keys: list[str], tokens: int, parts: list[str]) -> Found:
    """Run the parts, or everything when none is named, with a progress bar, and return what was found."""
    chosen = [variant for variant in VARIANTS if variant.key in keys]
    present = {variant.key for variant in chosen}
    steps = scale.rounds * (len(chosen) + len(present & {*ONE_CLIENT}) + len(present & {*DELAYED}) + 1)
    steps += scale.rounds * 3 * ("ours" in present) + len(RATES) * len(present & {*UNDER_LOAD})
    steps += 11 * bool(scale.rss_turns) + ("ours" in present)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, tqdm(total=steps, smoothing=0.05) as bar:
        folder = Path(name)
        with standin(folder, tokens) as upstreams:
            bench = Bench(folder, upstreams, scale, chosen)
            bench.found.tokens = tokens
            alone = load(Plan(upstreams.url, kind="completion", connections=16, seconds=1.0), folder)
            bench.found.standin_per_s = alone.turns / alone.seconds
            with bench.running(chosen, bar):
                for measure in (each for each in MEASURES if not parts or each.__name__ in parts):
                    try:
                        measure(bench, bar)
                    except BenchError as exc:
                        bench.found.failed[f"the rest of `{measure.__name__}`"] = str(exc)
                        upstreams.delay()
            return bench.found
