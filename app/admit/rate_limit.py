"""The rate limit: for each key so many requests at once, and after that one each time an interval is over. Pure.

The generic cell rate algorithm in its form of virtual scheduling, which is the leaky bucket as a meter. Of each key one
number is kept, the theoretical arrival time (TAT): when it will have all that it may have again.

    interval = window / most
    allowed  if max(TAT, now) + interval <= now + window;  then TAT = max(TAT, now) + interval
    else     wait for max(TAT, now) + interval - window - now

So a key at rest has `most` requests at once, and in any stretch of time at most `most` and one more for each interval
of it. There is no window that begins anew, at whose edge twice as much would pass. Source: ITU-T I.371, annex A
(generic cell rate algorithm), with T = interval and tau = window - interval.

What is remembered is bounded, however many keys there are:

* A key whose TAT is over is as good as one that never asked. The first in the line of last spending are looked at with
  each new one, and forgotten then: what is remembered are the keys of one window.
* Where these are too many, the first in the line are put together: each leaves its TAT to one of `SHARED` places, which
  a secret hash picks, and a key that is not remembered begins with the TAT of its place. So who is pushed out, by
  himself with other names or by others, has nothing back, and nobody can know whose place he shares. The price is paid
  by keys that are new then: they may begin with less than all. With 50,000 others in one window, that is.
* Keys are remembered as 64 bits of the same hash: long ones take no more room, and nobody's name or address is kept.

Rejected: forgetting the first in the line where they are too many (whoever has that many names is without a limit);
refusing the keys that are new then (a flood would lock everybody out); a fixed window (twice as much at its edge); a
list of times for each key (`most` numbers in place of one).
"""

import hashlib
import math
import secrets
from array import array
from collections import OrderedDict
from dataclasses import dataclass

MAX_KEYS = 50_000
"""At once; some 12 MB. In a minute one process answers a tenth as many turns."""
SHARED = 1 << 16
"""Places for what is put together; 512 KiB. Each has a whole limit of its own: 20 a minute make 21,000 a second."""
SLACK = 1e-6
"""Of an interval: what adding up floats may be off by, so that who waited exactly as long as told is let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a key is told.

    Args:
        allowed: whether it may go on.
        limit: requests that it may make at once when it is at rest.
        remaining: of these, what is left now.
        reset_s: seconds until it is at rest, if it asks no more.
        retry_after_s: seconds until one is allowed; 0 when it is.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


class RateLimit:
    """A limit for each key; `now` is seconds of one clock that does not go back.

    Args:
        most: requests of a key at once, and in the long run in each window.
        window_s: seconds in which a key that has nothing left comes to rest.
        max_keys: how many are remembered one by one.
        secret: of the hash; random when not given.
    """

    def __init__(
        self, most: int, window_s: float, *, max_keys: int = MAX_KEYS, shared: int = SHARED, secret: bytes | None = None
    ) -> None:
        self._most = most
        self._window_s = window_s
        self._interval_s = window_s / most
        self._max_keys = max_keys
        self._secret = secrets.token_bytes(16) if secret is None else secret
        self._rest_at: OrderedDict[int, float] = OrderedDict()  # the TATs, in the order of last spending
        self._shared = array("d", bytes(8 * shared))

    def __len__(self) -> int:
        """Return how many keys are remembered one by one."""
        return len(self._rest_at)

    def look(self, key: str, now: float) -> Decision:
        """Return whether the key would be allowed a request now; nothing is spent."""
        rest_at = self._rest_of(self._hashed(key), now)
        wait_s = rest_at + self._interval_s - self._window_s - now
        return self._told(rest_at, now, wait_s)

    def spend(self, key: str, now: float) -> Decision:
        """Return whether the key is allowed a request now, which is then spent; one that is refused costs nothing."""
        hashed = self._hashed(key)
        rest_at = self._rest_of(hashed, now)
        wait_s = rest_at + self._interval_s - self._window_s - now
        if wait_s <= self._interval_s * SLACK:
            rest_at += self._interval_s
            self._rest_at[hashed] = rest_at
            self._rest_at.move_to_end(hashed)
            self._forget(now)
        return self._told(rest_at, now, wait_s)

    def _told(self, rest_at: float, now: float, wait_s: float) -> Decision:
        allowed = wait_s <= self._interval_s * SLACK
        left = (self._window_s - (rest_at - now)) / self._interval_s + SLACK
        return Decision(
            allowed=allowed,
            limit=self._most,
            remaining=max(0, math.floor(left)),
            reset_s=rest_at - now,
            retry_after_s=0.0 if allowed else wait_s,
        )

    def _hashed(self, key: str) -> int:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=8).digest()
        return int.from_bytes(digest)

    def _rest_of(self, hashed: int, now: float) -> float:
        rest_at = self._rest_at.get(hashed)
        return max(now, self._shared[hashed % len(self._shared)] if rest_at is None else rest_at)

    def _forget(self, now: float) -> None:
        """Let go of the first two in the line that are at rest: one more than came, so that a full line gets shorter.
        Then of the first that is one too many, which leaves its TAT to its place.
        """
        for _ in range(2):
            hashed, rest_at = next(iter(self._rest_at.items()))
            if rest_at > now:
                break
            del self._rest_at[hashed]
        if len(self._rest_at) > self._max_keys:
            hashed, rest_at = self._rest_at.popitem(last=False)
            place = hashed % len(self._shared)
            self._shared[place] = max(self._shared[place], rest_at)
