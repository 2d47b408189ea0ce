"""The route of a conversation's messages. Thin: who asks, for which, read it as a turn would, reply."""

from quart import Blueprint, Response, request

from app.deadlines import stage_deadline
from app.edge.application import json_response
from app.edge.turns import Turns
from app.fetch.history import ConversationReader, Wanted
from app.receive.history_query import parse_history
from app.receive.identity import Identity
from app.receive.replies import user_of
from app.respond.history_body import history_body
from app.respond.ui_history import ui_messages
from telemetry import names


def history_routes(identity: Identity, turns: Turns, conversations: ConversationReader, timeout_s: float) -> Blueprint:
    """Return `GET /chat/history`; reading may take `timeout_s` seconds."""
    routes = Blueprint("history", __name__)

    @routes.get("/chat/history")
    async def history() -> Response:
        """Give the newest messages; a page that has them has nothing to resume of the turns they are of."""
        user_id = await user_of(identity)
        query = parse_history(request.args)
        wanted = Wanted(
            user_id=user_id, page_id=query.page_id, newest=query.limit, conversation_id=query.conversation_id
        )
        with stage_deadline(names.DB_FETCH, timeout_s):
            found = await conversations(wanted)
        if request.method == "GET":  # a HEAD shows nobody anything
            turns.table.forget(user_id, found.messages)
        rows = found.messages
        return json_response(ui_messages(rows, found.id) if query.format == "ui" else history_body(rows))

    return routes
