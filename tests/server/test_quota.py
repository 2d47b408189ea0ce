"""A model host that allows so many requests a minute, and says so: the server keeps to it without being refused."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.clients.in_process import AsgiApp, Message
from tests.server.neighbours import model_host
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.wire import problem

Send = Callable[[Message], Any]


@dataclass(slots=True)
class Quota:
    """So many requests a minute, of which one comes back every `60 / limit` seconds."""

    limit: int
    left: float
    since: float = field(default_factory=time.monotonic)
    taken: int = 0
    refused: int = 0

    def around(self, model: AsgiApp) -> AsgiApp:
        """Return the model behind this quota, which it tells with every answer."""

        async def guarded(scope: Message, receive: Callable[[], Any], send: Send) -> None:
            if scope["type"] != "http":
                await model(scope, receive, send)
            elif self._take():
                await model(scope, receive, partial(_telling, self._headers(), send))
            else:
                await _refuse([*self._headers(), (b"retry-after", b"1")], send)

        return guarded

    def _take(self) -> bool:
        now = time.monotonic()
        self.left, self.since = min(self.limit, self.left + (now - self.since) * self.limit / 60), now
        if self.left < 1:
            self.refused += 1
            return False
        self.left -= 1
        self.taken += 1
        return True

    def _headers(self) -> list[tuple[bytes, bytes]]:
        values = {
            "limit": str(self.limit),
            "remaining": str(int(self.left)),
            "reset": f"{(self.limit - self.left) * 60 / self.limit:.3f}s",
        }
        return [(f"x-ratelimit-{name}-requests".encode(), value.encode()) for name, value in values.items()]


async def _telling(headers: list[tuple[bytes, bytes]], send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        message = {**message, "headers": [*message["headers"], *headers]}
    await send(message)


async def _refuse(headers: list[tuple[bytes, bytes]], send: Send) -> None:
    error = {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded", "param": None}}
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(error).encode()})


@contextmanager
def served(folder: Path, quota: Quota, **settings: str) -> Iterator[ServerProcess]:
    """Run the server before a host with a quota, of which it has heard: one turn has been answered."""
    with model_host(quota.around) as host, running(folder, OPENAI_BASE_URL=f"{host.url}/v1", **settings) as server:
        server.answer(f"First {AT_ONCE}")
        yield server


def look(server: ServerProcess) -> dict[str, Any]:
    return dict(server.http.get("/ops/limiter").json())


@pytest.mark.parametrize("mode", ["fixed", "adaptive"])
def test_what_the_host_allows_is_not_exceeded(tmp_path: Path, mode: str) -> None:
    """Of five turns at once two have to wait a moment for a request to come back; the host refuses none of them."""
    quota = Quota(limit=60, left=4)
    with served(tmp_path, quota, LLM_LIMITER_MODE=mode) as server:
        with ThreadPoolExecutor(5) as pool:
            asked = list(pool.map(lambda user: server.ask(f"Why? {AT_ONCE}", user=user), "abcde"))
        assert [response.status_code for response in asked] == [200] * 5
        assert (quota.taken, quota.refused) == (6, 0)
        body = look(server)
        assert body["pacer"]["requests"]["limit"] == 60
        assert body["pacer"]["requests"]["left"] < 30  # one comes back each second
        assert body["pacer"]["tokens"] is None
        assert (body["pacer"]["waiting"], body["rejections"]) == (0, {"overload": 0, "quota": 0, "quota_wait": 0})


def test_a_long_wait_is_told_at_once(tmp_path: Path) -> None:
    """Who would wait for a request for longer than a caller should is 503 with that wait, and never sent."""
    quota = Quota(limit=3, left=1.5)
    with served(tmp_path, quota) as server:
        response = server.ask(f"Why? {AT_ONCE}", user="b")
        body = problem(response, 503, "model_busy")
        assert body["retryable"]
        assert 5 < int(response.headers["retry-after"]) <= 20
        assert (quota.taken, quota.refused) == (1, 0)
        assert look(server)["rejections"] == {"overload": 0, "quota": 0, "quota_wait": 1}
        assert server.wait_for_log("turn.refused", turn_id=body["turn_id"])["error"] == "quota_wait"


@dataclass(slots=True)
class UsedUp:
    """A host whose quota for model "big" is used up, by its word and for as long as it says; "small" is well."""

    headers: list[tuple[bytes, bytes]]
    asked: list[str] = field(default_factory=list)

    def around(self, model: AsgiApp) -> AsgiApp:
        """Return the models behind it."""

        async def guarded(scope: Message, receive: Callable[[], Any], send: Send) -> None:
            if scope["type"] != "http":
                await model(scope, receive, send)
                return
            messages = [message := await receive()]
            while message.get("more_body"):
                messages.append(message := await receive())
            body = b"".join(each["body"] for each in messages)
            self.asked.append(json.loads(body)["model"])
            if self.asked[-1] == "big":
                await _refuse(self.headers, send)
            else:
                await model(scope, partial(_again, messages, receive), send)

        return guarded


async def _again(messages: list[Message], receive: Callable[[], Any]) -> Message:
    return messages.pop(0) if messages else await receive()


def test_a_model_whose_quota_is_used_up_leaves_the_fallback_its_own(tmp_path: Path) -> None:
    """Four turns are answered by the other model; the first is asked once, and not again while its wait lasts."""
    told = {"limit": "3", "remaining": "0", "reset": "60s"}
    headers = [(f"x-ratelimit-{name}-requests".encode(), value.encode()) for name, value in told.items()]
    host = UsedUp([*headers, (b"retry-after", b"20")])
    with model_host(host.around) as model:
        models = {"OPENAI_MODEL": "big", "OPENAI_FALLBACK_MODEL": "small"}
        with running(tmp_path, OPENAI_BASE_URL=f"{model.url}/v1", **models) as server:
            answers = [server.ask(f"Why? {AT_ONCE}", user=user) for user in "abcd"]
            assert [(each.status_code, each.json()["fallback_used"]) for each in answers] == [(200, "model")] * 4
            assert host.asked == ["big", *["small"] * 4]
            body = look(server)
            assert body["rejections"] == {"overload": 0, "quota": 1, "quota_wait": 3}
            assert body["pacer"]["requests"]["limit"] == 3
            for reason, count in body["rejections"].items():
                assert server.gauge(f'llm_pacer_refusals_total{{reason="{reason}"}}') == count
            assert server.gauge("llm_pacer_waiting") == 0


def test_an_estimate_over_the_whole_quota_costs_no_turn(tmp_path: Path) -> None:
    """A host names fewer tokens a minute than one call is estimated to cost, and refuses nothing: all are answered."""
    told = {"limit": "1000", "remaining": "1000", "reset": "0s"}
    headers = [(f"x-ratelimit-{name}-tokens".encode(), value.encode()) for name, value in told.items()]

    def around(model: AsgiApp) -> AsgiApp:
        async def telling(scope: Message, receive: Callable[[], Any], send: Send) -> None:
            await model(scope, receive, partial(_telling, headers, send) if scope["type"] == "http" else send)

        return telling

    with model_host(around) as model, running(tmp_path, OPENAI_BASE_URL=f"{model.url}/v1") as server:
        server.answer(f"First {AT_ONCE}")
        with ThreadPoolExecutor(10) as pool:
            asked = list(pool.map(lambda user: server.ask(f"Why? {AT_ONCE}", user=user), "abcdefghij"))
        assert [response.status_code for response in asked] == [200] * 10
        assert look(server)["pacer"]["tokens"]["limit"] == 1000


def test_a_refusal_for_a_quota_is_no_overload(tmp_path: Path) -> None:
    """Where somebody else used the quota up, the refusal holds calls back and leaves the adaptive limit alone."""
    quota = Quota(limit=30, left=3)
    with served(tmp_path, quota, LLM_LIMITER_MODE="adaptive") as server:
        total = look(server)["total_tokens"]
        quota.left = 0.0
        server.answer(f"Why? {AT_ONCE}", user="b")
        assert quota.refused >= 1
        body = look(server)
        assert body["rejections"]["overload"] == 0
        assert body["rejections"]["quota"] == quota.refused
        assert body["total_tokens"] >= total
