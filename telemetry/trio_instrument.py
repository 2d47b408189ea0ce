"""How long the server's loop keeps everybody waiting, and how many tasks live in it: a Trio `Instrument`.

A turn of Trio's loop waits for I/O or for the next deadline, and then runs one batch: every task that is runnable by
then, one step each. Whatever becomes ready or due meanwhile waits for the batch's end. A turn's lag is the time for
which nobody looked: from the moment at which the loop woke, or at the latest should have, to its next look.

    lag = next `before_io_wait` - min(`after_io_wait`, `before_io_wait` + timeout)

So a step that holds the loop for 0.2 s is a lag of 0.2 s, and so are ten steps of 0.02 s in one batch. A process that
gets no CPU, or whose interpreter another thread keeps busy, shows as far as that happens in a batch or beyond a
deadline; while the loop waits for I/O alone, nobody can tell.

One observation of `trio.loop.lag` is the longest lag within a window of at least 0.1 s, made at the first look after
the window's end. A turn of the loop costs two readings of the clock; a record costs 4 to 9 us, and is made ten times a
second at most. A lag that outlasts the window ends it: each lag of 0.1 s or more is exactly one observation, of its
whole length, and of shorter ones the longest counts. A loop that waits turns no more, and observes nothing. Hence a
rate of the buckets is of the tenths of a second in which the loop ran, and a quantile over it says: so many of these
had no lag above this. What is above a bound of 0.1 s or more is a number of stalls.

What that costs a chat turn (bench/loop_instrument.py, Python 3.11): 1.5 us for each turn of the loop, 1 us a task. A
turn that is alone has 84 and 5 of them, 1.4 % of its CPU; beside fifteen others 14 and 5.5, 0.3 %. Compared pair by
pair, batches of turns with it took 1.007 and 0.998 of the CPU of those without (medians of 200 pairs).

Rejected: `before_task_step` and `after_task_step` for each step (two calls for each of the 4 to 8 steps that a turn of
a busy loop has); a task that sleeps and sees by how much it was late (it wakes an idle process, and halves a stall that
began between two ticks); `current_statistics()` at each window (it counts every socket that is waited for).

The hooks: https://trio.readthedocs.io/en/stable/reference-lowlevel.html#instrument-api
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trio
from opentelemetry.metrics import Meter

from telemetry import names
from telemetry.metrics import watch

log = logging.getLogger(__name__)

WINDOW_S = 0.1
EPOLL_GRAIN_S = 0.001
"""`select.epoll.poll` waits for whole milliseconds, rounded up: so much later than asked is not late."""


class LoopWatch(trio.abc.Instrument):
    """Hands the longest lag of each window, in seconds, to `record`; counts in `living` the tasks that live.

    Made in the loop that it is to be added to. `living` may be read from any thread. Where `record` raises, its lag is
    lost and the first one is logged: Trio would take the instrument out, and `living` would be wrong from then on.
    """

    __slots__ = ("_broken", "_clock", "_due", "_longest", "_record", "_window_ends", "_woke", "living")

    def __init__(self, record: Callable[[float], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._record = record
        self._broken = False
        self._clock = clock
        self._woke = self._due = now = clock()
        self._longest = 0.0
        self._window_ends = now + WINDOW_S
        self.living = trio.lowlevel.current_statistics().tasks_living

    def before_io_wait(self, timeout: float) -> None:
        """End a turn of the loop, and perhaps a window."""
        now = self._clock()
        lag = now - self._woke
        if lag > self._longest:
            self._longest = lag
        if now >= self._window_ends:
            self._hand_over(self._longest)
            self._longest = 0.0
            self._window_ends = now + WINDOW_S
        self._due = now + timeout + EPOLL_GRAIN_S

    def _hand_over(self, lag_s: float) -> None:
        try:
            self._record(lag_s)
        except Exception:
            if not self._broken:
                log.exception("loop.lag_lost")
            self._broken = True

    def after_io_wait(self, timeout: float) -> None:
        """Begin a turn: now, or when it was due, if that is over."""
        now, due = self._clock(), self._due
        self._woke = now if now < due else due

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Count a task."""
        self.living += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Count it no more."""
        self.living -= 1


@contextmanager
def loop_watched(meter: Meter) -> Iterator[LoopWatch]:
    """Measure the loop that runs this, as long as the block lasts."""
    lag = meter.create_histogram(
        names.TRIO_LOOP_LAG,
        unit="s",
        description="The longest time in each tenth of a second for which the loop left what was ready waiting.",
        explicit_bucket_boundaries_advisory=list(names.LOOP_BUCKETS),
    )
    instrument = LoopWatch(lag.record)
    tasks = "Tasks that live in the loop, Trio's own among them."
    watch(meter, names.TRIO_TASKS, lambda: instrument.living, tasks, unit="{task}")
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument
    finally:
        with suppress(KeyError):  # Trio itself takes out an instrument that raised, and logs that
            trio.lowlevel.remove_instrument(instrument)
