"""A strict reader of the UI message stream, stricter than the protocol's first clients; and calls that make streams.

It knows nothing of how app/respond/ui_stream.py works: what it takes is written down in `FIELDS` and `STATES`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from app.respond.ui_stream import UiStream

# Type of a part -> its fields, and which of them must be there.
FIELDS: dict[str, tuple[dict[str, type | tuple[type, ...]], set[str]]] = {
    "start": ({"messageId": str, "messageMetadata": dict}, set()),
    "start-step": ({}, set()),
    "text-start": ({"id": str}, {"id"}),
    "text-delta": ({"id": str, "delta": str}, {"id", "delta"}),
    "text-end": ({"id": str}, {"id"}),
    "finish-step": ({}, set()),
    "finish": ({"messageMetadata": dict}, set()),
    "message-metadata": ({"messageMetadata": dict}, {"messageMetadata"}),
    "error": ({"errorText": str}, {"errorText"}),
    "abort": ({}, set()),
    "data-stage": ({"data": dict, "transient": bool}, {"data", "transient"}),
    "data-queue": ({"data": dict, "transient": bool}, {"data", "transient"}),
}
# State -> the types that may come then, and the state after each. Data parts, once the step has begun, change nothing.
STATES: dict[str, dict[str, str]] = {
    "nothing": {"start": "started"},
    "started": {"start-step": "step"},
    "step": {
        "text-start": "text",
        "finish-step": "step over",
        "error": "over",
        "abort": "over",
        "message-metadata": "failing",
    },
    "text": {"text-delta": "text", "text-end": "text over"},
    "text over": {"finish-step": "step over", "error": "over", "abort": "over", "message-metadata": "failing"},
    "failing": {"error": "over"},
    "step over": {"finish": "over"},
    "over": {"[DONE]": "done"},
    "done": {},
}
DATA_MAY_COME = ("step", "text")


@dataclass(slots=True)
class Read:
    """What a stream said."""

    state: str = "nothing"
    message_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    data: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    error: str | None = None
    parts: int = 0
    types: list[str] = field(default_factory=list)


def read_stream(stream: bytes) -> Read:
    """Return what a stream says, or fail where it says it wrongly."""
    read = Read()
    blocks = stream.decode("utf-8").split("\n\n")
    assert blocks.pop() == "", "every event ends with an empty line"
    for block in blocks:
        assert "\n" not in block
        assert "\r" not in block
        if block.startswith(":"):
            assert read.state != "done"
            continue
        assert block.startswith("data: "), block
        said = block.removeprefix("data: ")
        _take(read, {"type": "[DONE]"} if said == "[DONE]" else json.loads(said, parse_constant=_no_constant))
    return read


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def _take(read: Read, part: dict[str, Any]) -> None:
    kind = part.pop("type")
    if kind.startswith("data-"):
        assert read.state in DATA_MAY_COME, (kind, read.state)
    else:
        assert kind in STATES[read.state], (kind, read.state)
        read.state = STATES[read.state][kind]
    read.types.append(kind)
    if kind == "[DONE]":
        return
    read.parts += 1
    known, needed = FIELDS[kind]
    assert set(part) <= set(known), (kind, part)
    assert needed <= set(part), (kind, part)
    for name, value in part.items():
        assert isinstance(value, known[name]), (kind, name, value)
    _note(read, kind, part)


def _note(read: Read, kind: str, part: dict[str, Any]) -> None:
    read.message_id = part.get("messageId", read.message_id)
    read.metadata = merged(read.metadata, part.get("messageMetadata", {}))
    read.text += part.get("delta", "")
    read.error = part.get("errorText", read.error)
    if "data" in part:
        assert part["transient"] is True
        read.data.append((kind, part["data"]))


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as clients merge it: objects deeply, all else replaced."""
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def utf16(text: str) -> str:
    """Return a text as JavaScript has it: two halves of a surrogate pair, side by side, are one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


Call = Callable[[UiStream], bytes]
_letters = 'a"\\{}: \n\r\t\x00\x7fé\u2028\u2029\ufeff質👍'
_texts = st.text(_letters, max_size=12) | st.sampled_from(["", "\r\n\n", "data: [DONE]\n\n", "\ud83d", "\ude00"])
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9), st.text(_letters, max_size=6)
)
_keys = st.sampled_from(["trace_id", "warnings", "metrics", "コ"])
_values = _scalars | st.lists(_scalars, max_size=2) | st.dictionaries(_keys, _scalars, max_size=2)
metadata = st.dictionaries(_keys, _values, max_size=3)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, tuple[Any, ...]]:
    """Draw one call: a method's name and arguments."""
    name = draw(st.sampled_from(["text"] * 6 + ["start", "stage", "queue", "ping", "finish", "fail", "abort"]))
    arguments: dict[str, tuple[Any, ...]] = {
        "text": (draw(_texts),),
        "stage": (
            "llm",
            draw(st.sampled_from(["running", "done", "failed"])),
            draw(st.floats(0, 60)),
            draw(st.none() | st.floats(0, 60)),
        ),
        "queue": (draw(st.integers(0, 99)), draw(st.none() | st.floats(0, 60))),
        "finish": (draw(metadata),),
        "fail": (draw(_texts), draw(st.none() | metadata)),
    }
    return name, arguments.get(name, ())


def played(start: dict[str, Any], made: Sequence[tuple[str, tuple[Any, ...]]]) -> bytes:
    """Return the stream that a row of calls makes."""
    stream = UiStream("turn-1", start)
    return b"".join(getattr(stream, name)(*arguments) for name, arguments in made)
