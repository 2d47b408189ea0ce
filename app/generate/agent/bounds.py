"""Checks of a value's fields. Each raises `ValueError` with a reason that quotes nothing of the value itself."""

from collections.abc import Sequence

from app.generate.agent.text import is_storable

ENTRY_CHARS = 120
"""Of one entry in a list."""
LINE_CHARS = 240
"""Of a field that is one sentence."""
ENTRIES_MAX = 5
"""Of every list."""


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number that is not within `low` and `high`, both included; NaN is not."""
    if not low <= value <= high:
        raise ValueError(f"{name}: not within {low:g} and {high:g}")


def check_line(name: str, text: str | None, chars: int = LINE_CHARS) -> None:
    """Refuse a text over `chars` characters, or one that a JSON column cannot hold; None is fine."""
    if text is None:
        return
    if len(text) > chars:
        raise ValueError(f"{name}: over {chars} characters")
    if not is_storable(text):
        raise ValueError(f"{name}: a NUL or a lone surrogate")


def check_entries(name: str, entries: Sequence[str], most: int = ENTRIES_MAX) -> None:
    """Refuse more than `most` entries, and an entry that is empty or over `ENTRY_CHARS`."""
    check_count(name, entries, 0, most)
    for entry in entries:
        if not entry:
            raise ValueError(f"{name}: an empty entry")
        check_line(name, entry, ENTRY_CHARS)


def check_count(name: str, items: Sequence[object], least: int, most: int) -> None:
    """Refuse fewer than `least` or more than `most` items."""
    if not least <= len(items) <= most:
        raise ValueError(f"{name}: not {least} to {most} entries")
