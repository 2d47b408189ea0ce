"""The slots that no turn wants: who waits for one, who has one, and who must give it up again.

The gate (gate.py) decides when there is one to spare, and when a turn wants it back.
"""

import trio


class Spare:
    """A study of the conversation agent, which waits for a spare slot, or has one."""

    __slots__ = ("begun", "granted", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.granted = trio.Event()
        self.begun = False

    async def wait(self) -> None:
        """Return as soon as there is a slot for it; one that is taken back before that does not count."""
        while True:
            await self.granted.wait()
            if self.granted.is_set():
                break
        self.begun = True


class Spares:
    """All studies that wait for a slot of `limiter`, or have one."""

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self._limiter = limiter
        self._waiting: dict[Spare, None] = {}
        self._held: dict[Spare, None] = {}
        self._leaving: set[Spare] = set()

    def __len__(self) -> int:
        """Return how many have a slot; safe to call from any thread."""
        return len(self._held) + len(self._leaving)

    def join(self, spare: Spare) -> None:
        """Add one that waits."""
        self._waiting[spare] = None

    def hand_out(self) -> None:
        """Give what slots are free to those who wait, first come first served."""
        while self._waiting and self._limiter.available_tokens > 0:
            spare = next(iter(self._waiting))
            del self._waiting[spare]
            self._limiter.acquire_on_behalf_of_nowait(spare)
            self._held[spare] = None
            spare.granted.set()

    def make_way(self, turns: int) -> None:
        """Take the slot from the newest, for so many turns in all; those that are giving theirs up count."""
        for _ in range(min(turns - len(self._leaving), len(self._held))):
            spare, _nothing = self._held.popitem()
            if spare.begun:
                self._leaving.add(spare)
                spare.scope.cancel()
            else:
                self._limiter.release_on_behalf_of(spare)
                spare.granted = trio.Event()
                self._waiting = {spare: None} | self._waiting

    def leave(self, spare: Spare) -> None:
        """Forget one, with its slot if it has one."""
        if spare in self._held or spare in self._leaving:
            self._limiter.release_on_behalf_of(spare)
        self._waiting.pop(spare, None)
        self._held.pop(spare, None)
        self._leaving.discard(spare)
