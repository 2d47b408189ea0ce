"""Who asks, by the tokens of Supabase Auth: each is verified once, here, and then known for some minutes."""

import hashlib
import logging
import time
from collections.abc import Callable

import trio

from app.caller_token import CALLER_TOKEN, CallerToken
from app.clients.ports import Database
from app.deadlines import stage_deadline
from app.errors import CallerFault, IdentityFault
from app.receive.auth.key_set import KeySet
from app.receive.auth.key_source import Keys
from app.receive.auth.remembered import Remembered
from app.receive.auth.tokens import Reason, TokenRefusal, TokenRules, Verified, bearer, verify
from app.receive.rare_lines import RareLines
from telemetry import names

log = logging.getLogger(__name__)

KNOWN_S = 300.0
"""Less than the hour of a Supabase token: so long after a user was mapped anew, the old answer may count."""
UNKNOWN_S = 10.0
"""Short: who signs up is stored a moment later."""
MAX_KNOWN = 10_000
LINES_AT_ONCE = 100
"""Of refusals for one reason, then one a second: enough to see each of somebody's, and not all of a flood."""
GENUINE: frozenset[Reason] = frozenset(
    {"no_expiry", "expired", "not_yet_valid", "issued_in_future", "issuer", "audience", "subject", "unknown_user"}
)
"""Of tokens that the project did sign: who has one guesses nothing."""


class SupabaseIdentity:
    """`Identity` of who bears a token of the project's.

    Args:
        keys: those that the project signs with.
        rules: whom a token must be from, and for.
        database: knows the users.
        make_users: whether unknown users are made (the embedded database) or refused.
        timeout_s: seconds that the database may take.
        pass_on: whether the rest of the request has the caller's token (`CALLER_TOKEN`).
        now: the time of day, in seconds since 1970.
    """

    def __init__(
        self,
        keys: Keys,
        rules: TokenRules,
        database: Database,
        *,
        make_users: bool,
        timeout_s: float = 5.0,
        pass_on: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._rules = rules
        self._database = database
        self._make_users = make_users
        self._timeout_s = timeout_s
        self._pass_on = pass_on
        self._now = now
        self._lines = RareLines(LINES_AT_ONCE)
        self._used: KeySet | None = None
        self._tokens: Remembered[bytes, Verified] = Remembered(MAX_KNOWN)
        self._users: Remembered[str, str] = Remembered(MAX_KNOWN)
        self._unknown: Remembered[str, bool] = Remembered(MAX_KNOWN)
        self._made: Remembered[str, bool] = Remembered(MAX_KNOWN)

    async def user(self, authorization: str, *, from_here: bool) -> str:
        """Return the user of the bearer token, by the id that our tables have; where it is sent from says nothing here.

        Raises:
            CallerFault: `unauthenticated`; the reason is logged, and not told.
            IdentityFault: no key is known to verify it with, and that may be our fault.
            DatabaseFault, StageTimeout: the user cannot be looked up.
        """
        try:
            token = bearer(authorization)
            user_id = await self._user_of(await self._subject(token))
        except TokenRefusal as refusal:
            if refused := self._lines.due(refusal.reason):
                log.info("auth.refused", extra={"reason": refusal.reason, "refused": refused})
            raise CallerFault("unauthenticated", is_guess=refusal.reason not in GENUINE) from None
        if self._pass_on:
            CALLER_TOKEN.set(CallerToken(token))
        return user_id

    async def admit(self, user_id: str) -> None:
        """Make the user, once, where unknown ones are made; elsewhere `user` has seen to it."""
        if self._make_users and not self._made.get(user_id, trio.current_time()):
            with stage_deadline(names.DB_FETCH, self._timeout_s):
                await self._database.ensure_user(user_id)
            self._made.put(user_id, True, trio.current_time() + KNOWN_S)

    async def _subject(self, token: str) -> str:
        keys = await self._keys.current()
        self._trust(keys)
        digest = hashlib.sha256(token.encode()).digest()
        known = self._tokens.get(digest, trio.current_time())
        if known is not None and self._now() < known.expires:
            return known.subject
        verified = await self._verified(token, keys)
        self._tokens.put(digest, verified, trio.current_time() + KNOWN_S)
        return verified.subject

    async def _verified(self, token: str, keys: KeySet) -> Verified:
        try:
            return verify(token, keys, self._rules, self._now())
        except TokenRefusal as refusal:
            if not refusal.newer_keys:
                raise
        newer = await self._keys.newer()
        try:
            verified = verify(token, newer, self._rules, self._now())
        except TokenRefusal as again:
            if again.newer_keys and self._keys.degraded:
                raise IdentityFault("identity_unavailable", "a key that may be newer than ours") from None
            raise
        self._trust(newer)
        return verified

    def _trust(self, keys: KeySet) -> None:
        """Forget what was verified with other keys: one of them may have been withdrawn."""
        if self._used is not keys:
            self._tokens.clear()
            self._used = keys

    async def _user_of(self, subject: str) -> str:
        now = trio.current_time()
        known = self._users.get(subject, now)
        if known is not None:
            return known
        if self._unknown.get(subject, now):
            raise TokenRefusal("unknown_user")
        with stage_deadline(names.DB_FETCH, self._timeout_s):
            user_id = await self._database.user_of_auth_id(subject) or subject
            exists = self._make_users or await self._database.user_exists(user_id)
        now = trio.current_time()
        if not exists:
            self._unknown.put(subject, True, now + UNKNOWN_S)
            raise TokenRefusal("unknown_user")
        self._users.put(subject, user_id, now + KNOWN_S)
        return user_id
