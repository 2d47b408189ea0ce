"""The SSE decoder: the same events however the bytes are cut, and a bound on their size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clients.sse_decode import SseDecoder, SseError


def decode(*chunks: bytes) -> list[str]:
    decoder = SseDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_a_line_end(end: bytes) -> None:
    """LF, CRLF and CR end lines; comments and other fields are passed over; data lines are joined."""
    stream = end.join([b": ping", b"event: x", b"data: one", b"", b"data:two", b"data: three", b"id: 5", b"", b"x"])
    assert decode(stream) == ["one", "two\nthree"]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), min_size=1)), st.data())
def test_events_do_not_depend_on_how_bytes_are_cut(events: list[str], data: st.DataObject) -> None:
    """Cutting the stream anywhere, inside a character too, changes nothing."""
    stream = b"".join(b"data: " + event.encode() + b"\r\n\r\n" for event in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == events


def test_sizes_are_bounded() -> None:
    """An endless line, an endless event and bytes that are no text each end in an error."""
    with pytest.raises(SseError):
        SseDecoder(max_event_bytes=10).feed(b"data: 01234567890")
    decoder = SseDecoder(max_event_bytes=10)
    decoder.feed(b"data: 012345\n")
    with pytest.raises(SseError):
        decoder.feed(b"data: 678901\n")
    with pytest.raises(SseError):
        decode(b"data: \xff\n\n")


@given(st.binary())
def test_no_bytes_raise_anything_else(stream: bytes) -> None:
    """Whatever comes, the decoder returns events or says that it is no such stream."""
    try:
        assert all(isinstance(event, str) for event in decode(stream))
    except SseError as exc:
        assert str(exc)
