"""What is known for a while: a bounded memory whose entries end by themselves. Pure: the caller brings the time."""

from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """At most `most` values, each until its time; when it is full, the one that was not asked for the longest goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[Key, tuple[Value, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Value | None:
        """Return what is remembered of `key`, unless its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, until = entry
        if now >= until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value, until: float) -> None:
        """Remember `value`, as long as the caller's time is below `until`."""
        self._entries[key] = (value, until)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
