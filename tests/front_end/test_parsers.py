"""Our streams and histories, judged by the AI SDK's own parsers: the newest and the first of lines 5 and 6."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.respond.ui_history import ui_messages
from app.turn import StoredMessage
from tests.front_end.driver import SDKS, Judge, judge, text_of
from tests.respond.test_ui_stream import OPEN, WRONG, parts
from tests.respond.ui_wire import calls, metadata, played, read_stream, utf16


@pytest.fixture(scope="module")
def parsers() -> Iterator[Judge]:
    with judge() as running:
        yield running


@pytest.fixture(scope="module")
def validators() -> Iterator[Judge]:
    with judge("validate") as running:
        yield running


@settings(max_examples=60, deadline=None)  # the first one waits for Node.js to start
@given(start=metadata, made=st.lists(calls(), max_size=15))
def test_every_stream_is_read_as_it_was_meant(
    parsers: Judge, start: dict[str, Any], made: list[tuple[str, tuple[Any, ...]]]
) -> None:
    """Whatever is called in whatever order: each version reads every part, and finds the same message in them."""
    stream = played(start, made)
    read = read_stream(stream)
    for sdk, verdict in parsers.verdicts(stream.decode()).items():
        assert verdict["error"] == (None if read.error is None else utf16(read.error)), sdk
        assert verdict["chunks"] == read.parts, sdk
        if read.parts:
            message = verdict["message"]
            assert (message["id"], message["role"]) == ("turn-1", "assistant"), sdk
            assert message["metadata"] == read.metadata, sdk
            assert utf16(text_of(message)) == utf16(read.text), sdk
            assert {part["type"] for part in message["parts"]} <= {"step-start", "text"}, sdk


REFUSED_BY = {
    "a delta before its start": SDKS,
    "a key too many": ("sdk5first",),
    "an unknown type": SDKS,
    "a number that is none": SDKS,
}


@pytest.mark.parametrize("name", REFUSED_BY)
def test_the_parsers_do_refuse(parsers: Judge, name: str) -> None:
    """These judges are none that nod: the first version knows no `finishReason`, and nobody knows other types."""
    verdicts = parsers.verdicts(WRONG[name].decode())
    assert tuple(sdk for sdk, verdict in verdicts.items() if verdict["error"] is not None) == REFUSED_BY[name]


def test_the_first_versions_know_no_other_field(parsers: Judge) -> None:
    """A field of our own in a part ends the whole stream for them."""
    verdicts = parsers.verdicts(parts(*OPEN, {"type": "finish-step", "seconds": 1}).decode())
    assert [sdk for sdk, verdict in verdicts.items() if verdict["error"] is not None] == ["sdk5first", "sdk6first"]


def test_a_history_is_valid(validators: Judge) -> None:
    """The SDK's own validation, where a version has one, takes stored messages, an answer without text too."""
    began = datetime(2026, 11, 22, tzinfo=UTC)
    rows = [
        StoredMessage(sender="user", message="Q?", created_at=began, turn_id="t1"),
        StoredMessage(sender="assistant", message="", created_at=began, turn_id="t1", context_data={"finish": "error"}),
        StoredMessage(sender="user", message="old", created_at=began + timedelta(seconds=1)),
        StoredMessage(sender="assistant", message="older", created_at=began + timedelta(seconds=2)),
    ]
    verdicts = validators.verdicts(json.dumps(ui_messages(rows, "c")))
    assert {sdk: verdict["error"] for sdk, verdict in verdicts.items()} == dict.fromkeys(SDKS)
    bad = validators.verdicts(json.dumps([{"id": "1", "role": "nobody", "parts": [{"type": "text", "text": ""}]}]))
    assert all(verdict["error"] for verdict in bad.values())
