"""The baseline: the same turn on FastAPI, uvicorn (uvloop, httptools) and asyncio.gather: `python -m bench.peer`.

Written to be fast, not to be fair to us: no identity, no limits, no deadlines, no retries, no telemetry, no log; what
it has is the turn itself. The same upstream requests, the same rows, the same reply's size, one connection pool.
`httpx` or `aiohttp` carries the calls.
"""

import argparse
import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import uvicorn  # type: ignore[import-not-found]  # in .venv-bench
from fastapi import FastAPI, Request, Response  # type: ignore[import-not-found]  # in .venv-bench
from pydantic import BaseModel

POOL = 128
COLUMNS = "id,sender,message,created_at,context_data,turn_id"
SYSTEM = "あなたは中学生の自由研究を支える先生です。"


class Calls(Protocol):
    """What carries the calls."""

    async def get(self, url: str, headers: dict[str, str]) -> bytes: ...

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> None: ...

    def stream(self, url: str, headers: dict[str, str], body: bytes) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class HttpxCalls:
    """httpx as it comes."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=POOL, max_keepalive_connections=POOL)
        self._client = httpx.AsyncClient(limits=limits, timeout=60, trust_env=False)

    async def get(self, url: str, headers: dict[str, str]) -> bytes:
        response = await self._client.get(url, headers=headers)
        return response.raise_for_status().content

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> None:
        (await self._client.post(url, headers=headers, content=body)).raise_for_status()

    async def stream(self, url: str, headers: dict[str, str], body: bytes) -> AsyncIterator[bytes]:
        async with self._client.stream("POST", url, headers=headers, content=body) as response:
            response.raise_for_status()
            async for piece in response.aiter_bytes():
                yield piece

    async def close(self) -> None:
        await self._client.aclose()


class AiohttpCalls:
    """aiohttp's client, with its C parser."""

    def __init__(self) -> None:
        import aiohttp  # type: ignore[import-not-found]  # in .venv-bench

        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=POOL), raise_for_status=True)

    async def get(self, url: str, headers: dict[str, str]) -> bytes:
        async with self._session.get(url, headers=headers) as response:
            answer: bytes = await response.read()
            return answer

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> None:
        async with self._session.post(url, headers=headers, data=body) as response:
            await response.read()

    async def stream(self, url: str, headers: dict[str, str], body: bytes) -> AsyncIterator[bytes]:
        async with self._session.post(url, headers=headers, data=body) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def close(self) -> None:
        await self._session.close()


class ChatIn(BaseModel):
    """The body of a turn."""

    message: str
    page_id: str = "general"


class Turn:
    """The turn: read, then the model beside the question's row, then the answer's row."""

    def __init__(self, calls: Calls, root: str) -> None:
        self._calls = calls
        self._rest, self._model = root + "/rest/v1/", root + "/v1/chat/completions"
        key = {"apikey": "bench"}
        self._read = {**key, "accept-profile": "public"}
        prefer = "resolution=ignore-duplicates,return=minimal"
        self._write = {**key, "content-type": "application/json", "content-profile": "public", "prefer": prefer}
        self._ask = {"content-type": "application/json", "accept": "text/event-stream"}

    async def answer(self, user: str, body: ChatIn) -> bytes:
        url = (
            f"{self._rest}chat_conversations?select=id,title,chat_logs({COLUMNS})&user_id=eq.{user}"
            f"&page_id=eq.{body.page_id}&chat_logs.order=created_at.desc,id.desc&chat_logs.limit=20&limit=1"
        )
        conversation = json.loads(await self._calls.get(url, self._read))[0]
        messages = [{"role": "system", "content": SYSTEM}]
        messages += [{"role": row["sender"], "content": row["message"]} for row in reversed(conversation["chat_logs"])]
        messages.append({"role": "user", "content": body.message})
        turn_id = str(uuid.uuid4())
        row = {"turn_id": turn_id, "user_id": user, "page": body.page_id, "conversation_id": conversation["id"]}
        _, (text, usage) = await asyncio.gather(
            self._insert({**row, "sender": "user", "message": body.message}), self._ask_model(messages)
        )
        await self._insert({**row, "sender": "assistant", "message": text, "context_data": {"token_usage": usage}})
        reply = {"response": text, "token_usage": usage, "turn_id": turn_id, "timestamp": _now()}
        return json.dumps({**reply, "conversation_id": conversation["id"]}, ensure_ascii=False).encode()

    async def _insert(self, row: dict[str, Any]) -> None:
        body = json.dumps([{**row, "created_at": _now()}], ensure_ascii=False).encode()
        await self._calls.post(self._rest + "chat_logs?on_conflict=turn_id,sender", self._write, body)

    async def _ask_model(self, messages: list[dict[str, str]]) -> tuple[str, Any]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps({"model": "bench-model", "messages": messages, "max_tokens": 800, **options}).encode()
        texts: list[str] = []
        usage, rest = None, b""
        async for piece in self._calls.stream(self._model, self._ask, body):
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                if event != b"data: [DONE]":
                    chunk = json.loads(event[6:])
                    usage = chunk["usage"] or usage
                    if chunk["choices"]:
                        texts.append(chunk["choices"][0]["delta"].get("content") or "")
        return "".join(texts), usage


def _now() -> str:
    return datetime.now(UTC).isoformat()


def application(client: str, root: str) -> Any:
    """Return the FastAPI application."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        calls: Calls = HttpxCalls() if client == "httpx" else AiohttpCalls()
        app.state.turn = Turn(calls, root)
        yield
        await calls.close()

    async def chat(body: ChatIn, request: Request) -> Any:
        user = request.headers["authorization"].removeprefix("Bearer ")
        return Response(await request.app.state.turn.answer(user, body), media_type="application/json")

    async def ready() -> Any:
        return Response("{}")

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_api_route("/chat", chat, methods=["POST"])
    app.add_api_route("/healthz", ready)
    return app


def main() -> None:
    """Serve on a port of loopback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=["httpx", "aiohttp"])
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    app = application(options.client, os.environ["UPSTREAM"])
    uvicorn.run(
        app, host="127.0.0.1", port=options.port, loop="uvloop", http="httptools", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
