"""The extended server on a database that fails as its user asks, and a list of its routes.

    python -m tests.edge.breaking serve

As `Bearer handler-bug` the handler itself meets a bug, as `stage-bug` the turn's first stage does; as `database-down`
the database fails with a long story of why, as `long-story` with one that takes a thread to compress.

`GET /test/routes`          the address rules of the server, each with its methods
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import trio
from quart import Response

from app import bootstrap
from app.clients.breaker import Breaker
from app.clients.pools import Pools
from app.clients.ports import ChatDatabase
from app.conversations import ConversationHead
from app.edge.application import THREAD_FROM_BYTES, json_response
from app.errors import DatabaseFault
from app.settings import Settings, load_settings
from app.turn import Conversation
from telemetry.logs import log_to
from telemetry.providers import Providers
from tests.server import extended
from tests.standins import MemoryDatabase

LONG, LONGER = "why " * 2_000, "why " * THREAD_FROM_BYTES


class BreakingDatabase(MemoryDatabase):
    """A database in memory."""

    async def ensure_user(self, user_id: str) -> None:
        if user_id == "handler-bug":
            raise KeyError("a bug before the turn")
        if user_id in {"database-down", "long-story"}:
            raise DatabaseFault("database_unavailable", fields=[LONG if user_id == "database-down" else LONGER])
        await super().ensure_user(user_id)

    async def conversation_for_page(self, user_id: str, page_id: str, newest: int) -> Conversation | None:
        if user_id == "stage-bug":
            raise KeyError("a bug of a stage")
        return await super().conversation_for_page(user_id, page_id, newest)

    async def conversation(self, user_id: str, conversation_id: uuid.UUID, newest: int) -> Conversation | None:
        return await self.conversation_for_page(user_id, "", newest)

    async def heads(self, *_which: object) -> list[ConversationHead]:
        return []

    async def make_conversation(
        self, _user_id: str, page_id: str, conversation_id: uuid.UUID, title: str | None
    ) -> tuple[ConversationHead, bool]:
        now = datetime.now(UTC)
        head = ConversationHead(id=conversation_id, title=title, page_id=page_id, created_at=now, updated_at=now)
        return head, True


@asynccontextmanager
async def open_breaking(
    settings: Settings,
    services: trio.Nursery,
    providers: Providers,
    breaker: Breaker | None = None,
    pools: Pools | None = None,
) -> AsyncIterator[ChatDatabase]:
    yield cast(ChatDatabase, BreakingDatabase())  # which has of it what these tests ask


def add_routes(parts: bootstrap.Parts) -> None:
    """Add the routes to a server that does not serve yet."""
    extended.add_routes(parts)

    @parts.quart.get("/test/routes")
    async def routes() -> Response:
        methods: dict[str, list[str]] = {}
        for rule in parts.quart.url_map.iter_rules():
            methods.setdefault(rule.rule, []).extend(rule.methods or ())
        return json_response(methods)


def main() -> None:
    settings = load_settings()
    log_to(level=settings.log_level)
    bootstrap.open_database = open_breaking
    trio.run(bootstrap.run, settings, lambda _text: None, add_routes)


if __name__ == "__main__":
    main()
