"""The budget of failed authentications: what is wrong more often is 429, and whoever is right is let in."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network

import pytest
import trio
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers

from app.admit.rate_limit import RateLimit
from app.errors import CallerFault, DatabaseFault, Fault
from app.receive.auth_failures import AuthFailures, GuardedIdentity
from app.receive.limits import Refusals

MOST, WINDOW_S = 3, 60.0
HERE, THERE = "198.51.100.1", "198.51.100.2"
BAD = "Bearer bad"
PROXY = "10.0.0.1"


class CountingIdentity:
    """Knows the tokens of `good`, each its user's name; those of `genuine` it refuses, though they are no guess."""

    def __init__(self) -> None:
        self.good = {f"Bearer good-{number}" for number in range(20)}
        self.genuine: set[str] = set()
        self.database: Fault | None = None
        self.asked = self.admitted = 0
        self.slow = trio.Event()
        self.slow.set()

    async def user(self, authorization: str, *, from_here: bool) -> str:
        self.asked += 1
        await self.slow.wait()
        if authorization not in self.good - self.genuine:
            raise CallerFault("unauthenticated", is_guess=authorization not in self.genuine)
        return authorization

    async def admit(self, user_id: str) -> None:
        self.admitted += 1
        if self.database is not None:
            raise self.database


class Front:
    """Requests, each in a context of its own, to an identity that is guarded."""

    def __init__(self, most: int = MOST, *, limited: bool = True) -> None:
        self.identity = CountingIdentity()
        self.refusals = Refusals()
        limit = RateLimit(most, WINDOW_S) if limited else None
        failures = AuthFailures(limit, self.refusals, (ip_network("10.0.0.0/8"),))
        self.guarded = GuardedIdentity(self.identity, failures)
        self.compared = 0
        self._failures = failures
        self._quart = QuartTrio("test")

    async def ask(self, authorization: str, address: str = HERE, forwarded: Sequence[str] = ()) -> str:
        """Return the code of a user's refusal, or `ok`."""

        async def enter() -> None:
            await self.guarded.admit(await self.guarded.user(authorization, from_here=False))

        return await self._told(enter, authorization, address, forwarded)

    async def ops(self, authorization: str, address: str = HERE) -> str:
        """Return the code of the refusal of somebody of ops, whose token is `Bearer ops`, or `ok`."""

        async def enter() -> None:
            with self._failures.watch(authorization):
                self.compared += 1
                if authorization != "Bearer ops":
                    raise CallerFault("unauthenticated")

        return await self._told(enter, authorization, address)

    async def _told(
        self, enter: Callable[[], Awaitable[None]], authorization: str, address: str, forwarded: Sequence[str] = ()
    ) -> str:
        headers = Headers([("authorization", authorization)] if authorization else [])
        headers.extend([("x-forwarded-for", line) for line in forwarded])
        scope = {"client": (address, 4711)}
        async with self._quart.test_request_context("/", headers=headers, scope_base=scope):
            try:
                await enter()
            except CallerFault as fault:
                assert (fault.retry_after_s is not None) == (fault.code == "rate_limited")
                return fault.code
        return "ok"

    async def use_up(self, address: str = HERE) -> None:
        """Fail until the address has none left."""
        while await self.ask(f"{BAD} {self.identity.asked}", address) != "rate_limited":
            pass


async def test_an_address_has_so_many_failures(autojump_clock: trio.abc.Clock) -> None:
    """Three are told that they are wrong, and the rest to wait; other addresses have their own."""
    front = Front()
    told = [await front.ask(f"{BAD}-{number}") for number in range(100)]
    assert told == ["unauthenticated"] * MOST + ["rate_limited"] * 97
    assert front.identity.admitted == 0
    assert front.refusals.counts() == {"user": 0, "address": 97}
    assert await front.ask(BAD, THERE) == "unauthenticated"


async def test_one_failure_comes_back_at_a_time(autojump_clock: trio.abc.Clock) -> None:
    """Every twenty seconds one more may fail."""
    front = Front()
    await front.use_up()
    for _ in range(3):
        await trio.sleep(WINDOW_S / MOST)
        assert [await front.ask(BAD) for _ in range(3)] == ["unauthenticated", "rate_limited", "rate_limited"]


async def test_who_is_right_costs_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Good tokens spend nothing of their address's budget, be they known or new."""
    front = Front()
    assert {await front.ask(f"Bearer good-{number % 20}") for number in range(100)} == {"ok"}
    assert [await front.ask(BAD) for _ in range(4)] == ["unauthenticated"] * 3 + ["rate_limited"]


async def test_a_good_token_passes_whatever_others_do(autojump_clock: trio.abc.Clock) -> None:
    """Guesses of a neighbour's keep nobody out: neither who was here, nor who is new, nor whose token is renewed."""
    front = Front()
    assert await front.ask("Bearer good-1") == "ok"
    await front.use_up()
    assert {await front.ask(f"Bearer good-{number}") for number in range(20)} == {"ok"}
    assert await front.ask(BAD) == "rate_limited"


async def test_a_genuine_token_is_no_guess(autojump_clock: trio.abc.Clock) -> None:
    """One that is too old, or of nobody we know: told so as often as it comes, at the price of nobody."""
    front = Front()
    front.identity.genuine = {"Bearer good-1"}
    assert {await front.ask("Bearer good-1") for _ in range(20)} == {"unauthenticated"}
    assert [await front.ask(BAD) for _ in range(4)] == ["unauthenticated"] * MOST + ["rate_limited"]
    assert await front.ask("Bearer good-1") == "unauthenticated"


async def test_a_word_is_not_compared_without_budget(autojump_clock: trio.abc.Clock) -> None:
    """The token of ops can be guessed: three are compared, and then none until there is budget, not even the right."""
    front = Front()
    assert {await front.ops("Bearer ops") for _ in range(20)} == {"ok"}
    told = [await front.ops(f"{BAD}-{number}") for number in range(20)]
    assert told == ["unauthenticated"] * MOST + ["rate_limited"] * 17
    assert front.compared == 20 + MOST
    assert [await front.ops("Bearer ops"), await front.ops("Bearer ops", THERE)] == ["rate_limited", "ok"]
    assert await front.ops("") == "unauthenticated"
    await trio.sleep(WINDOW_S / MOST)
    assert await front.ops("Bearer ops") == "ok"


async def test_users_and_ops_share_a_budget(autojump_clock: trio.abc.Clock) -> None:
    """Whoever has guessed at one has so much less left at the other."""
    front = Front()
    assert [await front.ask(BAD), await front.ops(BAD), await front.ask(BAD)] == ["unauthenticated"] * 3
    assert [await front.ops("Bearer ops"), await front.ask(BAD)] == ["rate_limited"] * 2


async def test_no_token_is_no_guess(autojump_clock: trio.abc.Clock) -> None:
    """It is refused as ever and spends nothing, and does so where there is nothing left, too."""
    front = Front()
    assert {await front.ask("") for _ in range(100)} | {await front.ops("") for _ in range(100)} == {"unauthenticated"}
    assert await front.ask("Bearer good-1") == "ok"
    await front.use_up()
    assert await front.ask("") == "unauthenticated"


async def test_what_is_not_the_callers_fault_is_not_counted(autojump_clock: trio.abc.Clock) -> None:
    """A database that is down, and a caller who leaves while he is verified, spend nothing."""
    front = Front()
    front.identity.database = DatabaseFault("database_unavailable")
    for _ in range(10):
        with pytest.raises(DatabaseFault):
            await front.ask("Bearer good-1")
    front.identity.slow = trio.Event()
    for _ in range(10):
        with trio.move_on_after(1):
            await front.ask(BAD)
    front.identity.slow.set()
    assert [await front.ask(BAD) for _ in range(4)] == ["unauthenticated"] * 3 + ["rate_limited"]


async def test_those_who_fail_together_owe_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Of ten that are verified at one moment three are told 401; the next may fail as soon as after three."""
    front, told = Front(), Counter[str]()
    front.identity.slow = trio.Event()

    async def one() -> None:
        told[await front.ask(BAD)] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        front.identity.slow.set()
    assert (front.identity.asked, told) == (10, {"unauthenticated": MOST, "rate_limited": 7})
    assert await front.ask(BAD) == "rate_limited"
    await trio.sleep(WINDOW_S / MOST)
    assert await front.ask(BAD) == "unauthenticated"


async def test_the_network_of_an_ipv6_address_is_one(autojump_clock: trio.abc.Clock) -> None:
    """Whoever has a /64 has 2^64 addresses, and one budget."""
    front = Front()
    told = [await front.ask(BAD, f"2001:db8::{number}") for number in range(1, 10)]
    assert told == ["unauthenticated"] * MOST + ["rate_limited"] * 6
    assert await front.ask(BAD, "2001:db8:0:1::1") == "unauthenticated"


async def test_behind_a_proxy_its_clients_are_apart(autojump_clock: trio.abc.Clock) -> None:
    """Each has a budget of its own, whatever it claims to be passing on; unproxied, a claim is nothing."""
    front = Front()
    told = [await front.ask(BAD, PROXY, [f"203.0.113.{number}", HERE]) for number in range(6)]
    assert told == ["unauthenticated"] * MOST + ["rate_limited"] * 3
    assert await front.ask(BAD, PROXY, [HERE, THERE]) == "unauthenticated"
    assert await front.ask(BAD, HERE, [THERE]) == "rate_limited"


async def test_without_a_limit_all_are_verified(autojump_clock: trio.abc.Clock) -> None:
    """With AUTH_FAILURES_MAX=0 an address may fail as often as it likes."""
    front = Front(limited=False)
    told = [[await front.ask(BAD), await front.ops(BAD)] for _ in range(100)]
    assert told == [["unauthenticated"] * 2] * 100
    assert await front.ops("Bearer ops") == "ok"
