"""From a real outbox file through the real client into the embedded database, on real time."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from app.clients.in_process import InProcessTransport
from app.clients.supabase import SupabaseDatabase
from app.embedded.postgrest import open_embedded_supabase
from app.fetch.history import conversation_id
from app.save.outbox_by_hand import deliver_file
from app.save.outbox_delivery import OutboxDelivery
from app.save.outbox_file import Outbox, open_outbox
from app.save.outbox_rules import DeliveryRules
from app.save.outbox_values import OutboxError
from app.turn import StoredMessage
from tests.save.outbox_rows import log_row, turn_rows

URL = "http://supabase.embedded"
QUICK = DeliveryRules(back_off_s=(0.01, 0.05), pause_s=(0.02, 0.1), max_rows=20)


@dataclass
class Place:
    """The database through its client, and a bare one that looks behind its back."""

    database: SupabaseDatabase
    http: httpx.AsyncClient

    async def rows(self, table: str = "chat_logs", order: str = "id") -> list[dict[str, Any]]:
        response = await self.http.get(f"/rest/v1/{table}", params={"select": "*", "order": order})
        assert response.is_success, response.text
        return list(response.json())

    async def messages(self) -> list[str]:
        return [row["message"] for row in await self.rows()]


@pytest.fixture
async def place(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Place]:
    async with (
        open_embedded_supabase(tmp_path / "supabase.sqlite3") as app,
        InProcessTransport(app, nursery) as transport,
        httpx.AsyncClient(transport=transport, base_url=URL, timeout=None) as http,
    ):
        place = Place(SupabaseDatabase(transport, URL, "embedded"), http)
        await place.database.ensure_user("ann")
        yield place


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path / "outbox") as opened:
        yield opened


def ann(turn: int, page: str = "general", **fields: Any) -> list[Any]:
    """Return a turn of Ann's on a page, in the conversation whose id is derived from both."""
    return turn_rows(turn, page=page, conversation_id=conversation_id("ann", page), **fields)


async def test_turns_arrive_in_order_with_their_conversations(place: Place, outbox: Outbox) -> None:
    """Sixty turns of three conversations that are still to be made: all there, in order, and the outbox is empty."""
    delivered, all_there = list[int](), trio.Event()

    def told(outcome: str, entries: int) -> None:
        assert outcome == "delivered"
        delivered.append(entries)
        if sum(delivered) == 120:
            all_there.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(OutboxDelivery(outbox, place.database, QUICK, told=told).run)
        for turn in range(60):
            await outbox.put(ann(turn, f"page-{turn % 3}"), title=f"Page {turn % 3}")
        with trio.fail_after(20):
            await all_there.wait()
        nursery.cancel_scope.cancel()
    assert await place.messages() == [f"{who} {turn}" for turn in range(60) for who in ("user", "assistant")]
    titles = {row["page_id"]: row["title"] for row in await place.rows("chat_conversations", "page_id")}
    assert titles == {f"page-{number}": f"Page {number}" for number in range(3)}
    found = await place.database.conversation_for_page("ann", "page-1", 100)
    assert found is not None
    assert [message.message for message in found.messages][:2] == ["user 1", "assistant 1"]
    assert outbox.entries(9) == ()


async def test_a_row_arrives_as_it_was_put(place: Place, outbox: Outbox) -> None:
    """Through the file and over the wire: text of any script, time to the microsecond, context."""
    odd = "川「'; drop\" \\ \n\t<b>&data: x\n\n🌊"
    (question, reply) = ann(1, message=odd, context_data={"finish": "stop", "n": [1, {"あ": None}]})
    await outbox.put([question, reply], title=odd)
    await OutboxDelivery(outbox, place.database).empty()
    found = await place.database.conversation("ann", question.conversation_id, 9)
    assert found is not None
    assert [replace(message, id=None) for message in found.messages] == [
        StoredMessage(
            sender=row.sender, message=odd, created_at=row.created_at, turn_id=str(row.turn_id),
            context_data=row.context_data,
        )
        for row in (question, reply)
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), [("nul \0 inside", "22P05"), ("half \ud83c pair", "UnicodeEncodeError")])
async def test_what_the_database_cannot_hold_is_set_aside(place: Place, outbox: Outbox, text: str, reason: str) -> None:
    """Its turn waits for somebody, with the reason; those around it arrive."""
    await outbox.put(ann(1), title="t")
    await outbox.put([ann(2)[0], ann(2, message=text)[1]], title="t")
    await outbox.put(ann(3), title="t")
    await OutboxDelivery(outbox, place.database).empty()
    assert [(entry.row.turn_id.int, entry.reason) for entry in outbox.entries(9)] == [(2, reason), (2, reason)]
    assert await place.messages() == ["user 1", "assistant 1", "user 2", "user 3", "assistant 3"]


async def test_a_turn_of_an_unknown_user_is_delivered_once_there_is_one(place: Place, outbox: Outbox) -> None:
    """Set aside with 23503; when the user is there and somebody retries, it goes its way."""
    await outbox.put(ann(1, user_id="new"), title="t")
    delivery = OutboxDelivery(outbox, place.database, QUICK)
    await delivery.empty()
    assert [entry.reason for entry in outbox.entries(9)] == ["23503", "23503"]
    await place.database.ensure_user("new")
    assert await outbox.retry(outbox.entries(1)[0].id)
    await delivery.empty()
    assert await place.messages() == ["user 1", "assistant 1"]


async def test_a_lost_race_for_the_page_is_mapped_to_the_winner(place: Place, outbox: Outbox) -> None:
    """Another server made the conversation under an id of its own: all rows, now and later, are in that one."""
    winner = await place.database.ensure_conversation("ann", "general", uuid.uuid4(), "Theirs")
    await outbox.put(ann(1), title="Mine")
    delivery = OutboxDelivery(outbox, place.database)
    await delivery.empty()
    await outbox.put(ann(2))
    await delivery.empty()
    assert {row["conversation_id"] for row in await place.rows()} == {str(winner)}
    assert outbox.resolve(conversation_id("ann", "general")) == winner


async def test_rows_that_are_there_already_are_not_doubled(place: Place, outbox: Outbox) -> None:
    """The turn's own save had written the question, and its answer was lost on the way."""
    made = await place.database.ensure_conversation("ann", "general", conversation_id("ann", "general"), "t")
    await place.database.write_rows([ann(1)[0]])
    await outbox.put(ann(1), title="t")
    await outbox.put([log_row(2, conversation_id=made)])
    await OutboxDelivery(outbox, place.database).empty()
    assert await place.messages() == ["user 1", "assistant 1", "user 2"]


async def test_an_orphan_is_emptied_by_hand(place: Place, tmp_path: Path) -> None:
    """The file's rows arrive, and it is removed with all that stands beside it."""
    async with open_outbox(tmp_path / "outbox") as outbox:
        for turn in range(30):
            await outbox.put(ann(turn), title="t")
    left = await deliver_file(outbox.path, place.database, QUICK)
    assert (left.waiting, left.set_aside) == (0, 0)
    assert len(await place.messages()) == 60
    assert [path.name for path in outbox.path.parent.iterdir()] == []


async def test_an_orphan_keeps_what_was_set_aside(place: Place, tmp_path: Path) -> None:
    """What the database refuses stays in the file, which is told and left."""
    async with open_outbox(tmp_path / "outbox") as outbox:
        await outbox.put(ann(1, message="nul \0"), title="t")
        await outbox.put(ann(2), title="t")
    left = await deliver_file(outbox.path, place.database, QUICK)
    assert (left.waiting, left.set_aside) == (0, 2)
    assert await place.messages() == ["user 2", "assistant 2"]
    async with open_outbox(tmp_path / "outbox") as again:
        assert [entry.reason for entry in again.entries(9)] == ["22P05", "22P05"]


async def test_what_is_deleted_by_hand_ends_its_pause(outbox: Outbox, nursery: trio.Nursery) -> None:
    """The database refuses us, somebody deletes what waits: the delivery hears of it well before its next attempt."""
    refusing = httpx.MockTransport(lambda request: httpx.Response(401, json={"code": "PGRST301"}))
    told = trio.Event()
    delivery = OutboxDelivery(
        outbox,
        SupabaseDatabase(refusing, URL, "wrong key"),
        DeliveryRules(pause_s=(3600, 3600)),
        told=lambda outcome, entries: told.set(),
    )
    await outbox.put(ann(1))
    nursery.start_soon(delivery.run)
    await told.wait()
    for entry in outbox.entries(9):
        await outbox.delete(entry.id)
    with trio.fail_after(20):
        while outbox.statistics().paused is not None:
            await trio.lowlevel.checkpoint()  # nobody tells of a pause that is over
    assert outbox.statistics().waiting == 0


async def test_an_orphan_whose_database_refuses_us_is_left(place: Place, tmp_path: Path) -> None:
    """Nothing is lost, and the reason is told."""
    await place.http.aclose()
    async with open_outbox(tmp_path / "outbox") as outbox:
        await outbox.put(ann(1), title="t")
    refusing = httpx.MockTransport(lambda request: httpx.Response(401, json={"code": "PGRST301"}))
    with pytest.raises(OutboxError, match="PGRST301"):
        await deliver_file(outbox.path, SupabaseDatabase(refusing, URL, "wrong key"), QUICK)
    async with open_outbox(tmp_path / "outbox") as again:
        assert again.statistics().waiting == 2
