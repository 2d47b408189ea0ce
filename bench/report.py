"""What was found, as Markdown: machine and versions, the goals' table, every variant's figures, what each does."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench import bodies
from bench.figures import Figure, figure, ratios
from bench.load import Result
from bench.measures import AT_RATE, DATABASE_S, MODEL_S, Found
from bench.processes import PYTHON
from bench.stream_values import LATE_S, StreamResult
from bench.variants import OPEN_STREAMS

AWAIT_FLOOR_MS = 1e3 * (2 * DATABASE_S + MODEL_S)
OUTBOX_FLOOR_MS = 1e3 * (DATABASE_S + MODEL_S)
NOT_MEASURED = "not measured"
PACKAGES = (
    "trio", "quart", "quart-trio", "hypercorn", "h11", "httpx", "httptools", "opentelemetry-sdk", "fastapi", "uvicorn",
    "uvloop", "aiohttp", "litellm",
)  # fmt: skip
_VERSIONS = (
    "import importlib.metadata as m, json, sys\n"
    "known = {d.metadata['name'].lower(): d.version for d in m.distributions()}\n"
    "print(json.dumps({n: known[n] for n in sys.argv[1:] if n in known}))"
)


def per_cpu_s(result: Result) -> float:
    """Return the turns per CPU-second of the server."""
    return result.turns / result.cpu_s if result.cpu_s else float("nan")


def per_s(result: Result) -> float:
    """Return the turns per second."""
    return result.turns / result.seconds


def cpu_ms(result: Result) -> float:
    """Return the server's CPU milliseconds per turn."""
    return 1e3 * result.cpu_s / result.turns


def p50(result: Result) -> float:
    """Return the median in milliseconds."""
    return result.p50


def p99(result: Result) -> float:
    """Return the 99th percentile in milliseconds."""
    return result.p99


def markdown(found: Found, plots: list[str], theirs: str) -> str:
    """Return `RESULTS.md`. `theirs` is the Python of the peers' environment."""
    parts = [_head(found, theirs), _goals(found), _variants(found), _delays(found), _streams(found), _does(found)]
    parts += [f"![{name.removesuffix('.svg')}]({name})" for name in plots]
    return "\n\n".join(part for part in parts if part) + "\n"


KEPT = "<!-- From here on: written by hand, each with its own command; `make bench` leaves it as it is. -->"


def kept(results: Path) -> str:
    """Return what a `RESULTS.md` that is there already has from the line `KEPT` on."""
    text = results.read_text() if results.exists() else ""
    return f"\n{KEPT}{text.partition(KEPT)[2]}" if KEPT in text else ""


def _head(found: Found, theirs: str) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    scale = found.scale
    versions = {"ours": _versions(str(PYTHON)), "peers": _versions(theirs)}
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"""# Results

Written by `make bench`, {datetime.now(UTC):%Y-%m-%d}. Each figure is the median of {scale.rounds} rounds of \
{scale.seconds:.0f} s, with its range; the rounds alternate between the variants, and a ratio is taken round by round. \
Compare ratios: turns/s is what the machine's other work left.

* Machine: {os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}, load average at the end {load}.
* Python {platform.python_version()}. Server: {versions["ours"]}. Peers: {versions["peers"]}.
* Upstreams: one stand-in process on uvloop, every body built beforehand ({found.standin_per_s:,.0f} requests/s by \
itself): a history of {bodies.MESSAGES} Japanese messages ({len(bodies.history()):,} bytes), an answer of \
{len(bodies.REPLY)} characters in {found.tokens} SSE chunks. Database and model are the same process.
* Load: a process of its own, raw sockets, requests built beforehand. An answer counts with status 200, complete, \
with the model's last word in it; the stand-ins' counts must agree: one model call and two rows stored for every turn.
* CPU: user and system time of the server's process from `/proc/PID/stat`, export threads included."""


def _versions(python: str) -> str:
    answer = subprocess.run([python, "-c", _VERSIONS, *PACKAGES], capture_output=True, text=True, check=True)
    return ", ".join(f"{name} {version}" for name, version in json.loads(answer.stdout).items())


def _goals(found: Found) -> str:
    lines = ["## Against the goals", "", "| figure | found | reach | beyond |", "|---|---|---|---|"]
    lines += [f"| {what} | {have} | {reach} | {beyond} |" for what, have, reach, beyond in _goal_rows(found)]
    return "\n".join(lines)


def _goal_rows(found: Found) -> Iterator[tuple[str, str, str, str]]:
    rounds, alone = found.throughput, found.one_client
    yield "turns per CPU-second, sampled 10 %", _of(rounds, "ours").text(), "450", "1,000"
    yield "turns per CPU-second, sampled 100 %", _of(rounds, "ours-100").text(), "300", "600"
    for key, name, reach, beyond in (
        ("litellm", "LiteLLM's single call, plain", "5x", "11x"),
        ("litellm-streamed", "LiteLLM's single call, streamed", "5x", "11x"),
        ("fastapi-httpx", "FastAPI on httpx", "2.5x", "6x"),
    ):
        yield f"ours against {name}", _ratio(rounds, "ours", key), reach, beyond
    yield (
        "ours, telemetry and limits off, against FastAPI on aiohttp",
        _ratio(rounds, "ours-bare", "fastapi-aiohttp"),
        "0.5x",
        "1.0x",
    )
    both = f"{figure(alone.get('ours', []), p50).text('{:.1f}')} / {figure(alone.get('ours', []), p99).text('{:.1f}')}"
    yield "one client, no delays: p50 / p99, ms", both, "2.5 / 8", "1.2 / 4"
    one = f"database 100 ms, model 1 s, one client: p50 over {AWAIT_FLOOR_MS:,.0f} ms"
    yield one, _over(AWAIT_FLOOR_MS, found.delayed.get("ours", [])), "2 %", "1 %"
    more = f"the same, {AT_RATE:.0f} turns/s (Poisson), pool 128, 2,000 users"
    yield more, _over(AWAIT_FLOOR_MS, found.poisson), "2 %", "1.5 %"
    one = f"the `outbox` mode, one client: p50 over {OUTBOX_FLOOR_MS:,.0f} ms"
    yield one, _over(OUTBOX_FLOOR_MS, found.delayed.get("ours-outbox", [])), "2 %", "1 %"
    for key, name, reach, beyond in (("ours", "10 %", "0.90", "0.95"), ("ours-100", "100 %", "0.60", "0.75")):
        yield f"telemetry on against off, sampled {name}", _ratio(rounds, key, "ours-no-otel", "{:.2f}"), reach, beyond
    yield from _stream_goals(found.streams)
    growth = NOT_MEASURED
    if found.rss:
        growth = f"{found.rss[-1][1] - found.rss[0][1]:+.1f} MB over {found.rss[-1][0]:,} turns"
    yield "resident memory's growth over 100,000 turns", growth, "< 5 MB", "0"
    ratio = ratios(found.many_connections, found.few_connections, cpu_ms)
    yield "CPU per turn at 1,000 open connections against 10", ratio.text("{:.2f}"), "1.2x", "1.05x"
    yield "start to `server.listening`, scripted model, s", Figure(tuple(found.starts_s)).text("{:.2f}"), "1.5", "0.8"


def _stream_goals(streams: StreamResult | None) -> Iterator[tuple[str, str, str, str]]:
    if streams is None:
        yield "1,000 streams open, 3,000 tokens/s: added first-token p99, ms", NOT_MEASURED, "150", "50"
        yield "the same: resident memory, MB", NOT_MEASURED, "350", "200"
        yield "the same: tokens/s at which one process saturates", NOT_MEASURED, "", ""
        return
    what = f"{streams.streams:,} streams open, {streams.steps[0].wanted_per_s:,.0f} tokens/s: added first-token p99, ms"
    yield what, f"{streams.first_p99:.0f} (p50 {streams.first_p50:.0f}; of {streams.begun:,})", "150", "50"
    memory = f"{streams.rss_mb:.0f} ({streams.rss_before_mb:.0f} before the first)"
    yield "the same: resident memory, MB", memory, "350", "200"
    yield "the same: tokens/s at which one process saturates", _saturation(streams), "", ""


def _saturation(streams: StreamResult) -> str:
    """Return the most that came through in a step that was kept up with, and whether there was one that was not."""
    most = max((step.delivered_per_s for step in streams.steps if step.kept_up), default=0.0)
    last = streams.steps[-1]
    if not last.kept_up:
        core = f"with {last.cpu:.0%} of a core"
        return f"{most:,.0f} (not {last.sent_per_s:,.0f}, {core})" if most else f"under {last.sent_per_s:,.0f} ({core})"
    return f"over {most:,.0f}" + ("" if last.was_sent else ": the stand-ins could not send more")


def _over(floor_ms: float, rounds: list[Result]) -> str:
    return Figure(tuple(result.p50 / floor_ms - 1 for result in rounds)).text("{:.1%}")


def _of(rounds: dict[str, list[Result]], key: str) -> Figure:
    return figure(rounds.get(key, []), per_cpu_s)


def _ratio(rounds: dict[str, list[Result]], this: str, that: str, form: str = "{:.2f}x") -> str:
    if not (rounds.get(this) and rounds.get(that)):
        return NOT_MEASURED
    return ratios(rounds[this], rounds[that], per_cpu_s).text(form)


def _variants(found: Found) -> str:
    lines = [
        "## Every variant, upstreams without delay", "",
        "| variant | turns per CPU-second (16 users) | CPU ms per turn | turns/s | p50 ms, one client "
        "| p99 ms, one client | RSS MB |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for variant in found.variants:
        rounds, alone = found.throughput.get(variant.key, []), found.one_client.get(variant.key, [])
        cells = (
            figure(rounds, per_cpu_s).text(),
            figure(rounds, cpu_ms).text("{:.2f}"),
            figure(rounds, per_s).text(),
            figure(alone, p50).text("{:.1f}"),
            figure(alone, p99).text("{:.1f}"),
            f"{max((result.rss_mb for result in rounds), default=float('nan')):.0f}",
        )
        lines.append(f"| {variant.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _delays(found: Found) -> str:
    if not (found.delayed or found.sweep):
        return ""
    names = {variant.key: variant.name for variant in found.variants}
    rates = sorted({rate for by_rate in found.sweep.values() for rate in by_rate})
    lines = [
        "## Database 100 ms, model 1 s", "",
        f"p50 (p99) in seconds; offered is a Poisson process over 128 connections for {found.scale.poisson_s:.0f} s, "
        "once a rate, timed from each arrival.", "",
        f"| {' | '.join(['variant', 'one client', *(f'{rate:.0f}/s' for rate in rates)])} |",
        "|---|---|" + "---|" * len(rates),
    ]  # fmt: skip
    for key in dict.fromkeys([*found.delayed, *found.sweep]):
        cells = [figure(found.delayed.get(key, []), lambda result: result.p50 / 1e3).text("{:.3f}")]
        for rate in rates:
            result = found.sweep.get(key, {}).get(rate)
            refused = f", {result.errors} refused" if result and result.errors else ""
            cells.append(f"{result.p50 / 1e3:.2f} ({result.p99 / 1e3:.2f}){refused}" if result else "-")
        lines.append(f"| {names[key]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _streams(found: Found) -> str:
    if (streams := found.streams) is None:
        return ""
    first = streams.steps[0]
    lines = [
        f"## {streams.streams:,} streams open", "",
        f"Opened over a ramp, then held open; at {first.wanted_per_s:,.0f} tokens/s {streams.begun:,} others begin "
        "beside them, and are timed from the request to the first piece of text, less what the stand-ins take on "
        "purpose. Then the tokens come faster, until under 95 % of a step's come through, or they are over "
        f"{LATE_S:.1f} s late at its end, going by how many are on their way. All of the {streams.tokens:,} tokens "
        "came, and each stream ended with `[DONE]`.", "",
        "| tokens/s wanted | sent | delivered | in pieces | late, ms | CPU of the server "
        "| CPU us per token |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {step.wanted_per_s:,.0f} | {step.sent_per_s:,.0f} | {step.delivered_per_s:,.0f} | {step.pieces_per_s:,.0f} "
        f"| {step.late_ms:.0f} | {step.cpu:.0%}{' with those turns' if step.with_turns else ''} "
        f"| {'-' if step.with_turns else f'{1e6 * step.cpu / step.delivered_per_s:.0f}'} |"
        for step in streams.steps
    ]
    return "\n".join(lines)


def _does(found: Found) -> str:
    lines = ["## What each does and does not do", ""]
    shown = [*found.variants, *([OPEN_STREAMS] if found.streams else [])]
    lines += [f"* **{variant.name}**: {variant.does}." for variant in shown]
    lines += [f"* NOT MEASURED, {key}: {why.splitlines()[0]}" for key, why in found.failed.items()]
    return "\n".join(lines)
