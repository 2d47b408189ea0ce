"""The routes of conversations. Thin: who asks, for which, read or change it, reply. Another user's is 404."""

from dataclasses import dataclass

from quart import Blueprint, Response, request

from app.deadlines import stage_deadline
from app.edge.application import json_response, read_json_body
from app.fetch.conversations import Conversations
from app.receive.conversation_query import (
    conversation_named,
    parse_conversations,
    read_new_conversation,
    read_new_title,
)
from app.receive.identity import Identity
from app.receive.limits import TurnLimit
from app.receive.payload import read_json
from app.receive.replies import NEXT_BEFORE, nothing, user_of
from app.respond.conversation_body import conversation_body, conversations_body
from telemetry import names


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationDeadlines:
    """Seconds that reading, and changing, may take."""

    fetch_s: float
    save_s: float


def conversation_routes(
    identity: Identity, conversations: Conversations, deadlines: ConversationDeadlines, limit: TurnLimit
) -> Blueprint:
    """Return `GET` and `POST /conversations`, and `GET`, `PATCH` and `DELETE /conversations/{id}`."""
    routes = limit.told_by(Blueprint("conversations", __name__))

    @routes.get("/conversations")
    async def listed() -> Response:
        user_id = await user_of(identity)
        query = parse_conversations(request.args)
        with stage_deadline(names.DB_FETCH, deadlines.fetch_s):
            page = await conversations.page(user_id, query.limit, query.before, query.q)
        response = json_response(conversations_body(page.heads))
        if page.next_before is not None:
            response.headers[NEXT_BEFORE] = page.next_before
        return response

    @routes.post("/conversations")
    async def make() -> Response:
        user_id = await user_of(identity)
        wanted = read_new_conversation(read_json(await read_json_body()))
        await identity.admit(user_id)
        limit.spend(user_id)
        with stage_deadline(names.DB_SAVE, deadlines.save_s):
            head, is_new = await conversations.make(user_id, wanted.page_id, wanted.title)
        response = json_response(conversation_body(head), 201 if is_new else 200)
        response.headers["location"] = f"/conversations/{head.id}"
        return response

    @routes.get("/conversations/<conversation_id>")
    async def one(conversation_id: str) -> Response:
        user_id = await user_of(identity)
        id_ = conversation_named(conversation_id)
        with stage_deadline(names.DB_FETCH, deadlines.fetch_s):
            return json_response(conversation_body(await conversations.one(user_id, id_)))

    @routes.patch("/conversations/<conversation_id>")
    async def rename(conversation_id: str) -> Response:
        user_id = await user_of(identity)
        id_ = conversation_named(conversation_id)
        title = read_new_title(read_json(await read_json_body()))
        with stage_deadline(names.DB_SAVE, deadlines.save_s):
            return json_response(conversation_body(await conversations.rename(user_id, id_, title)))

    @routes.delete("/conversations/<conversation_id>")
    async def delete(conversation_id: str) -> Response:
        user_id = await user_of(identity)
        id_ = conversation_named(conversation_id)
        with stage_deadline(names.DB_SAVE, deadlines.save_s):
            await conversations.hide(user_id, id_)
        return nothing()

    return routes
