"""When keys are fetched: on virtual time, with a host that counts."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from app.clients.ports import FetchedKeySet
from app.errors import IdentityFault
from app.receive.auth.key_set import KeySet
from app.receive.auth.key_source import MAX_AGE_S, REFETCH_S, FetchedKeys, FixedKeys
from tests.receive.auth.signing import SECRET, published, signer

NONE, UNUSABLE = published(), published({"kty": "EC", "crv": "P-384"})
OLD, NEW = published(signer().jwk()), published(signer("ES256", "new").jwk())
DOWN = IdentityFault("identity_unavailable", "down", error_type="ConnectError")


@dataclass
class Host:
    """`KeyHost` that answers as it is told, after a while; keeps when it was asked."""

    answer: bytes | Exception = OLD
    max_age_s: float | None = None
    wait_s: float = 0.1
    asked: list[float] = field(default_factory=list)

    async def fetch_keys(self) -> FetchedKeySet:
        self.asked.append(trio.current_time())
        await trio.sleep(self.wait_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        return FetchedKeySet(body=self.answer, max_age_s=self.max_age_s)

    def gaps(self) -> list[float]:
        return [round(later - earlier, 3) for earlier, later in zip(self.asked, self.asked[1:], strict=False)]


class Impatient(FetchedKeys):
    """Those who ask wait for a minute at most, so that a test fails where they would wait for ever."""

    async def current(self) -> KeySet:
        with trio.fail_after(60):
            return await super().current()

    async def newer(self) -> KeySet:
        with trio.fail_after(60):
            return await super().newer()


def started(host: Host, nursery: trio.Nursery, secret: str | None = None) -> FetchedKeys:
    keys = Impatient(host, secret)
    nursery.start_soon(keys.run)
    return keys


def kids(keys: KeySet) -> list[str | None]:
    return [key.kid for key in keys.keys]


async def gather(count: int, ask: Callable[[], Awaitable[KeySet]]) -> list[KeySet]:
    found: list[KeySet] = []

    async def one() -> None:
        found.append(await ask())

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return found


async def test_all_who_come_first_share_one_fetch(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Fifty wait for the attempt that is under way, and are answered with its keys."""
    host = Host(wait_s=3)
    keys = started(host, nursery)
    found = await gather(50, keys.current)
    assert len(host.asked) == 1
    assert all(each is found[0] for each in found)
    assert trio.current_time() - host.asked[0] == pytest.approx(3)


async def test_who_leaves_takes_nobody_along(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """The first waiter is cancelled while its keys are fetched; the second has them, of the same fetch."""
    host = Host(wait_s=3)
    keys = started(host, nursery)
    async with trio.open_nursery() as waiters:
        with trio.move_on_after(1) as first:
            await keys.current()
        waiters.start_soon(keys.current)
    assert first.cancelled_caught
    assert len(host.asked) == 1
    assert kids(await keys.current()) == ["first"]


@pytest.mark.parametrize(("said", "kept"), [(None, 600), (600, 600), (0, 60), (59, 60), (61, 61), (10**9, 86_400)])
async def test_keys_are_kept_as_long_as_their_host_says(
    said: float | None, kept: float, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Within a minute and a day; nobody needs to ask for them to be fetched anew, and nobody waits for that."""
    host = Host(max_age_s=said)
    keys = started(host, nursery)
    await trio.sleep(kept + 0.15)
    assert host.gaps() == [pytest.approx(kept + 0.1)]
    before = trio.current_time()
    await keys.current()
    assert trio.current_time() == before


async def test_a_set_that_is_the_same_stays_the_same_object(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """So that who remembers what was verified with it need not forget."""
    host = Host()
    keys = started(host, nursery)
    first = await keys.current()
    await trio.sleep(2 * MAX_AGE_S)
    assert await keys.current() is first
    host.answer = NEW
    await trio.sleep(MAX_AGE_S + 1)
    assert kids(await keys.current()) == ["new"]


async def test_a_flood_of_unknown_keys_is_one_fetch(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Two hundred at once, when it is time for a fetch, share one; two hundred more cause none."""
    host = Host()
    keys = started(host, nursery)
    await keys.current()
    await gather(200, keys.newer)
    assert len(host.asked) == 1
    await trio.sleep(REFETCH_S)
    await gather(200, keys.newer)
    await gather(200, keys.newer)
    assert len(host.asked) == 2


@pytest.mark.parametrize("goes_down", [False, True])
async def test_unknown_keys_for_ever_are_a_fetch_in_thirty_seconds(
    goes_down: bool, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Twenty tokens a second over ten minutes, whether the host answers or has gone down."""
    host = Host()
    keys = started(host, nursery)
    await keys.current()
    if goes_down:
        host.answer = DOWN
    with trio.move_on_after(600):
        while True:
            await keys.newer()
            await trio.sleep(0.05)
    assert 15 <= len(host.asked) <= 21
    assert min(host.gaps()) >= REFETCH_S == 30


async def test_a_new_key_is_found_by_the_token_that_shows_it(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Long before the set's time is over."""
    host = Host()
    keys = started(host, nursery)
    await keys.current()
    await trio.sleep(REFETCH_S)
    host.answer = NEW
    assert kids(await keys.newer()) == ["new"]


async def test_a_fetch_that_is_due_is_waited_for(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Who misses a key while the set is fetched anew, whose time is over, has what that brings, and causes no other."""
    host = Host(max_age_s=60, wait_s=2)
    keys = started(host, nursery)
    await keys.current()
    host.answer = NEW
    await trio.sleep(61)
    assert len(host.asked) == 2
    assert kids(await keys.current()) == ["first"]
    assert kids(await keys.newer()) == ["new"]
    assert len(host.asked) == 2


async def test_waiters_for_a_newer_set_are_independent(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Who caused the fetch leaves; the fetch goes on, and who joined has its keys."""
    host = Host(wait_s=2)
    keys = started(host, nursery)
    await keys.current()
    await trio.sleep(REFETCH_S)
    host.answer = NEW
    found: list[KeySet] = []

    async def join() -> None:
        found.append(await keys.newer())

    async with trio.open_nursery() as waiters:
        with trio.move_on_after(1):
            waiters.start_soon(join)
            await keys.newer()
    assert [kids(each) for each in found] == [["new"]]
    assert len(host.asked) == 2


async def test_down_at_the_start_recovers_by_itself(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Who asks meanwhile is told to come again; the attempts grow apart to half a minute."""
    host = Host(answer=DOWN)
    keys = started(host, nursery)
    with pytest.raises(IdentityFault) as caught:
        await keys.current()
    assert (caught.value.code, caught.value.kind.status, caught.value.retryable) == ("identity_unavailable", 503, True)
    assert caught.value.retry_after_s == pytest.approx(1)
    await trio.sleep(100)
    assert host.gaps() == [pytest.approx(wait + 0.1) for wait in (1, 2, 4, 8, 16, 30, 30)]
    assert keys.degraded
    host.answer = OLD
    await trio.sleep(31)
    assert kids(await keys.current()) == ["first"]
    assert not keys.degraded


@pytest.mark.parametrize(
    "answer",
    [DOWN, b"<html>Bad gateway</html>", b"{}", NONE, UNUSABLE, UnicodeError("label empty or too long")],
    ids=["down", "HTML", "no keys", "an empty list", "none that we can use", "unforeseen"],
)
async def test_keys_outlive_their_hosts_failures(
    answer: bytes | Exception, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """While it lasts, said in the log and by `degraded`; each attempt is half a minute after the one before."""
    host = Host(max_age_s=60)
    keys = started(host, nursery)
    held = await keys.current()
    host.answer = answer
    with caplog.at_level(logging.WARNING):
        await trio.sleep(1800)
    assert await keys.current() is held
    assert keys.degraded
    assert {vars(record)["stale"] for record in caplog.records if record.message == "auth.keys.failed"} == {True}
    assert set(host.gaps()[1:]) == {REFETCH_S + 0.1}
    host.answer = OLD
    await trio.sleep(31)
    assert await keys.current() is held
    assert not keys.degraded


async def test_an_empty_list_brings_the_legacy_secret_and_a_key_ends_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """As a project moves from its secret to keys; another empty list after that does not bring it back."""
    host = Host(answer=NONE, max_age_s=60)
    keys = started(host, nursery, SECRET)
    for answer, algorithm, degraded in (
        (NONE, "HS256", False),
        (UNUSABLE, "HS256", True),
        (NONE, "HS256", False),
        (NEW, "ES256", False),
        (NONE, "ES256", True),
        (UNUSABLE, "ES256", True),
        (OLD, "ES256", False),
    ):
        host.answer = answer
        await trio.sleep(61)
        assert [key.algorithm for key in (await keys.current()).keys] == [algorithm]
        assert keys.degraded == degraded


async def test_a_list_of_keys_that_are_not_for_us_ends_the_secret_too(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Who publishes keys has left the secret behind; an empty list after that does not bring it back."""
    host = Host(answer=UNUSABLE, max_age_s=60)
    keys = started(host, nursery, SECRET)
    for answer in (UNUSABLE, NONE):
        host.answer = answer
        await trio.sleep(61)
        assert (await keys.current()).keys == ()
        assert keys.degraded


@pytest.mark.parametrize("answer", [NONE, UNUSABLE], ids=["an empty list", "none that we can use"])
async def test_no_key_at_all_is_degraded(answer: bytes, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """A project that publishes nothing for us, and no secret: nobody can be let in, and ops are told."""
    host = Host(answer=answer)
    keys = started(host, nursery)
    assert (await keys.current()).keys == ()
    assert keys.degraded
    host.answer = OLD
    await trio.sleep(MAX_AGE_S + 1)
    assert kids(await keys.current()) == ["first"]
    assert not keys.degraded


async def test_what_nobody_foresaw_is_a_failed_fetch(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback in the log; who asks is told to come again, and the next attempt is made as ever."""
    host = Host(answer=UnicodeError("label empty or too long"))
    keys = started(host, nursery)
    with pytest.raises(IdentityFault):
        await keys.current()
    (failed,) = (record for record in caplog.records if record.message == "auth.keys.failed")
    assert (vars(failed)["error"], failed.exc_info is not None) == ("UnicodeError", True)
    host.answer = OLD
    await trio.sleep(2)
    assert kids(await keys.current()) == ["first"]


async def test_keys_have_arrived_once_and_for_all(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Not before the first set is there; after that, whatever becomes of the host."""
    host = Host(answer=DOWN, max_age_s=60)
    keys = started(host, nursery)
    assert (keys.arrived, keys.degraded) == (False, True)
    await trio.sleep(10)
    assert (keys.arrived, keys.degraded) == (False, True)
    host.answer = OLD
    await trio.sleep(31)
    assert (keys.arrived, keys.degraded) == (True, False)
    host.answer = DOWN
    await trio.sleep(3600)
    assert (keys.arrived, keys.degraded) == (True, True)


async def test_a_secret_needs_no_host() -> None:
    """Its set is there, and never newer."""
    keys = FixedKeys(SECRET)
    assert await keys.current() is await keys.newer()
    assert (keys.arrived, keys.degraded) == (True, False)
