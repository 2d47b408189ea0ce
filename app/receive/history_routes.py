"""The routes of a conversation's messages. Thin: who asks, for which, read it as a turn would, reply."""

from collections.abc import Mapping

from quart import Blueprint, Response, request

from app.conversations import MessagePage
from app.deadlines import stage_deadline
from app.edge.application import json_response
from app.edge.turns import Turns
from app.fetch.history import Wanted
from app.fetch.history_page import MessagePages
from app.receive.conversation_query import conversation_named
from app.receive.history_query import HistoryQuery, parse_history
from app.receive.identity import Identity
from app.receive.replies import NEXT_BEFORE, user_of
from app.respond.history_body import history_body
from app.respond.ui_history import ui_messages
from telemetry import names


def history_routes(identity: Identity, turns: Turns, pages: MessagePages, timeout_s: float) -> Blueprint:
    """Return `GET /chat/history` and `GET /conversations/{id}/messages`; reading may take `timeout_s` seconds."""
    routes = Blueprint("history", __name__)

    async def reply(user_id: str, query: HistoryQuery) -> Response:
        """Give the messages; a page that has them has nothing to resume of the turns they are of."""
        wanted = Wanted(
            user_id=user_id, page_id=query.page_id, newest=query.limit, conversation_id=query.conversation_id
        )
        with stage_deadline(names.DB_FETCH, timeout_s):
            page = await pages(wanted, query.before)
        if request.method == "GET":  # a HEAD shows nobody anything
            turns.table.forget(user_id, page.messages)
        return _response(page, query)

    @routes.get("/chat/history")
    async def history() -> Response:
        user_id = await user_of(identity)
        return await reply(user_id, parse_history(request.args))

    @routes.get("/conversations/<conversation_id>/messages")
    async def messages(conversation_id: str) -> Response:
        user_id = await user_of(identity)
        asked: Mapping[str, str] = {**request.args, "conversation_id": str(conversation_named(conversation_id))}
        return await reply(user_id, parse_history(asked))

    return routes


def _response(page: MessagePage, query: HistoryQuery) -> Response:
    rows = page.messages
    as_ui = query.format == "ui"
    response = json_response(ui_messages(rows, page.conversation_id) if as_ui else history_body(rows))
    if page.next_before is not None:
        response.headers[NEXT_BEFORE] = page.next_before
    return response
