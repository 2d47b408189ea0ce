"""What the stand-ins answer and what the load generator asks, built once: a turn's realistic size, in Japanese."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

MODEL = "bench-model"
KEY = "sk-bench-0000"
CONVERSATION = str(UUID(int=7))
MARK = b"[end]"
"""The last characters of every answer: who sees them has the whole of it."""
TICK = b"~"
"""In every token of a paced answer once, and nowhere else: who counts them knows how many tokens have come, also where
several came as one piece."""
QUESTION = "温度を変えて光合成の速さを比べたいのですが、光の強さはどうやってそろえればよいでしょうか。"
REPLY = (
    "よい着眼点ですね。比べたいもの以外の条件をそろえることを「対照」といいます。光源と水草の距離を同じにし、同じ電球を使い、"
    "部屋の明かりを消してみましょう。まず一つの温度で三回ずつ測り、値のばらつきを確かめてから次に進みませんか。[end]"
)
MESSAGES = 20


def _message(number: int) -> dict[str, Any]:
    asks = number % 2 == 0
    at = datetime(2026, 1, 5, 9, tzinfo=UTC) + timedelta(seconds=40 * number)
    context: dict[str, Any] = {"trace_id": f"{number + 1:032x}"}
    if not asks:
        context |= {
            "finish": "stop",
            "model": MODEL,
            "token_usage": {"prompt_tokens": 1480, "completion_tokens": 96, "total_tokens": 1576},
            "fallback_used": None,
            "warnings": [],
            "project_id": None,
            "history_count": 20,
            "performance_metrics": {"db_fetch_time": 0.1012, "llm_response_time": 1.0234, "limiter_wait_time": 0.0},
        }
    return {
        "id": number + 1,
        "sender": "user" if asks else "assistant",
        "message": f"{number}番: {QUESTION if asks else REPLY[:-5]}",
        "created_at": at.isoformat(),
        "context_data": context,
        "turn_id": str(UUID(int=100 + number // 2)),
    }


def history() -> bytes:
    """Return PostgREST's answer to the read of a conversation: the newest 20 messages, newest first."""
    rows = [_message(number) for number in reversed(range(MESSAGES))]
    return _json([{"id": CONVERSATION, "title": "光合成の実験", "chat_logs": rows}])


def project() -> bytes:
    """Return PostgREST's answer to the read of a project."""
    row = {"id": 1, "theme": "光合成", "question": "温度で速さは変わるか", "hypothesis": "25度で最も速い"}
    return _json([row])


def pieces(tokens: int) -> list[str]:
    """Return the answer in so many pieces, or one fewer; the mark is one of its own, for gateways to hand on whole."""
    text, mark = REPLY[: -len(MARK)], MARK.decode()
    size = max(1, -(-len(text) // max(1, tokens - 1)))
    return [*(text[start : start + size] for start in range(0, len(text), size)), mark]


def events(tokens: int) -> list[bytes]:
    """Return the answer as OpenAI streams it: a role, the pieces, the finish, the usage, the end."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in pieces(tokens)]
    chunks = [_chunk([_choice(delta, None)]) for delta in deltas]
    chunks += [_chunk([_choice({}, "stop")]), _chunk([], _usage())]
    return [b"data: " + _json(chunk) + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def paced() -> tuple[bytes, bytes, bytes]:
    """Return the parts of an answer of any length: its first event, one token, its last events with the mark."""
    first, *_pieces, mark, stop, usage, done = events(3)
    token = _chunk([_choice({"content": f"観察{TICK.decode()}"}, None)])
    return first, b"data: " + _json(token) + b"\n\n", mark + stop + usage + done


def completion() -> bytes:
    """Return the same answer unstreamed."""
    message = {"role": "assistant", "content": REPLY, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json({**_chunk([choice], _usage()), "object": "chat.completion"})


def _chunk(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1767600000,
        "model": MODEL,
        "system_fingerprint": "fp_bench",
        "choices": choices,
        "usage": usage,
    }


def _choice(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 1480, "completion_tokens": 96, "total_tokens": 1576}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def turn_request(user: int, page: str, path: str = "/chat") -> bytes:
    """Return the whole HTTP request of a turn."""
    body = _json({"message": QUESTION, "page_id": page})
    return _post(path, f"bench-{user}", body)


def completion_request(*, streamed: bool) -> bytes:
    """Return the whole HTTP request for a gateway: the same prompt, made by the client."""
    messages = [{"role": "system", "content": "あなたは中学生の自由研究を支える先生です。"}]
    messages += [{"role": row["sender"], "content": row["message"]} for row in map(_message, range(MESSAGES))]
    messages.append({"role": "user", "content": QUESTION})
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    body = _json({"model": MODEL, "messages": messages, "max_tokens": 800, **options})
    return _post("/v1/chat/completions", KEY, body)


def _post(path: str, token: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
