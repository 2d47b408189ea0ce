"""AUTH_MODE=dev: the bearer token is the user, from this machine only."""

import pytest

from app.errors import CallerFault
from app.receive.identity import MAX_KNOWN_USERS, DevIdentity
from tests.standins import MemoryDatabase


@pytest.mark.parametrize(
    "token", ["", "Bearer", "Bearer ", "Basic demo", "Bearer a b", "Bearer ../x", "Bearer " + "a" * 65, "demo"]
)
async def test_no_or_bad_token_is_401(token: str) -> None:
    """Without a well-formed bearer token nobody is let in."""
    with pytest.raises(CallerFault) as caught:
        await DevIdentity(MemoryDatabase(), make_users=True).user(token, from_here=True)
    assert (caught.value.code, caught.value.kind.status) == ("unauthenticated", 401)


async def test_who_asks_from_elsewhere_is_401() -> None:
    """A stranger that a name or a proxy has led here does not reach the dev identity."""
    with pytest.raises(CallerFault):
        await DevIdentity(MemoryDatabase(), make_users=True).user("Bearer demo", from_here=False)


async def test_who_asks_from_here_is_let_in() -> None:
    """The embedded database gets the user, once the request is known to be right."""
    database = MemoryDatabase()
    identity = DevIdentity(database, make_users=True)
    assert await identity.user("bearer demo", from_here=True) == "demo"
    assert database.users == set()
    await identity.admit("demo")
    assert database.users == {"demo"}


async def test_elsewhere_unknown_users_are_401() -> None:
    """On a database that is not ours to fill, only its users are let in."""
    identity = DevIdentity(MemoryDatabase(users={"known"}), make_users=False)
    await identity.admit("known")
    await identity.admit("known")
    with pytest.raises(CallerFault):
        await identity.admit("unknown")


async def test_known_users_are_bounded() -> None:
    """Remembering users does not grow without end."""
    identity = DevIdentity(MemoryDatabase(), make_users=True)
    for number in range(MAX_KNOWN_USERS + 5):
        await identity.admit(f"u{number}")
    assert len(identity._known) == MAX_KNOWN_USERS
