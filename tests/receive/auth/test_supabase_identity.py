"""Who a token's user is here, and for how long that is known: on virtual time, with a database that counts."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from app.errors import CallerFault, DatabaseFault, IdentityFault, StageTimeout
from app.receive.auth.key_set import KeySet
from app.receive.auth.key_source import FixedKeys
from app.receive.auth.supabase_identity import KNOWN_S, LINES_AT_ONCE, MAX_KNOWN, UNKNOWN_S, SupabaseIdentity
from app.receive.auth.tokens import mint, verify
from tests.receive.auth.signing import NOW, RULES, SECRET, claims, key_set, signer
from tests.standins import Before, MemoryDatabase, at_once, failing, never


@dataclass
class CountingDatabase(MemoryDatabase):
    """Counts what identity asks of it; `before_users` is what each such call waits for."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    before_users: Before = at_once

    async def user_exists(self, user_id: str) -> bool:
        self.asked.append(("exists", user_id))
        await self.before_users()
        return await super().user_exists(user_id)

    async def user_of_auth_id(self, auth_id: str) -> str | None:
        self.asked.append(("mapped", auth_id))
        await self.before_users()
        return await super().user_of_auth_id(auth_id)

    async def ensure_user(self, user_id: str) -> None:
        self.asked.append(("ensure", user_id))
        await super().ensure_user(user_id)


class GivenKeys:
    """`Keys` that a test sets."""

    arrived = True

    def __init__(self, keys: KeySet, newer: KeySet | None = None) -> None:
        self.keys = keys
        self.next = newer or keys
        self.degraded = False

    async def current(self) -> KeySet:
        return self.keys

    async def newer(self) -> KeySet:
        self.keys = self.next
        return self.keys


@dataclass
class Place:
    """An identity and what is around it. `verified` counts how often a token was read."""

    database: CountingDatabase
    keys: Any
    identity: SupabaseIdentity
    verified: list[str]

    async def user(self, token: str) -> str:
        return await self.identity.user(f"Bearer {token}", from_here=False)


Make = Callable[..., Place]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes places, whose time of day goes with the clock."""

    def place(*, keys: Any = None, make_users: bool = False, **database: Any) -> Place:
        rows = CountingDatabase(**({"users": {"demo", "ann"}} | database))
        chosen, seen = keys or FixedKeys(SECRET), list[str]()

        def noted(token: str, *rest: Any) -> Any:
            seen.append(token)
            return verify(token, *rest)

        monkeypatch.setattr("app.receive.auth.supabase_identity.verify", noted)
        begun = trio.current_time()
        identity = SupabaseIdentity(
            chosen, RULES, rows, make_users=make_users, now=lambda: NOW + trio.current_time() - begun
        )
        return Place(rows, chosen, identity, seen)

    return place


def token(user: str = "demo", valid_s: float = 3600) -> str:
    return mint(user, SECRET, RULES, now=NOW, valid_s=valid_s)


async def refused(place: Place, one: str) -> CallerFault:
    with pytest.raises(CallerFault) as caught:
        await place.user(one)
    assert (caught.value.code, caught.value.note, caught.value.fields) == ("unauthenticated", "", ())
    return caught.value


async def test_a_token_is_read_once_and_known_for_five_minutes(make: Make, autojump_clock: MockClock) -> None:
    """A thousand requests with it are one verification and one look-up; after that, another."""
    place = make()
    for _ in range(1000):
        assert await place.user(token()) == "demo"
    assert len(place.verified) == 1
    assert place.database.asked == [("mapped", "demo"), ("exists", "demo")]
    await trio.sleep(KNOWN_S - 1)
    await place.user(token())
    assert len(place.verified) == 1
    await trio.sleep(2)
    await place.user(token())
    assert len(place.verified) == 2
    assert len(place.database.asked) == 4


async def test_a_known_token_is_not_known_past_its_expiry(make: Make, autojump_clock: MockClock) -> None:
    """It is read again from then on, passes for the 30 seconds of skew, and no longer."""
    place = make()
    short = token(valid_s=60)
    await place.user(short)
    await trio.sleep(59)
    await place.user(short)
    assert len(place.verified) == 1
    await trio.sleep(2)
    await place.user(short)
    await place.user(short)
    assert len(place.verified) == 3
    await trio.sleep(30)
    await refused(place, short)


async def test_what_is_known_is_bounded(make: Make, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    """The one that was not seen for the longest is forgotten first; a refused token is not remembered at all."""
    monkeypatch.setattr("app.receive.auth.supabase_identity.MAX_KNOWN", 3)
    place = make(users={f"u{number}" for number in range(5)})
    assert MAX_KNOWN == 10_000
    for number in range(3):
        await place.user(token(f"u{number}"))
    await place.user(token("u0"))
    await place.user(token("u3"))
    place.verified.clear()
    for number in (0, 2, 3):
        await place.user(token(f"u{number}"))
    assert place.verified == []
    await place.user(token("u1"))
    assert len(place.verified) == 1
    for number in range(50):
        await refused(place, f"{token()}{number}")
    identity = place.identity
    assert max(len(each) for each in (identity._tokens, identity._users, identity._unknown)) == 3


async def test_a_token_that_differs_by_a_character_is_another(make: Make, autojump_clock: MockClock) -> None:
    """Not even a signature's last one is left out of what a token is known by."""
    place = make()
    good = token()
    await place.user(good)
    for wrong in (good[:-1] + ("A" if good[-1] != "A" else "B"), good + "A", good[:-1]):
        await refused(place, wrong)


async def test_a_withdrawn_key_ends_what_it_verified(make: Make, autojump_clock: MockClock) -> None:
    """As soon as a new set is there, not five minutes later."""
    keys = GivenKeys(key_set(signer("ES256", "old"), signer()))
    place = make(keys=keys, users={claims()["sub"]})
    old = signer("ES256", "old").token()
    await place.user(old)
    keys.keys = keys.next = key_set(signer())
    await refused(place, old)
    await place.user(signer().token())


async def test_a_rotated_key_lets_its_first_token_in(make: Make, autojump_clock: MockClock) -> None:
    """The token that shows an unknown key is verified with the newer set, and known."""
    keys = GivenKeys(key_set(signer("ES256", "old")), key_set(signer("ES256", "old"), signer()))
    place = make(keys=keys, users={claims()["sub"]})
    await place.user(signer("ES256", "old").token())
    rotated = signer().token()
    assert await place.user(rotated) == claims()["sub"]
    count = len(place.verified)
    await place.user(rotated)
    assert len(place.verified) == count


@pytest.mark.parametrize("held", [key_set(signer("ES256", "old")), key_set()], ids=["rotated", "none"])
async def test_a_key_that_we_cannot_fetch_is_not_the_tokens_fault(
    make: Make, held: KeySet, autojump_clock: MockClock
) -> None:
    """While the host of the keys is down, a token of an unknown key is 503; what no newer key could change is 401."""
    keys = GivenKeys(held)
    place = make(keys=keys, users={claims()["sub"]})
    keys.degraded = True
    with pytest.raises(IdentityFault) as caught:
        await place.user(signer().token())
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after_s) == ("identity_unavailable", True, 5)
    await refused(place, "no.token.atall")
    if held.keys:
        await refused(place, signer("ES256", "old").token() + "A")
    keys.degraded = False
    await refused(place, signer().token())
    keys.degraded, keys.next = True, key_set(signer())
    await refused(place, signer().token() + "A")
    keys.degraded = False
    keys.keys = keys.next = key_set(signer())
    assert await place.user(signer().token()) == claims()["sub"]


@pytest.mark.parametrize(
    ("one", "is_guess"),
    [
        (lambda: token(valid_s=-40), False),
        (lambda: token("nobody"), False),
        (lambda: token() + "A", True),
        (lambda: mint("demo", SECRET + "x", RULES, now=NOW, valid_s=-40), True),
        (lambda: mint("demo", SECRET, replace(RULES, audience="anon"), now=NOW, valid_s=60), False),
        (lambda: "demo", True),
    ],
    ids=["expired", "a new user's", "forged", "forged and expired", "another audience", "no token"],
)
async def test_only_what_the_project_did_not_sign_is_a_guess(
    make: Make, one: Callable[[], str], is_guess: bool, autojump_clock: MockClock
) -> None:
    """One's own token of yesterday is none, nor that of somebody whose row is not there yet."""
    fault = await refused(make(), one())
    assert fault.is_guess == is_guess


async def test_a_user_is_mapped_to_an_id_of_the_tables(make: Make, autojump_clock: MockClock) -> None:
    """`user_id_mapping` names another id than the token's; it is looked up once, and the other way round never."""
    place = make(mapping={"6f2f8b0e": "7"}, users={"7"})
    for _ in range(3):
        assert await place.user(token("6f2f8b0e")) == "7"
    assert place.database.asked == [("mapped", "6f2f8b0e"), ("exists", "7")]
    assert await place.user(token("7")) == "7"


async def test_a_mapping_counts_before_a_user_of_that_id(make: Make, autojump_clock: MockClock) -> None:
    """Somebody with a row of either kind is always the same user."""
    place = make(mapping={"ann": "demo"})
    assert await place.user(token("ann")) == "demo"


@pytest.mark.parametrize("mapping", [{}, {"nobody": "gone"}], ids=["unknown", "mapped to nobody"])
async def test_who_is_no_user_is_refused_and_may_come_again_soon(
    make: Make, mapping: dict[str, str], autojump_clock: MockClock
) -> None:
    """A flood of them asks the database once in ten seconds; a user that is made meanwhile is let in after that."""
    place = make(mapping=mapping)
    for _ in range(100):
        await refused(place, token("nobody"))
    asked = len(place.database.asked)
    assert asked == 2
    place.database.users |= {"nobody", "gone"}
    await refused(place, token("nobody"))
    await trio.sleep(UNKNOWN_S)
    assert await place.user(token("nobody")) == mapping.get("nobody", "nobody")


async def test_a_new_mapping_counts_after_some_minutes(make: Make, autojump_clock: MockClock) -> None:
    """Not before: that is what is saved."""
    place = make()
    await place.user(token("ann"))
    place.database.mapping["ann"] = "demo"
    await trio.sleep(KNOWN_S - 1)
    assert await place.user(token("ann")) == "ann"
    await trio.sleep(2)
    assert await place.user(token("ann")) == "demo"


async def test_the_embedded_database_makes_its_users(make: Make, autojump_clock: MockClock) -> None:
    """Once the request is known to be right, and once in a while; until then nothing is written."""
    place = make(make_users=True, users=set())
    assert await place.user(token("new")) == "new"
    assert place.database.users == set()
    for _ in range(3):
        await place.identity.admit("new")
    assert place.database.users == {"new"}
    assert place.database.asked == [("mapped", "new"), ("ensure", "new")]


async def test_elsewhere_nobody_is_made(make: Make, autojump_clock: MockClock) -> None:
    """`admit` writes nothing into a database that is not ours to fill."""
    place = make()
    await place.identity.admit("nobody")
    assert place.database.asked == []


async def test_a_database_that_is_down_is_not_the_tokens_fault(make: Make, autojump_clock: MockClock) -> None:
    """503 and not 401, and nothing is remembered of it; who is known is not looked up."""
    place = make()
    await place.user(token())
    place.database.before_users = failing(DatabaseFault("database_unavailable", "down"))
    with pytest.raises(DatabaseFault):
        await place.user(token("ann"))
    assert await place.user(token()) == "demo"
    place.database.before_users = at_once
    assert await place.user(token("ann")) == "ann"


async def test_a_look_up_has_a_deadline(make: Make, autojump_clock: MockClock) -> None:
    """A database that hangs is a 504 of its stage."""
    place = make()
    place.database.before_users = never
    with pytest.raises(StageTimeout) as caught:
        await place.user(token())
    assert caught.value.stage == "db_fetch"


async def test_without_keys_a_token_is_neither_right_nor_wrong(make: Make, autojump_clock: MockClock) -> None:
    """503, to be asked again; but who brings no token is told so."""

    class NoKeys(GivenKeys):
        async def current(self) -> KeySet:
            raise IdentityFault("identity_unavailable", "no keys yet")

    place = make(keys=NoKeys(key_set()))
    with pytest.raises(IdentityFault):
        await place.user(token())
    with pytest.raises(CallerFault):
        await place.identity.user("", from_here=False)


async def test_why_is_logged_in_a_word_and_the_token_nowhere(
    make: Make, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """What is refused leaves one line with a reason out of a table, and no part of itself."""
    place = make()
    bad = [mint("ann", SECRET + "x", RULES, now=NOW, valid_s=60), token("canary"), "x" * 9000, "canary.canary.canary"]
    with caplog.at_level(logging.DEBUG):
        for one in bad:
            await refused(place, one)
    reasons = [vars(record)["reason"] for record in caplog.records if record.message == "auth.refused"]
    assert reasons == ["signature", "unknown_user", "too_long", "malformed"]
    logged = "\n".join(str(vars(record)) for record in caplog.records)
    assert not any(piece in logged for one in bad for piece in [*one.split("."), "canary"])


async def test_a_flood_of_refusals_is_a_line_a_second(
    make: Make, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """After the first of each reason, with how many there were; no reason waits for another's line."""
    place = make()
    with caplog.at_level(logging.INFO):
        for _ in range(LINES_AT_ONCE + 5):
            await refused(place, "no token")
        await refused(place, token("nobody"))
        await trio.sleep(1)
        await refused(place, "no token")
    told = [vars(record) for record in caplog.records if record.message == "auth.refused"]
    assert [(line["reason"], line["refused"]) for line in told] == [
        *[("malformed", 1)] * LINES_AT_ONCE,
        ("unknown_user", 1),
        ("malformed", 6),
    ]


async def test_a_known_token_costs_microseconds(make: Make, autojump_clock: MockClock) -> None:
    """Far less than a signature: a bound for a slow machine, twenty times what is measured."""
    keys = GivenKeys(key_set(signer()))
    place = make(keys=keys, users={claims()["sub"]})
    header = f"Bearer {signer().token()}"
    await place.identity.user(header, from_here=False)
    begun = time.process_time()
    for _ in range(2000):
        await place.identity.user(header, from_here=False)
    each_us = (time.process_time() - begun) / 2000 * 1e6
    assert each_us < 200, f"{each_us:.1f} us"
