"""The routes of streams: ask for one, come back to one, stop one. Thin.

The AI SDK appends `/{id}/stream` to the address that it posts to, so resuming and stopping are under both addresses.
"""

from quart import Blueprint, Response, request

from app.edge.application import json_response
from app.edge.turns import Turns
from app.errors import Fault
from app.receive.identity import Identity
from app.receive.limits import TurnLimit
from app.receive.payload import PayloadRules
from app.receive.replies import nothing, user_of
from app.receive.streaming import followed, refused, streamed, turn_asked


def stream_routes(identity: Identity, turns: Turns, rules: PayloadRules, limit: TurnLimit) -> Blueprint:
    """Return `POST /chat/stream`, and `GET .../{id}/stream` and `POST .../{id}/stop` under `/chat` and that."""
    routes = limit.told_by(Blueprint("stream", __name__))
    routes.register_error_handler(Fault, refused)

    @routes.post("/chat/stream")
    async def stream() -> Response:
        user_id = await user_of(identity)
        turn, for_sdk = await turn_asked(user_id, rules)
        await identity.admit(user_id)
        limit.spend(user_id)
        return await streamed(turns, turn, for_sdk=for_sdk)

    @routes.get("/chat/<path:chat_id>/stream")
    @routes.get("/chat/stream/<path:chat_id>/stream")
    async def resume(chat_id: str) -> Response:
        """Follow the chat's turn from its start; 204 when there is none, or none of this user's."""
        turn = turns.table.find(await user_of(identity), chat_id)
        if turn is None or request.method != "GET":  # a HEAD would take the answer from whoever comes for it
            return nothing()
        await turn.feed.until_begun()
        return followed(turns, turn) if turn.feed.begun else nothing()

    @routes.post("/chat/<path:chat_id>/stop")
    @routes.post("/chat/stream/<path:chat_id>/stop")
    async def stop(chat_id: str) -> Response:
        """End the chat's turns; those who follow one are told so once it is saved."""
        running = turns.table.running(await user_of(identity), chat_id)
        for turn in running:
            turn.cut("stopped")
        return json_response({"stopped": bool(running)})

    return routes
