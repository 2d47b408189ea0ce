"""The parts of a stream, as a client that trusts the server reads them (tests/respond/ui_wire.py trusts nobody)."""

import json
from collections.abc import Iterator
from typing import Any

import httpx

DONE = "[DONE]"
Part = dict[str, Any]


def parts_of(stream: str) -> list[Part]:
    """Return the parts of a whole stream, which must be ended by `[DONE]`."""
    *said, last = [event.removeprefix("data: ") for event in stream.split("\n\n") if event.startswith("data: ")]
    assert last == DONE, stream[-300:]
    return [json.loads(each) for each in said]


def text_of(parts: list[Part]) -> str:
    """Return the text that they make."""
    return "".join(part["delta"] for part in parts if part["type"] == "text-delta")


def end_of(parts: list[Part]) -> Part:
    """Return the last part: `finish`, `error` or `abort`."""
    return parts[-1]


def metadata_of(parts: list[Part]) -> dict[str, Any]:
    """Return the message's metadata, merged as clients do it."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part.get("messageMetadata") or {}
    return merged


def as_they_come(response: httpx.Response) -> Iterator[Part]:
    """Yield each part of an open stream as soon as it is there; comments as a part of type `:`."""
    for line in response.iter_lines():
        if line.startswith(":"):
            yield {"type": ":"}
        elif line.startswith("data: ") and line != f"data: {DONE}":
            yield json.loads(line.removeprefix("data: "))
