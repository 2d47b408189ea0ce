"""The model over OpenAI's chat completions API, always streamed: the only file that knows that wire.

Sources: OpenAI's API reference (chat completions, streaming, errors, rate limits). Other servers leave things out, so
everything but the text is optional. Faults are decided by `error.code` first and by the status after it; the text of an
error, which may quote the prompt, goes nowhere.
"""

import email.utils
import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import trio

from app.clients import USER_AGENT, basic_authorization, below
from app.clients.openai_parameters import INSTEAD, ParameterRefusedError, fitted, refused_parameter
from app.clients.ports import ModelEnd, ModelRequest, OnText
from app.clients.rate_limits import rate_limits
from app.clients.sse_decode import SseDecoder, SseError
from app.errors import CallerFault, Fault, ModelFault
from app.turn import TokenUsage

log = logging.getLogger(__name__)

MAX_ERROR_BYTES = 64 * 1024
ERROR_BODY_S = 2.0
"""A refusal's body that does not come is not waited for: its status says enough."""
MAX_REQUEST_ID_CHARS = 128
"""OpenAI's have 36; what is longer goes into no log."""
REST_OF_BODY_S = 0.1
"""After `[DONE]` the body is read to its end, so that its connection can serve the next call. A host that leaves it
open costs every answer this long, and its slot, so it is short: the end comes with `[DONE]` or in the next packet.
"""
_UNSTORABLE = re.compile("[\ud800-\udfff\0]")
_MAX_TOKENS = 1 << 53  # beyond it, not every reader of JSON keeps a whole number whole
_PROMPT_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_NEVER = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
_BUSY_CODES = frozenset(
    {"rate_limit_exceeded", "slow_down", "server_is_overloaded", "rate_limit_error", "overloaded_error"}
)
_REFUSED_CODES = frozenset(
    {
        "invalid_api_key",
        "model_not_found",
        "unsupported_parameter",
        "invalid_value",
        "content_filter",
        "content_policy_violation",
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
    }
)
"""The codes of 400, 401, 403, 404 and 422: inside a 200 they are as little worth another try."""
_KNOWN_CODES = _PROMPT_TOO_LONG | _NEVER | _BUSY_CODES | _REFUSED_CODES | {"server_error"}
"""What telemetry may count must be bounded, and a host may call an error what it likes."""
_BUSY_STATUSES = frozenset({429, 503, 529})
_BRIEF_STATUSES = frozenset({408, 409, 500, 502, 504})


class OpenAIModel:
    """`ChatModel` over httpx.

    Args:
        transport: carries the requests; the stages' deadlines end slow calls.
        base_url: of the API, with its version: `https://api.openai.com/v1`.
        key: the API key; empty when the server wants none.
        name: the model to ask for.
        provider: who runs it, in the words of the GenAI conventions; the host's name, when not given.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, base_url: str, key: str, name: str, provider: str = ""
    ) -> None:
        self._url = url = below(base_url, "/chat/completions")
        self.name = name
        self.host = (url.host, url.port or (443 if url.scheme == "https" else 80))
        self.provider = provider or url.host
        self._transport = transport
        self._refused: set[tuple[str, str]] = set()  # which model has refused which parameter
        self._headers = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # what is packed comes late, and may unpack to more than the loop can chew
            "user-agent": USER_AGENT,
            **basic_authorization(url),
        }
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    async def answer(self, request: ModelRequest, on_text: OnText) -> ModelEnd:
        """Ask once, pass each piece of text on, and return how the answer ended.

        Only where the model refuses a parameter that it can be asked without is it asked again, at once; that is
        remembered.
        """
        while True:
            body = fitted(_body(request), {name for model, name in self._refused if model == request.model})
            try:
                return await self._ask(request, body, on_text)
            except ParameterRefusedError as refused:
                self._remember(request.model, refused.name)

    def _remember(self, model: str, name: str) -> None:
        if (model, name) not in self._refused:
            self._refused.add((model, name))
            log.info("model.parameter_refused", extra={"model": model, "parameter": name, "instead": INSTEAD[name]})

    async def _ask(self, request: ModelRequest, body: Mapping[str, Any], on_text: OnText) -> ModelEnd:
        request_id: str | None = None
        try:
            content = json.dumps(body, ensure_ascii=False).encode()
            question = httpx.Request("POST", self._url, headers=self._headers, content=content)
            response = await self._transport.handle_async_request(question)
            try:
                request_id = _request_id(response.headers)
                _tell_limits(request, response)
                if response.status_code == 200 and _is_packed(response.headers):
                    raise ModelFault("model_error", "packed, though nobody asked for that", error_type="bad_stream")
                if response.status_code != 200:
                    error = await _error_body(response)
                    if name := refused_parameter(response.status_code, error, body):
                        raise ParameterRefusedError(name)
                    raise _refusal(response, error)
                return await _follow(response, on_text)
            finally:
                await response.aclose()
        except httpx.HTTPError as exc:
            fault = _broken(type(exc).__name__)
            fault.request_id = request_id
            raise fault from exc
        except ModelFault as fault:
            fault.request_id = request_id
            raise


@dataclass(slots=True)
class _Answer:
    """What has been learnt from the chunks so far."""

    finish_reason: str | None = None
    model: str | None = None
    response_id: str | None = None
    usage: TokenUsage | None = None
    done: bool = False
    fault: Fault | None = None

    def texts(self, decoder: SseDecoder, piece: bytes) -> list[str]:
        """Learn from a piece of the body and return its texts, one for each event. What is wrong is kept as `fault`.

        Raising it inside the loop over the body would leave httpx's generators suspended, to be finalised elsewhere.
        """
        texts: list[str] = []
        try:
            for data in () if self.done or self.fault else _events(decoder, piece):
                if data == "[DONE]":
                    self.done = True
                    break
                texts.append(_text(self, data))
        except Fault as fault:
            self.fault = fault
        return texts

    def take(self, chunk: Mapping[str, Any]) -> str:
        """Learn from a chunk and return its text."""
        if chunk.get("error") is not None:
            raise _error_chunk(chunk["error"])
        self.model = _text_or_none(chunk.get("model")) or self.model
        self.response_id = _text_or_none(chunk.get("id")) or self.response_id
        self.usage = _usage(chunk.get("usage")) or self.usage
        choices = chunk.get("choices") or []
        if not choices:
            return ""
        self.finish_reason = _text_or_none(choices[0].get("finish_reason")) or self.finish_reason
        content = (choices[0].get("delta") or {}).get("content") or ""
        if not isinstance(content, str):
            raise TypeError("content")
        return _storable(content)


def _tell_limits(request: ModelRequest, response: httpx.Response) -> None:
    if request.on_limits is None:
        return
    refused = response.status_code != 200
    wait_s = named_wait(response.headers, datetime.now(UTC)) if refused else None
    overloaded = refused and response.status_code != 429
    limits = rate_limits(response.headers, refused=refused, overloaded=overloaded, retry_after_s=wait_s)
    if limits is not None:
        request.on_limits(limits)


async def _follow(response: httpx.Response, on_text: OnText) -> ModelEnd:
    decoder, answer = SseDecoder(), _Answer()
    with trio.CancelScope() as reading:
        try:
            async for piece in response.aiter_bytes():
                if texts := answer.texts(decoder, piece):
                    on_text("".join(texts))
                if answer.done or answer.fault:
                    rest_s = REST_OF_BODY_S if answer.done else 0.0
                    reading.deadline = min(reading.deadline, trio.current_time() + rest_s)
        except httpx.HTTPError:
            if not answer.done and answer.finish_reason is None:
                raise
    if answer.fault is not None:
        raise answer.fault
    if not answer.done and answer.finish_reason is None:
        raise _broken("truncated")
    return ModelEnd(
        finish_reason=answer.finish_reason or "stop",
        model=answer.model,
        response_id=answer.response_id,
        request_id=_request_id(response.headers),
        usage=answer.usage,
    )


def _events(decoder: SseDecoder, piece: bytes) -> list[str]:
    try:
        return decoder.feed(piece)
    except SseError as exc:
        raise ModelFault("model_error", str(exc), error_type="bad_stream") from exc


def _text(answer: _Answer, data: str) -> str:
    try:
        return answer.take(json.loads(data))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as exc:
        raise ModelFault("model_error", "a chunk is not what the API promises", error_type="bad_stream") from exc


def _text_or_none(value: Any) -> str | None:
    return _storable(value) if isinstance(value, str) else None


def _storable(text: str) -> str:
    """Replace what JSON can spell and neither UTF-8 nor PostgreSQL can hold: lone surrogates, NUL."""
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)


def _body(request: ModelRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.schema is not None:
        schema = {"name": request.schema.name, "strict": True, "schema": request.schema.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _usage(value: Any) -> TokenUsage | None:
    """Return the usage, or None when the server sent none, or none that makes sense."""
    if not isinstance(value, dict):
        return None
    prompt, completion = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=_count(cached),
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MAX_TOKENS else None


async def _error_body(response: httpx.Response) -> Any:
    """Return the error object of a refusal, or None; at most `MAX_ERROR_BYTES` are read, for `ERROR_BODY_S`."""
    if _is_packed(response.headers):
        return None
    body = b""
    with trio.move_on_after(ERROR_BODY_S) as reading, suppress(httpx.HTTPError):  # broken off: the status stands
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_ERROR_BYTES:
                reading.cancel()
    with suppress(ValueError, AttributeError, RecursionError):
        return json.loads(body).get("error")
    return None  # a gateway's page


def _is_packed(headers: Mapping[str, str]) -> bool:
    return headers.get("content-encoding", "").strip().lower() not in ("", "identity")


def _broken(error_type: str) -> ModelFault:
    """Return the fault of an answer that broke off, or never came; before its first token it may be asked for again."""
    fault = ModelFault("model_error", error_type, error_type=error_type)
    fault.ask_again = fault.host_failed = True
    return fault


def _refusal(response: httpx.Response, error: Any) -> Fault:
    said = {"true": True, "false": False}.get(response.headers.get("x-should-retry", "").lower())
    return _fault(response.status_code, _code(error), named_wait(response.headers, datetime.now(UTC)), said)


def _error_chunk(error: Any) -> Fault:
    return _fault(200, _code(error), None, None)


def _code(error: Any) -> str:
    """Return the error's code, or its type, if it is a known one."""
    for key in ("code", "type"):
        value = error.get(key) if isinstance(error, dict) else None
        if isinstance(value, str) and value in _KNOWN_CODES:
            return value
    return ""


def _fault(status: int, code: str, wait_s: float | None, should_retry: bool | None) -> Fault:
    """Return the fault that a refusal is; `should_retry` is the host's own word on that, where it has one."""
    error_type = code or f"http_{status}"
    if code in _PROMPT_TOO_LONG:
        return CallerFault("message_too_long", "the prompt does not fit the model", error_type=error_type)
    for_good = code in _NEVER
    busy = not for_good and (code in _BUSY_CODES or status in _BUSY_STATUSES)
    again = busy or (not for_good and (status in _BRIEF_STATUSES or (status == 200 and code not in _REFUSED_CODES)))
    fault = ModelFault(
        "model_busy" if busy else "model_error",
        error_type,
        retry_after_s=(wait_s or None) if again else None,
        retryable=again,
        error_type=error_type,
    )
    fault.ask_again = again if should_retry is None else should_retry and not for_good
    fault.for_good = for_good
    fault.names_wait = again and bool(wait_s)
    fault.host_failed = code not in _BUSY_CODES and (
        status in _BRIEF_STATUSES
        or (status == 503 and not wait_s)  # a gateway's, with nobody behind it; one that names a wait lives
        or (status == 200 and code not in _REFUSED_CODES)
    )
    return fault


def _request_id(headers: Mapping[str, str]) -> str | None:
    value = headers.get("x-request-id", "")
    return value if 0 < len(value) <= MAX_REQUEST_ID_CHARS and value.isascii() and value.isprintable() else None


def named_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that a refusal asks to wait: `retry-after-ms`, else `retry-after` as seconds or HTTP date."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            wait = float(headers[header]) * unit
            return wait if 0 <= wait < float("inf") else None
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        return max(0.0, (email.utils.parsedate_to_datetime(headers["retry-after"]) - now).total_seconds())
    return None
