"""A budget of failed authentications for each address, so that guessing is slow.

A user's token is verified first, and only its failure is counted: a failure more than an address has is told 429 in
place of 401. So a good token passes whatever others at its address do, many people behind one proxy as well, and what
was signed for somebody, but is too old or of nobody we know yet, is no guess. Verifying costs the tenth of a
millisecond; a signature cannot be guessed, however fast.

`OPS_TOKEN` is a word, which can be. It is compared only while its address has something left, even where it is right.
No token at all is no guess, and goes past all this.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio
from quart import request

from app.admit.rate_limit import Decision, RateLimit
from app.edge.client_address import Network, client_address
from app.errors import CallerFault
from app.receive.identity import Identity
from app.receive.limits import Refusals


class AuthFailures:
    """The budget; one for all that is opened by a token.

    Args:
        limit: counts failures by address; None when there is no limit.
        refusals: told of addresses that have none left.
        trusted: networks of our proxies.
        clock: seconds that do not go back.
    """

    def __init__(
        self,
        limit: RateLimit | None,
        refusals: Refusals,
        trusted: Sequence[Network] = (),
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._limit = limit
        self._refusals = refusals
        self._trusted = trusted
        self._clock = clock

    def count(self) -> None:
        """Take one off what the current request's address has left.

        Raises:
            CallerFault: `rate_limited`: it had none.
        """
        if self._limit is not None:
            self._check(self._limit.spend(self._address(), self._clock()))

    @contextmanager
    def watch(self, authorization: str) -> Iterator[None]:
        """Compare the current request's header of that name in the block, whose `CallerFault` is counted.

        Raises:
            CallerFault: `rate_limited`, before the block: the address has none left.
        """
        if self._limit is not None and authorization:
            self._check(self._limit.look(self._address(), self._clock()))
        try:
            yield
        except CallerFault:
            if authorization:
                self.count()
            raise

    def _check(self, decision: Decision) -> None:
        if not decision.allowed:
            raise self._refusals.fault("address", decision, **self._hint())

    def _address(self) -> str:
        peer, *_port = request.scope.get("client") or (None,)
        return client_address(peer, request.headers.getlist("x-forwarded-for"), self._trusted)

    def _hint(self) -> dict[str, str]:
        if self._trusted or "x-forwarded-for" not in request.headers:
            return {}
        return {"hint": "if that was your proxy, name it in TRUSTED_PROXIES: all its clients count as one"}


class GuardedIdentity:
    """`identity`, whose refusals are counted."""

    def __init__(self, identity: Identity, failures: AuthFailures) -> None:
        self._identity = identity
        self._failures = failures

    async def user(self, authorization: str, *, from_here: bool) -> str:
        """Return the user's id."""
        try:
            return await self._identity.user(authorization, from_here=from_here)
        except CallerFault as fault:
            if authorization and fault.is_guess:
                self._failures.count()
            raise

    async def admit(self, user_id: str) -> None:
        """See to it that the user is one of the database's."""
        await self._identity.admit(user_id)
