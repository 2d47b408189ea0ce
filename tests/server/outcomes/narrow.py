"""What ends turns on a server with one slot, while they wait for it, and while the server ends; in this order."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from signal import SIGTERM
from typing import Any

from tests.server.ending import STALLS
from tests.server.outcomes.cases import FETCH, SPOKE, WHOLE, Case
from tests.server.outcomes.house import FOURTH, STEADY, THIRD, House, posted
from tests.server.outcomes.trace_judge import CHAT, Turn
from tests.server.process import until
from tests.server.wire import connected


@contextmanager
def _slot_taken(house: House, page: str) -> Iterator[None]:
    """Have a turn hold the one slot, whose model has fallen silent; its client leaves at the block's end."""
    begun = house.first_words()
    with connected(house.server) as wire:
        wire.send(posted(STALLS, page))
        until(lambda: house.first_words() > begun, "the turn has its slot, and its first word")
        yield


def _queue(house: House) -> None:
    """Fill the one slot and the two places in line; who comes then finds the line full, and those in it no slot."""
    with _slot_taken(house, "slot"), ThreadPoolExecutor(2) as pool:
        for number, user in enumerate((STEADY, THIRD), 1):
            pool.submit(house.ask, "Me too", "line", user=user)
            house.server.wait_for_gauge("llm_limiter_waiting", number)
        house.ask("And me", "beyond", user=FOURTH)


def _predict(house: House) -> None:
    """Come as the second in line, when the call in flight has taken so long that the wait would be too long."""
    with _slot_taken(house, "slot again"):
        until(lambda: house.expected_s() > 1.5, "a call is expected to take so long")
        with _in_line(house):
            until(lambda: house.expected_s() > 2.05, "a call is expected to take longer than turns wait")
            house.ask("And me", "too long", user=THIRD)
        house.server.wait_for_gauge("llm_limiter_waiting", 0)


def _leave_line(house: House) -> None:
    with _slot_taken(house, "slot once more"):
        with _in_line(house):
            pass
        house.server.wait_for_gauge("llm_limiter_waiting", 0)


@contextmanager
def _in_line(house: House) -> Iterator[None]:
    """Have a turn wait in line, whose client leaves at the block's end."""
    with connected(house.server) as wire:
        wire.send(posted("Me too", "line", user=STEADY))
        house.server.wait_for_gauge("llm_limiter_waiting", 1)
        yield


def _drain(house: House) -> None:
    """Ask with the last bytes of a request while the server drains; the turn that holds this up is cut off."""
    early = posted("Too late?", "late", user=STEADY)
    with connected(house.server) as wire, _slot_taken(house, "last"):
        wire.send(early[:-5])
        house.server.send_signal(SIGTERM)
        house.server.wait_for_log("server.draining")
        wire.send(early[-5:])
        assert wire.response().status_code == 503
        house.server.wait()


def _shed(error: str, tree: tuple[str, ...] = (), **more: Any) -> Turn:
    return Turn(tree=tree, outcome="shed", error=error, finish=None, known=bool(tree), status=503, **more)


def _no_slot(waiting: int, position: int, **more: Any) -> Turn:
    says = {"llm.queue": {"limiter.total": 1, "limiter.waiting": waiting, "queue.position": position}}
    return _shed("queue_timeout", (*FETCH, "llm.queue"), failed={"llm.queue": "queue_timeout"}, says=says, **more)


LEFT_SLOT = Turn(
    tree=WHOLE,
    outcome="cancelled",
    error="cancelled",
    failed={CHAT: "cancelled"},
    events=SPOKE,
    finish="cancelled",
    status=None,
)
LEFT_LINE = Turn(
    tree=(*FETCH, "llm.queue"),
    outcome="cancelled",
    error="cancelled",
    plan="sequential",
    failed={"llm.queue": "cancelled"},
    finish=None,
    status=None,
)
CUT_OFF = Turn(
    tree=WHOLE,
    outcome="cancelled",
    error="draining",
    failed={CHAT: "cancelled"},
    events=SPOKE,
    finish="cancelled",
    status=503,
)

NARROW: dict[str, Case] = {
    "shed: queue full, and no slot in time": Case(
        act=_queue, turns=(_shed("queue_full"), _no_slot(0, 1, plan="sequential"), _no_slot(1, 2), LEFT_SLOT)
    ),
    "shed: predicted wait": Case(act=_predict, turns=(_shed("predicted_wait"), LEFT_LINE, LEFT_SLOT)),
    "cancelled in line": Case(act=_leave_line, turns=(LEFT_LINE, LEFT_SLOT)),
    "shed: draining, and cut off by its end": Case(
        act=_drain, turns=(_shed("draining", plan="sequential"), CUT_OFF), outlives=False
    ),
}
