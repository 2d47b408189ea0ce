"""What a turn log says, as arrivals and service times; lines that are none of ours are counted, and skipped.

Not every turn has a service time. One that was refused, or whose client left while it waited, would have held a slot
too: left out, the load would look lighter the more was refused. So it would if a call that failed were replayed as
recorded: an open circuit breaker fails one at once. Each is replayed with the service time of a turn that was served at
about the same time.
"""

import json
import math
import random
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

REFUSALS = frozenset({"queue_full", "predicted_wait", "queue_timeout"})
"""Reasons of the gate's, and of the door's for its sake. Others are shed too, by a drain or a full outbox."""
FAILURES = frozenset({"shed", "upstream_error", "internal_error"})
"""Outcomes of a turn whose call, without tokens, failed. One that ran into its deadline held its slot for as long."""
STOOD_IN = "heuristic"
"""The reason of a turn whose call failed, and that rules answered."""
LATEST_S = 1e11
"""After the year 5000; larger numbers are no times of ours, and some too large for a float."""
AT_A_TIME = 1000
"""Lines that are parsed as one JSON array: twice as fast as one by one, and one by one where one of them is broken."""
NEIGHBOURS = 50
"""Served turns, before and after, among which an unknown service time is drawn."""
UNKNOWN = -1.0


class NoTurnsError(Exception):
    """The log has nothing that could be replayed; the text says why, for whoever asked."""


@dataclass(slots=True)
class Lines:
    """What was read from some lines, in their order: one number each per turn that came as far as the gate.

    `waits` and `services` are `UNKNOWN` where there was none, or none that counts; `broken` lines could not be read,
    `elsewhere` are turns that never wanted a slot, `failed` held one for a call without an answer.
    """

    arrivals: "array[float]" = field(default_factory=lambda: array("d"))
    waits: "array[float]" = field(default_factory=lambda: array("d"))
    services: "array[float]" = field(default_factory=lambda: array("d"))
    refused: int = 0
    left: int = 0
    failed: int = 0
    elsewhere: int = 0
    broken: int = 0

    def add(self, other: "Lines") -> None:
        """Take what other lines said besides."""
        self.arrivals.extend(other.arrivals)
        self.waits.extend(other.waits)
        self.services.extend(other.services)
        self.refused += other.refused
        self.left += other.left
        self.failed += other.failed
        self.elsewhere += other.elsewhere
        self.broken += other.broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Turns by arrival, in seconds from the first one; each has a service time, recorded or lent.

    `recorded_p95_s` is the wait of those that were served, None when nobody was; `most_at_once` the calls that were in
    flight together.
    """

    arrivals: Sequence[float]
    services: Sequence[float]
    began: float
    refused: int
    left: int
    failed: int
    elsewhere: int
    broken: int
    recorded_p95_s: float | None
    most_at_once: int

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return self.arrivals[-1]

    @property
    def mean_service_s(self) -> float:
        """Mean of the service times."""
        return math.fsum(self.services) / len(self.services)

    @property
    def rate(self) -> float:
        """Arrivals per second."""
        return len(self.arrivals) / max(self.span_s, self.mean_service_s, 1e-9)


def read_lines(lines: Iterable[str]) -> Lines:
    """Return what the lines of a turn log say."""
    read, rest = Lines(), iter(lines)
    while some := [*islice(rest, AT_A_TIME)]:
        batch = [line for line in some if not line.isspace()]
        try:
            values = json.loads(f"[{','.join(batch)}]")
            whole = len(values) == len(batch)
        except (ValueError, RecursionError):
            whole = False
        for value in values if whole else map(_value, batch):
            _take(value, read)
    return read


def _value(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _take(value: Any, read: Lines) -> None:
    try:
        arrived, wait, service = value["arrived"], value["wait_s"], value["service_s"]
        refused = service is None and value["outcome"] == "shed" and value["reason"] in REFUSALS
        failed = service is not None and _failed(value)
    except (TypeError, KeyError):
        read.broken += 1
        return
    if arrived is None:
        read.elsewhere += 1
    elif _is_time(arrived) and (wait is None or _is_time(wait)) and (service is None or _is_time(service)):
        read.arrivals.append(arrived)
        read.waits.append(UNKNOWN if wait is None else wait)
        read.services.append(UNKNOWN if service is None or failed else service)
        read.refused += refused
        read.failed += failed
        read.left += service is None and not refused
    else:
        read.broken += 1


def _failed(value: Any) -> bool:
    no_answer = value.get("tokens_out") is None
    return no_answer and (value["outcome"] in FAILURES or value["reason"] == STOOD_IN)


def _is_time(value: Any) -> bool:
    return type(value) in (float, int) and 0 <= value <= LATEST_S


def as_trace(read: Lines, seed: int = 0) -> Trace:
    """Return the turns by arrival, unknown service times lent from turns of the same time.

    Raises:
        NoTurnsError: no turn was served.
    """
    order = sorted(range(len(read.arrivals)), key=read.arrivals.__getitem__)
    services = [read.services[index] for index in order]
    served = [index for index, service in enumerate(services) if service != UNKNOWN]
    if not served:
        what = f"{read.broken} lines could not be read, " if read.broken else ""
        what += f"{read.refused} turns were refused, {read.failed} failed"
        raise NoTurnsError(f"no turn that held a slot and was answered is in there ({what})")
    began = read.arrivals[order[0]]
    arrivals = [read.arrivals[index] - began for index in order]
    waits = [read.waits[index] for index in order]
    most = _most_at_once([(arrivals[at] + max(waits[at], 0.0), services[at]) for at in served])
    in_wait = sorted(max(waits[at], 0.0) for at in served)
    return Trace(
        arrivals=arrivals,
        services=_lent(services, served, random.Random(seed)),  # noqa: S311 - no secret
        began=began,
        refused=read.refused,
        left=read.left,
        failed=read.failed,
        elsewhere=read.elsewhere,
        broken=read.broken,
        recorded_p95_s=in_wait[math.ceil(0.95 * len(in_wait)) - 1],
        most_at_once=most,
    )


def _lent(services: list[float], served: list[int], draw: random.Random) -> list[float]:
    lent = services.copy()
    for index, service in enumerate(services):
        if service == UNKNOWN:
            near = bisect_left(served, index)
            lent[index] = services[draw.choice(served[max(0, near - NEIGHBOURS) : near + NEIGHBOURS])]
    return lent


def _most_at_once(calls: list[tuple[float, float]]) -> int:
    starts, ends = sorted(start for start, _service in calls), sorted(start + service for start, service in calls)
    most = over = 0
    for count, start in enumerate(starts, 1):
        while ends[over] <= start and over < count - 1:
            over += 1
        most = max(most, count - over)
    return most
