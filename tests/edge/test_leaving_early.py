"""A client that leaves before its stream has begun: no generator was ever entered, and the turn ends all the same."""

from pathlib import Path
from typing import Any

import pytest
import trio

from app.turn import Conversation
from tests.edge.house import LEAVINGS, House, ask, open_house, until
from tests.server.process import AT_ONCE
from tests.server.rows import stored
from tests.server.wire import chat_head


def hold_history(house: House, go_on: trio.Event) -> None:
    """Have every read of a conversation wait."""
    database: Any = house.database
    read = database.conversation_for_page

    async def held(*arguments: Any) -> Conversation | None:
        await go_on.wait()
        found: Conversation | None = await read(*arguments)
        return found

    database.conversation_for_page = held


async def test_a_turn_that_is_stopped_before_its_stream_begins(tmp_path: Path) -> None:
    """Its client is told `abort` in a proper stream, whose start cannot name the conversation; nothing is stored."""
    async with open_house(tmp_path, db_fetch_timeout=60.0) as house:
        await house.database.ensure_user("demo")
        hold_history(house, trio.Event())
        async with house.client() as client, house.client() as other:
            await client.send_all(ask("/chat/stream", f"question {AT_ONCE}", connection="close"))
            await until(lambda: house.parts.turns.in_flight() == 1, "the turn runs")
            await other.send_all(chat_head(0).replace(b"/chat", b"/chat/general/stop", 1))
            told = b"".join([data async for data in client])
            assert b'{"stopped": true}' in await other.receive_some()
        await house.rest()
    assert [name for name in (b"conversation_id", b"turn_id", b'"type":"abort"', b"[DONE]") if name in told] == [
        b"turn_id", b'"type":"abort"', b"[DONE]"
    ]  # fmt: skip
    assert stored(tmp_path) == []


@pytest.mark.parametrize("leave", LEAVINGS.values(), ids=LEAVINGS)
@pytest.mark.parametrize("wish", ["cancel", "continue"])
async def test_who_leaves_before_the_stream_begins(tmp_path: Path, leave: Any, wish: Any) -> None:
    """While the conversation is read: the turn is cancelled and stores nothing, or goes on and is stored whole."""
    go_on = trio.Event()
    async with open_house(tmp_path, on_disconnect=wish, db_fetch_timeout=60.0) as house:
        await house.database.ensure_user("demo")
        hold_history(house, go_on)
        async with house.client() as client:
            await client.send_all(ask("/chat/stream", f"question {AT_ONCE}"))
            await until(lambda: house.parts.turns.in_flight() == 1, "the turn runs")
            leave(client)
            await until(lambda: not house.parts.edge.connections(), "it has left")
            if wish == "cancel":
                await until(lambda: not house.parts.turns.in_flight(), "its turn has ended")
            assert house.parts.turns.in_flight() == (wish == "continue")
        go_on.set()
        await house.rest()
        assert house.spans.open == {}
    finishes = [row["context_data"].get("finish") for row in stored(tmp_path)]
    assert finishes == ([] if wish == "cancel" else [None, "stop"])
