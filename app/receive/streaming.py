"""A turn as the AI SDK's stream: the bytes that a follower is sent, and what is refused before the first of them.

Headers go out once the turn has begun: its fetch is done and it waits for the model, or has it. What fails before that
keeps its status: `application/problem+json` for our own body, plain text for the SDK's, which shows it as it is.

What a follower is sent comes from a generator that holds nothing: no nursery, scope or span is open across its `yield`,
and a turn is let go of by the request's end (`at_end`), whether or not the generator was ever entered.
"""

import time
from collections.abc import AsyncIterator
from contextlib import suppress

import trio
from quart import Response, g, request
from werkzeug.exceptions import HTTPException

from app.edge.application import log_refusal, problem_response, read_json_body, reply_language, request_facts
from app.edge.turn_feed import Follower, QueueShown, StageShown, Told, TurnEnd
from app.edge.turn_table import RunningTurn
from app.edge.turns import Turns
from app.errors import Fault, OverloadFault
from app.receive.payload import PayloadRules, read_chat, read_json
from app.receive.replies import fault_reply, idempotency_key
from app.receive.ui_messages import is_ui_body, read_ui, ui_turn
from app.respond.chat_body import server_timing
from app.respond.language import Language
from app.respond.ui_stream import (
    HEADERS,
    UiStream,
    failure_metadata,
    fault_sentence,
    finish_metadata,
    refusal,
    start_metadata,
)
from app.turn import TurnRequest

PING_S = 15.0
"""Of silence, after which a comment is sent; proxies close what is silent for 30 to 60 s."""
BODY_PATIENCE_S = 0.5
"""For the body of a request that is refused by its head, to learn who is to read the refusal."""
SDK_FIELD = b'"messages"'
"""The SDK's body has it, ours has not; in a text the quotes would be escaped. To read a stranger's MiB as JSON, only to
learn how to refuse it, would hold up all turns for some 30 ms."""


async def turn_asked(user_id: str, rules: PayloadRules) -> tuple[TurnRequest, bool]:
    """Return the turn that the current request's body asks for, and whether that is the AI SDK's body.

    Raises:
        Fault: as `read_json_body`, `read_json`, `read_chat` and `read_ui` do.
    """
    value = read_json(await read_json_body())
    g.sent_by_sdk = is_ui_body(value)
    if g.sent_by_sdk:
        return ui_turn(read_ui(value, rules), user_id, rules, idempotency_key()), True
    return read_chat(value, user_id, rules, idempotency_key()), False


async def refused(fault: Fault) -> Response:
    """Return a fault that is not about a turn, in the form that its reader can show."""
    if not await _is_for_sdk():
        return await problem_response(fault)
    log_refusal(fault)
    return _text(fault)


async def _is_for_sdk() -> bool:
    """Return whether the AI SDK reads the answer: it sent its body, or asks to resume. Ours may be on its way yet."""
    if request.method == "GET":
        return True
    if "sent_by_sdk" not in g:
        g.sent_by_sdk = False
        with trio.move_on_after(BODY_PATIENCE_S), suppress(Fault, HTTPException):
            g.sent_by_sdk = SDK_FIELD in await read_json_body()
    return bool(g.sent_by_sdk)


def _text(fault: Fault) -> Response:
    text, headers = refusal(fault, reply_language())
    return Response(text, fault.kind.status, headers=headers)


async def streamed(turns: Turns, asked: TurnRequest, *, for_sdk: bool) -> Response:
    """Run a turn and return its stream, or its refusal when it failed before it began.

    Raises:
        OverloadFault: `draining`: the server ended first.
    """
    turn = turns.begin(asked, request_facts().trace_id)
    request_facts().at_end.append(turn.leave)
    await turn.feed.until_begun()
    end = turn.feed.end
    if end is None or turn.feed.begun or not isinstance(end.result, Fault) or end.result.code == "stopped":
        return followed(turns, turn)
    if not for_sdk:
        return fault_reply(asked, end.result, end.clock)
    response = _text(end.result)
    response.headers["server-timing"] = server_timing(end.clock)
    return response


def followed(turns: Turns, turn: RunningTurn) -> Response:
    """Return a turn's stream, from its start on.

    Raises:
        OverloadFault: `draining`: the server ended before there was anything to tell.
    """
    if turn.feed.over and turn.feed.end is None:
        raise OverloadFault("draining", "cut off by the end of the drain")
    response = Response(_parts(turns, turn, reply_language()), headers=dict(HEADERS))
    response.timeout = None
    return response


async def _parts(turns: Turns, turn: RunningTurn, language: Language) -> AsyncIterator[bytes]:
    metadata = start_metadata(turn.feed.conversation_id, turn.request.turn_id, turn.trace_id)
    stream, follower = UiStream(str(turn.request.turn_id), metadata), turn.feed.follower()
    yield stream.start() + _written(stream, follower.take(), turn, language)
    while not stream.ended:
        news = await _next(follower)
        if news is None:
            yield stream.ping()
        elif news:
            yield _written(stream, news, turn, language)
        else:
            yield stream.fail(fault_sentence(OverloadFault("draining"), language))
    turns.table.seen(turn)  # asked to go on, so the last part was taken


async def _next(follower: Follower) -> list[Told] | None:
    """Return what is new, or None when it is time for a sign of life."""
    with trio.move_on_after(PING_S):
        return await follower.more()
    return None


def _written(stream: UiStream, news: list[Told], turn: RunningTurn, language: Language) -> bytes:
    return b"".join(_part(stream, told, turn, language) for told in news)


def _part(stream: UiStream, told: Told, turn: RunningTurn, language: Language) -> bytes:
    match told:
        case str():
            return stream.text(told)
        case StageShown():
            return stream.stage(told.stage, told.state, told.at_s, told.seconds)
        case QueueShown():
            return stream.queue(told.position, told.estimated_wait_s)
        case TurnEnd(Fault() as fault, clock):
            if fault.code == "stopped":
                return stream.abort()
            return stream.fail(fault_sentence(fault, language), failure_metadata(fault, clock))
        case TurnEnd(outcome, clock):
            assert not isinstance(outcome, Fault)
            return stream.finish(finish_metadata(outcome, clock, turn.trace_id, language, time.time_ns()))
