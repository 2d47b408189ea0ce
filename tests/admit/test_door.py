"""Who is turned away at the door, and why."""

import pytest

from app.admit.door import Door
from app.errors import OverloadFault


def refusal(door: Door, *, needs_model: bool = True) -> OverloadFault | None:
    try:
        door.check(needs_model=needs_model)
    except OverloadFault as fault:
        return fault
    return None


def test_an_open_door() -> None:
    """A server that is ready and has room lets turns pass."""
    assert refusal(Door(lambda: True, lambda: True)) is None
    assert refusal(Door(lambda: True)) is None


@pytest.mark.parametrize("needs_model", [True, False])
def test_without_room_no_turn_begins(needs_model: bool) -> None:
    """Where an answer could not be kept, none is asked for, by model or by rules: 503 with `Retry-After`."""
    fault = refusal(Door(lambda: True, lambda: False), needs_model=needs_model)
    assert fault is not None
    assert (fault.code, fault.kind.status, fault.error_type, fault.retry_after_s) == (
        "overloaded",
        503,
        "outbox_full",
        5.0,
    )


def test_only_who_needs_the_model_waits_for_it() -> None:
    """While the model loads, turns by rules pass."""
    door = Door(lambda: False)
    assert getattr(refusal(door), "code", None) == "model_loading"
    assert refusal(door, needs_model=False) is None


def test_a_server_that_drains_says_so_first() -> None:
    """Whatever else is the matter."""
    door = Door(lambda: False, lambda: False)
    door.draining = True
    assert getattr(refusal(door), "code", None) == "draining"


def full() -> None:
    raise OverloadFault("overloaded", retry_after_s=7.0, error_type="predicted_wait")


def test_who_could_not_be_let_in_by_the_gate_is_refused_here() -> None:
    """With the gate's own refusal and its `Retry-After`; whoever needs no model passes."""
    door = Door(lambda: True, lambda: True, full)
    fault = refusal(door)
    assert fault is not None
    assert (fault.code, fault.error_type, fault.retry_after_s) == ("overloaded", "predicted_wait", 7.0)
    assert refusal(door, needs_model=False) is None
