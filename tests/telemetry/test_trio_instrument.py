"""The loop's lag: what one observation is, on a clock of the test's own and on a real loop; and the tasks that live."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.lowlevel
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric, NumberDataPoint

from telemetry import names
from telemetry.trio_instrument import EPOLL_GRAIN_S, WINDOW_S, LoopWatch, loop_watched


class Loop:
    """A loop that turns as a test says, and what is recorded of it. Times are whole milliseconds."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.recorded_ms: list[int] = []
        self.watch = LoopWatch(lambda s: self.recorded_ms.append(round(s * 1000)), lambda: self.now_ms / 1000)

    def turn(self, batch_ms: int, *, wait_ms: int = 0, timeout_ms: float | None = None) -> None:
        """Run a batch of so long, and then wait for I/O so long, until `timeout_ms` at most was wanted."""
        timeout = (wait_ms if timeout_ms is None else timeout_ms) / 1000
        self.now_ms += batch_ms
        self.watch.before_io_wait(timeout)
        self.now_ms += wait_ms
        self.watch.after_io_wait(timeout)


@pytest.fixture
async def loop() -> Loop:
    return Loop()


async def test_a_stall_is_one_observation_of_its_length(loop: Loop) -> None:
    """What holds the loop longer than a window is observed as soon as it ends, once."""
    loop.turn(5)
    loop.turn(200)
    assert loop.recorded_ms == [200]
    loop.turn(1)
    assert loop.recorded_ms == [200]


async def test_of_a_window_the_longest_counts(loop: Loop) -> None:
    """Short lags are one observation a window, at the first look after its end: the longest of them."""
    for batch_ms in (1, 40, 3, 30, 25, 2):
        loop.turn(batch_ms)
    assert loop.recorded_ms == [40]
    for batch_ms in (90, 20):
        loop.turn(batch_ms)
    assert loop.recorded_ms == [40, 90], "nothing of the first window is left"


async def test_every_stall_of_a_window_or_more_is_counted(loop: Loop) -> None:
    """However they follow each other, none hides in another's window."""
    stalls = [round(WINDOW_S * 1000), 150, 101, 2000]
    for stall_ms in stalls:
        loop.turn(7)
        loop.turn(stall_ms)
    assert loop.recorded_ms == stalls


async def test_waiting_is_no_lag(loop: Loop) -> None:
    """A loop with nothing to do observes nothing, and afterwards only what its next batch took."""
    loop.turn(0, wait_ms=60_000)
    assert loop.recorded_ms == []
    loop.turn(2)
    assert loop.recorded_ms == [2]


async def test_waking_late_is_lag(loop: Loop) -> None:
    """A deadline that passed while nobody ran the loop is lag from that on, what follows in the batch included."""
    loop.turn(0, wait_ms=500, timeout_ms=100 - EPOLL_GRAIN_S * 1000)
    loop.turn(30)
    assert loop.recorded_ms == [430]


async def test_what_poll_rounds_up_is_no_lag(loop: Loop) -> None:
    """A millisecond beyond the deadline is how finely the loop can wait."""
    loop.turn(0, wait_ms=200, timeout_ms=199)
    loop.turn(0)
    assert loop.recorded_ms == [0]


def metric(reader: InMemoryMetricReader, name: str) -> Metric:
    data = reader.get_metrics_data()
    assert data
    (found,) = [metric for metric in data.resource_metrics[0].scope_metrics[0].metrics if metric.name == name]
    return found


def observed(reader: InMemoryMetricReader) -> HistogramDataPoint:
    (point,) = metric(reader, names.TRIO_LOOP_LAG).data.data_points
    assert isinstance(point, HistogramDataPoint)
    return point


def living(reader: InMemoryMetricReader) -> float:
    (point,) = metric(reader, names.TRIO_TASKS).data.data_points
    assert isinstance(point, NumberDataPoint)
    return point.value


@contextmanager
def metering() -> Iterator[tuple[Meter, InMemoryMetricReader]]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider.get_meter("test"), reader
    provider.shutdown()


async def test_a_real_stall_is_seen_on_a_real_loop() -> None:
    """A step that sleeps 0.3 s without telling Trio is an observation of that, in its bucket."""
    with metering() as (meter, reader), loop_watched(meter):
        await trio.sleep(0.001)
        time.sleep(0.3)  # noqa: ASYNC251 - the stall
        await trio.sleep(0.001)
        point = observed(reader)
    assert list(point.explicit_bounds) == list(names.LOOP_BUCKETS)
    above = list(names.LOOP_BUCKETS).index(0.25) + 1
    assert sum(point.bucket_counts[above:]) >= 1
    assert point.max >= 0.3


async def test_a_stall_of_many_small_steps_is_one() -> None:
    """Ten tasks that are runnable at once and take 0.025 s each keep whoever comes next waiting for 0.25 s."""

    async def busy() -> None:
        time.sleep(0.025)  # noqa: ASYNC251 - the stall

    with metering() as (meter, reader), loop_watched(meter):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(busy)
        await trio.lowlevel.checkpoint()
        point = observed(reader)
    assert point.max >= 0.25


async def test_the_living_tasks_are_trios_own_count() -> None:
    """The gauge is what `current_statistics()` has, at any time, though it is read where Trio cannot be asked."""

    async def read() -> tuple[int, int]:
        told = await trio.to_thread.run_sync(living, reader)
        return round(told), trio.lowlevel.current_statistics().tasks_living

    with metering() as (meter, reader), loop_watched(meter):
        assert metric(reader, names.TRIO_TASKS).unit == "{task}"
        assert (now := await read())[0] == now[1]
        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(trio.sleep_forever)
            assert await read() == (now[0] + 7, now[1] + 7)
            nursery.cancel_scope.cancel()
        assert await read() == now


async def test_who_left_is_not_told_any_more() -> None:
    """After the block the loop is not watched: its instrument hears of nothing."""
    with metering() as (meter, _reader):
        with loop_watched(meter) as watch:
            before = watch.living
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            assert watch.living == before


async def test_a_meter_that_breaks_costs_its_records_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The first failure is logged; the tasks are counted on, and once the meter works, so are the lags."""

    def broken(_seconds: float) -> None:
        raise OSError("no room")

    async def stall() -> None:
        time.sleep(WINDOW_S)  # noqa: ASYNC251 - so that there is something to be recorded
        await trio.lowlevel.checkpoint()

    with metering() as (meter, reader), caplog.at_level(logging.ERROR), loop_watched(meter) as watch:
        works, watch._record = watch._record, broken
        for _ in range(2):
            await stall()
        watch._record = works
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stall)
            nursery.start_soon(trio.sleep, 0.001)
        assert observed(reader).max >= WINDOW_S
        assert watch.living == trio.lowlevel.current_statistics().tasks_living
    assert [(record.name, record.msg) for record in caplog.records] == [("telemetry.trio_instrument", "loop.lag_lost")]
