"""Where the keys come from: fetched by one task of its own, so that no request's end or number changes what is asked.

A request never fetches. It reads the set that is there, or waits for the attempt that is under way; its cancellation
ends its own wait and nothing else. The task fetches at the start, again when a set's time is over, and once more when
somebody shows a key that is not in it, but not within `REFETCH_S` of the attempt before. When fetching fails, the set
that is there stays; without one, it is tried again after 1, 2, 4... seconds.

A list without a key for us, an empty one too, is such a failure where keys are held: what comes from a host in trouble
must not lock everybody out, nor bring back the legacy secret, which the first published key ends for good.
"""

import logging
from math import inf
from typing import Protocol

import trio

from app.clients.ports import KeyHost
from app.errors import IdentityFault
from app.receive.auth.key_set import LEGACY_ALGORITHM, KeySet, WrongKeySetError, legacy_key_set, parse_key_set

log = logging.getLogger(__name__)

REFETCH_S = 30.0
"""Between two attempts, if there are keys: somebody who makes up `kid`s must not make us ask more often."""
MAX_AGE_S = 600.0
"""Supabase's own word, for hosts that say nothing."""
MIN_AGE_S, LONGEST_AGE_S = 60.0, 86_400.0
FIRST_RETRY_S = 1.0


class Keys(Protocol):
    """The keys that count now."""

    @property
    def arrived(self) -> bool:
        """Whether there are any, or have ever been: once true, it stays so."""

    @property
    def degraded(self) -> bool:
        """Whether they may be out of date, or none can be verified with."""

    async def current(self) -> KeySet:
        """Return them.

        Raises:
            IdentityFault: there are none yet.
        """

    async def newer(self) -> KeySet:
        """Return them after a fetch, if it is time for one; for who missed a key."""


class FixedKeys:
    """`Keys` of a project's legacy secret, which nobody needs to be asked for."""

    arrived, degraded = True, False

    def __init__(self, secret: str) -> None:
        self._keys = legacy_key_set(secret)

    async def current(self) -> KeySet:
        """Return the secret's set."""
        return self._keys

    async def newer(self) -> KeySet:
        """Return the same: there is no newer one."""
        return self._keys


class FetchedKeys:
    """`Keys` that a host publishes. `run` must run beside those who ask.

    Args:
        host: has them.
        secret: the project's legacy secret, which counts while the host has published an empty list only.
    """

    def __init__(self, host: KeyHost, secret: str | None = None) -> None:
        self._host = host
        self._secret = secret
        self._keys: KeySet | None = None
        self._failures = 0
        self._begun = -inf
        self._next = -inf
        self._wanted = trio.Event()
        self._over = trio.Event()  # of the attempt that is under way; there is always one at first

    @property
    def arrived(self) -> bool:
        """Whether a set has ever been fetched."""
        return self._keys is not None

    @property
    def degraded(self) -> bool:
        """Whether the last attempt failed, or there is no key for us."""
        return self._failures > 0 or not self._held

    @property
    def _held(self) -> bool:
        return self._keys is not None and bool(self._keys.keys)

    async def run(self) -> None:
        """Fetch, and again when it is time; for ever."""
        while True:
            self._begun = trio.current_time()
            wait_s = await self._attempt()
            self._next = trio.current_time() + wait_s
            self._wanted = trio.Event()
            self._over.set()
            with trio.move_on_after(wait_s):
                await self._wanted.wait()
            if self._over.is_set():
                self._over = trio.Event()

    async def current(self) -> KeySet:
        """Return the set that is there; at first, wait for the attempt that is under way.

        Raises:
            IdentityFault: there is none yet.
        """
        if self._keys is None:
            await self._over.wait()
        if self._keys is None:
            wait_s = max(1.0, self._next - trio.current_time())
            raise IdentityFault("identity_unavailable", "no keys yet", retry_after_s=wait_s)
        return self._keys

    async def newer(self) -> KeySet:
        """Return the set after the attempt that is under way, or one that is made now if it is time for that."""
        if self._over.is_set() and trio.current_time() >= self._begun + REFETCH_S:
            self._over = trio.Event()
            self._wanted.set()
        await self._over.wait()
        return await self.current()

    async def _attempt(self) -> float:
        """Fetch once, and return the seconds until the next time."""
        try:
            fetched = await self._host.fetch_keys()
            self._take(parse_key_set(fetched.body, self._secret))
        except WrongKeySetError as exc:
            return self._failed(str(exc), "not a key set to go by")
        except IdentityFault as fault:
            return self._failed(fault.error_type, fault.note)
        except Exception as exc:  # noqa: BLE001 - whatever the host does, it ends neither the fetching nor the server
            return self._failed(type(exc).__name__, "unforeseen", exc)
        self._failures = 0
        max_age_s = MAX_AGE_S if fetched.max_age_s is None else fetched.max_age_s
        return min(max(max_age_s, MIN_AGE_S), LONGEST_AGE_S)

    def _take(self, found: KeySet) -> None:
        if self._held and not found.keys:
            raise WrongKeySetError("no_usable_keys")
        if self._keys is not None and self._keys.source == found.source:
            return  # a set that is the same stays the same object
        self._keys = found
        algorithms = sorted({key.algorithm for key in found.keys})
        if LEGACY_ALGORITHM not in algorithms:
            self._secret = None  # who publishes a list has left it behind
        level = logging.INFO if found.keys else logging.WARNING
        log.log(level, "auth.keys.new", extra={"keys": len(found.keys), "algorithms": algorithms})

    def _failed(self, error: str, note: str, unforeseen: Exception | None = None) -> float:
        wait_s = min(FIRST_RETRY_S * 2 ** min(self._failures, 10), REFETCH_S) if self._keys is None else REFETCH_S
        self._failures += 1
        extra = {"error": error, "note": note, "stale": self._keys is not None, "again_in_s": wait_s}
        log.warning("auth.keys.failed", extra=extra, exc_info=unforeseen)
        return wait_s
