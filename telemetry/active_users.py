"""How many different users were seen in the last minutes, in memory that does not grow with them.

A HyperLogLog sketch (Flajolet, Fusy, Gandouet, Meunier: "HyperLogLog: the analysis of a near-optimal cardinality
estimation algorithm", 2007) per slot of time. A user's 64-bit hash picks one of m registers, which keeps the largest
"position of the first 1" among the hashes it saw; the harmonic mean of the registers estimates the number of users.
Sketches of several slots merge by taking each register's maximum, so a user seen in many slots is counted once.

With m = 2048 the standard error is 1.04 / sqrt(m) = 2.3 %; up to 2.5 m users the count of empty registers is used
instead (linear counting), which is exact to about one for the dozens of users a process usually has. Memory: slots * m
bytes = 20 KiB.
"""

import hashlib
import math
import secrets
from collections.abc import Callable, Iterable

_INDEX_BITS = 11
_REGISTERS = 1 << _INDEX_BITS
_RANK_BITS = 64 - _INDEX_BITS
_ALPHA = 0.7213 / (1 + 1.079 / _REGISTERS)  # the paper's bias correction for m >= 128
_SLOTS = 10


class ActiveUsers:
    """Distinct users of the last `window_s` seconds; a user falls out up to a tenth of the window early."""

    def __init__(self, clock: Callable[[], float], window_s: float = 300.0, key: bytes | None = None) -> None:
        """Start with nobody.

        Args:
            clock: monotonic seconds.
            window_s: how far back a user counts.
            key: of the hash; random when not given, so that nobody can choose ids that distort the estimate.
        """
        self._clock = clock
        self._slot_s = window_s / _SLOTS
        self._key = secrets.token_bytes(16) if key is None else key
        self._slots: dict[int, bytearray] = {}

    def seen(self, user_id: str) -> None:
        """Count `user_id` from now on; again and again is the same as once."""
        hashed = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), key=self._key, digest_size=8).digest()
        register, rank = _place(int.from_bytes(hashed))
        slot = self._slot()
        slot[register] = max(slot[register], rank)

    def count(self) -> int:
        """Return the estimated number of users in the window. May be called from another thread: it only looks."""
        oldest = self._now() - _SLOTS
        return estimate([slot for index, slot in self._slots.copy().items() if index > oldest])

    def _now(self) -> int:
        return math.floor(self._clock() / self._slot_s)

    def _slot(self) -> bytearray:
        now = self._now()
        if now not in self._slots:
            self._slots = {index: slot for index, slot in self._slots.items() if index > now - _SLOTS}
            self._slots[now] = bytearray(_REGISTERS)
        return self._slots[now]


def estimate(sketches: Iterable[bytes | bytearray]) -> int:
    """Return the number of distinct hashes that went into any of `sketches`, each of 2048 registers."""
    merged = bytes(map(max, bytes(_REGISTERS), *sketches)) if (sketches := list(sketches)) else bytes(_REGISTERS)
    raw = _ALPHA * _REGISTERS**2 / math.fsum(2.0**-rank for rank in merged)
    empty = merged.count(0)
    if raw <= 2.5 * _REGISTERS and empty:
        return round(_REGISTERS * math.log(_REGISTERS / empty))
    return round(raw)


def _place(hashed: int) -> tuple[int, int]:
    """Return register and rank of a 64-bit hash: its top bits, and the position of the first 1 in the others."""
    rest = hashed & ((1 << _RANK_BITS) - 1)
    return hashed >> _RANK_BITS, _RANK_BITS - rest.bit_length() + 1
