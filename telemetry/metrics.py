"""The instruments of a turn, made once from a meter. Gauges are read when somebody looks, from what waits or counts."""

import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from telemetry import names

Key = TypeVar("Key", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """Histograms and counters that the turn and the edge record into."""

    http_duration: Histogram
    turn_duration: Histogram
    turn_overhead: Histogram
    turn_first_token: Histogram
    history_size: Histogram
    stage_duration: Histogram
    model_duration: Histogram
    model_first_chunk: Histogram
    model_tokens: Histogram
    limiter_wait: Histogram
    warnings: Counter
    fallbacks: Counter
    edge_refusals: Counter
    edge_drops: Counter


def build_instruments(meter: Meter) -> Instruments:
    """Return the instruments, made from `meter`."""

    def seconds(name: str, description: str, buckets: Iterable[float] = names.TURN_BUCKETS) -> Histogram:
        return meter.create_histogram(
            name, unit="s", description=description, explicit_bucket_boundaries_advisory=list(buckets)
        )

    return Instruments(
        http_duration=seconds(names.HTTP_SERVER_DURATION, "Duration of HTTP server requests.", names.HTTP_BUCKETS),
        turn_duration=seconds(names.TURN_DURATION, "A turn, from its admission to its end."),
        turn_overhead=seconds(names.TURN_OVERHEAD, "A turn without the model's own time."),
        turn_first_token=seconds(names.TURN_FIRST_TOKEN, "Time from a streamed turn's start to its first token."),
        history_size=meter.create_histogram(
            names.HISTORY_SIZE,
            unit="By",
            description="The text of the messages that were read of a turn's conversation, in UTF-8.",
            explicit_bucket_boundaries_advisory=list(names.HISTORY_BUCKETS),
        ),
        stage_duration=seconds(names.STAGE_DURATION, "A stage of a turn."),
        model_duration=seconds(names.GEN_AI_DURATION, "GenAI operation duration.", names.GEN_AI_DURATION_BUCKETS),
        model_first_chunk=seconds(
            names.GEN_AI_FIRST_CHUNK, "Time from the request to the first chunk.", names.GEN_AI_DURATION_BUCKETS
        ),
        model_tokens=meter.create_histogram(
            names.GEN_AI_TOKENS,
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=list(names.GEN_AI_TOKEN_BUCKETS),
        ),
        limiter_wait=seconds(names.LIMITER_WAIT, "Wait for a slot of the model limiter."),
        fallbacks=meter.create_counter(names.FALLBACKS, description="Turns that went on in a second-best way."),
        warnings=meter.create_counter(names.WARNINGS, description="Warnings given with an answer."),
        edge_refusals=meter.create_counter(
            names.REFUSALS, description="Requests that were no proper HTTP, and connections over the limit."
        ),
        edge_drops=meter.create_counter(
            names.DROPS, description="Connections that the server closed on a client that misbehaved, or for a failure."
        ),
    )


def watch(
    meter: Meter,
    name: str,
    read: Callable[[], float],
    description: str,
    attributes: Callable[[], Mapping[str, str]] = dict,
    unit: str = "",
) -> None:
    """Make gauge `name`, whose value is whatever `read` returns at the moment of a collection, and its labels
    whatever `attributes` does.

    Both run in the collecting thread: they must only look.
    """

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(read(), attributes())

    meter.create_observable_gauge(name, [observe], unit=unit, description=description)


def watch_each(
    meter: Meter, name: str, attribute: str, reads: Mapping[str, Callable[[], float]], description: str
) -> None:
    """Make gauge `name` with one value for each of `reads`, told apart by `attribute`; they are read as by `watch`."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for value, read in reads.items():
            yield Observation(read(), {attribute: value})

    meter.create_observable_gauge(name, [observe], description=description)


def watch_series(
    meter: Meter,
    name: str,
    read: Callable[[], Iterable[tuple[float, Mapping[str, str]]]],
    description: str,
    unit: str = "",
) -> None:
    """Make gauge `name` with every value that `read` returns, under the labels beside it; it is read as by `watch`."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for value, attributes in read():
            yield Observation(value, attributes)

    meter.create_observable_gauge(name, [observe], unit=unit, description=description)


def watch_counts(
    meter: Meter, name: str, attribute: str, read: Callable[[], Mapping[Key, int]], description: str
) -> None:
    """Make counter `name` with one value for each key that `read` returns, told apart by `attribute`; as by `watch`."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for value, count in read().items():
            yield Observation(count, {attribute: value})

    meter.create_observable_counter(name, [observe], description=description)


def watch_cpu(meter: Meter) -> None:
    """Make counter `process.cpu.time`: the seconds that all threads have had a core, by `cpu.mode`."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield Observation(usage.ru_utime, {names.CPU_MODE: "user"})
        yield Observation(usage.ru_stime, {names.CPU_MODE: "system"})

    meter.create_observable_counter(
        names.CPU_TIME, [observe], unit="s", description="Total CPU seconds broken down by different CPU modes."
    )


def watch_memory(meter: Meter) -> None:
    """Make gauge `process.memory.usage`: the resident set in bytes (its peak where /proc is missing)."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(resident_bytes())

    meter.create_observable_up_down_counter(
        names.MEMORY_USAGE, [observe], unit="By", description="The amount of physical memory in use."
    )


def resident_bytes() -> int:
    """Return the process's resident set in bytes."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
