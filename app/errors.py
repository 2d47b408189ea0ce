"""Faults, by who is to blame. Each kind has one row: HTTP status, what a front end may show, what telemetry calls it.

A fault is raised where it is recognised and decides the reply; nobody reads the text of a message to find out what
happened. `detail` is safe to show; what an operator needs besides goes into `note`, which is logged and never sent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NoReturn

import trio

from telemetry.names import Outcome

Blame = Literal["caller", "overload", "database", "model", "identity", "us"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table: all that is fixed about a fault. `japanese` is `detail` for readers of Japanese.

    `retry_after_s`, in seconds, is for faults that do not know better.
    """

    blame: Blame
    status: int
    outcome: Outcome
    retryable: bool
    title: str
    detail: str
    japanese: str
    retry_after_s: float | None = None


KINDS: Mapping[str, Kind] = {
    "bad_json": Kind(
        "caller", 400, "refused", False, "Bad JSON", "The body is not valid JSON.",
        "リクエスト本文が正しいJSONではありません。",
    ),
    "message_empty": Kind(
        "caller", 400, "refused", False, "Empty message", "The message is empty.", "メッセージが空です。"
    ),
    "message_too_long": Kind(
        "caller", 400, "refused", False, "Message too long", "The message is too long.", "メッセージが長すぎます。"
    ),
    "unauthenticated": Kind(
        "caller", 401, "refused", False, "Not signed in", "Please sign in again.", "もう一度サインインしてください。"
    ),
    "not_found": Kind(
        "caller", 404, "refused", False, "Not found", "There is no such thing here.", "見つかりませんでした。"
    ),
    "method_not_allowed": Kind(
        "caller", 405, "refused", False, "Method not allowed", "This address does not take that method.",
        "このアドレスではそのメソッドは使えません。",
    ),
    "body_timeout": Kind(
        "caller", 408, "refused", True, "Body too slow", "The request took too long to arrive.",
        "リクエストの受信に時間がかかりすぎました。",
    ),
    "body_too_large": Kind(
        "caller", 413, "refused", False, "Body too large", "The request is too large.", "リクエストが大きすぎます。"
    ),
    "turn_in_progress": Kind(
        "caller", 409, "refused", True, "Being answered", "This message is still being answered.",
        "このメッセージにはまだ回答中です。",
        1.0,
    ),
    "rate_limited": Kind(
        "caller", 429, "refused", True, "Too many requests", "That was too fast. Please wait a moment and try again.",
        "リクエストが多すぎます。少し待ってからもう一度お試しください。",
    ),
    "unsupported_media_type": Kind(
        "caller", 415, "refused", False, "Unsupported media type", "Please send application/json.",
        "application/json で送信してください。",
    ),
    "invalid_request": Kind(
        "caller", 422, "refused", False, "Invalid request", "Some fields are not as they should be.",
        "正しくない項目があります。",
    ),
    "idempotency_mismatch": Kind(
        "caller", 422, "refused", False, "Key used already", "This key belongs to another message.",
        "このキーは別のメッセージで使われています。",
    ),
    "bad_request": Kind(
        "caller", 400, "refused", False, "Bad request", "The request is not valid.", "リクエストが正しくありません。"
    ),
    "headers_too_large": Kind(
        "caller", 431, "refused", False, "Headers too large", "The request's headers are too large.",
        "リクエストヘッダーが大きすぎます。",
    ),
    "not_implemented": Kind(
        "caller", 501, "refused", False, "Not implemented", "That transfer coding is not known here.",
        "その転送方式には対応していません。",
    ),
    "http_version": Kind(
        "caller", 505, "refused", False, "HTTP version not supported", "Please speak HTTP/1.1.",
        "HTTP/1.1 で通信してください。",
    ),
    "stopped": Kind(
        "caller", 499, "cancelled", True, "Stopped", "The answer was stopped.", "回答を停止しました。"
    ),
    "overloaded": Kind(
        "overload", 503, "shed", True, "Overloaded", "Many people are asking right now. Please try again shortly.",
        "ただいま混み合っています。少し待ってからもう一度お試しください。",
        1.0,
    ),
    "draining": Kind(
        "overload", 503, "shed", True, "Restarting", "The server is restarting. Please try again shortly.",
        "サーバーを再起動しています。少し待ってからもう一度お試しください。",
        5.0,  # another process, or this one restarted, should answer by then
    ),
    "model_loading": Kind(
        "overload", 503, "shed", True, "Model loading", "The model is still loading. Please try again shortly.",
        "AIモデルを読み込んでいます。少し待ってからもう一度お試しください。",
        2.0,  # the embedded model loads in a second when its file is in memory, in some five from a cold disk
    ),
    "model_busy": Kind(
        "model", 503, "shed", True, "Model busy", "The model is busy. Please try again shortly.",
        "AIが混み合っています。少し待ってからもう一度お試しください。",
        1.0,
    ),
    "model_error": Kind(
        "model", 502, "upstream_error", True, "Model error", "The model could not answer. Please try again.",
        "AIが応答できませんでした。もう一度お試しください。",
    ),
    "database_unavailable": Kind(
        "database", 503, "upstream_error", True, "Database unavailable",
        "Your conversation cannot be read right now. Please try again shortly.",
        "いま会話を読み込めません。少し待ってからもう一度お試しください。",
        5.0,
    ),
    "identity_unavailable": Kind(
        "identity", 503, "upstream_error", True, "Sign-in unavailable",
        "Your sign-in cannot be checked right now. Please try again shortly.",
        "いまサインインを確認できません。少し待ってからもう一度お試しください。",
        5.0,
    ),
    "stage_timeout": Kind(
        "us", 504, "timeout", True, "Too slow", "The answer took too long. Please try again.",
        "応答に時間がかかりすぎました。もう一度お試しください。",
    ),
    "internal_error": Kind(
        "us", 500, "internal_error", True, "Internal error", "Something went wrong on our side.",
        "サーバー側で問題が発生しました。",
    ),
}  # fmt: skip


class Fault(Exception):
    """Something that decides the reply. The subclasses say who is to blame; `code` names a row of `KINDS`.

    Args:
        code: key of `KINDS`.
        note: for the log: what an operator needs to know; never sent.
        stage: the stage it happened in, as in `telemetry.names`.
        retry_after_s: seconds after which it is worth trying again.
        retryable: overrides the row's.
        error_type: what telemetry calls it, from a bounded set; the code, when not given.
        fields: what is wrong with which field of the request, as sentences.
    """

    def __init__(
        self,
        code: str,
        note: str = "",
        *,
        stage: str | None = None,
        retry_after_s: float | None = None,
        retryable: bool | None = None,
        error_type: str | None = None,
        fields: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{code}: {note}" if note else code)
        self.code = code
        self.kind = KINDS[code]
        self.note = note
        self.stage = stage
        self.retry_after_s = self.kind.retry_after_s if retry_after_s is None else retry_after_s
        self.retryable = self.kind.retryable if retryable is None else retryable
        self.error_type = error_type or code
        self.outcome = self.kind.outcome
        self.fields = tuple(fields)


class CallerFault(Fault):
    """The request cannot be answered as it is.

    `is_guess`: whether an `unauthenticated` may be one of somebody's who tries tokens.
    """

    def __init__(self, code: str, note: str = "", *, is_guess: bool = True, **more: Any) -> None:
        super().__init__(code, note, **more)
        self.is_guess = is_guess


class OverloadFault(Fault):
    """The request is fine; this server will not take it now."""


class DatabaseFault(Fault):
    """The database is down, slow, or refuses us. The client sets `ask_again`: the same may succeed in a moment."""

    ask_again = False


class IdentityFault(Fault):
    """Who asks cannot be found out: the host of the keys that tokens are verified with is down, or answers wrongly."""


class ModelFault(Fault):
    """The model is down, busy, or answers wrongly.

    What only the client can know, and sets: `ask_again`, whether the same request may succeed now or after a wait;
    `names_wait`, whether `retry_after_s` is the host's own word; `for_good`, whether it refuses until somebody acts;
    `host_failed`, whether that says something of the host's health, as being busy or refusing one request does not;
    `request_id`, what the host calls the failed request, for whoever asks its support.
    """

    ask_again = False
    names_wait = False
    for_good = False
    host_failed = False
    request_id: str | None = None


class StageTimeout(Fault):
    """A stage ran out of its deadline; `stage` names it."""

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__("stage_timeout", f"over {seconds:g} s", stage=stage, error_type=f"timeout.{stage}")


class InternalFault(Fault):
    """Ours: what no other kind explains."""


class StartError(Exception):
    """The server cannot start as it is configured; the text is one clear line for whoever starts it."""


def raise_one_fault(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the one fault that explains what a nursery's tasks raised together; without one, the group as it is."""
    faults, others = group.split(Fault)
    if faults is not None and (others is None or others.split(trio.Cancelled)[1] is None):
        leaf: BaseException = faults
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        raise leaf from group
    raise group


class Contained:
    """End every failure of the body here, after telling `report` of it; only cancellation goes on, by itself.

    For the boundaries of a connection, a request and a turn. What fails together with a cancellation would otherwise
    be lost: a scope that catches its cancellation out of a group passes the rest on, and quart-trio 0.12 drops it.
    """

    def __init__(self, report: Callable[[Exception], None]) -> None:
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        failures: Exception | None = None
        rest: BaseException | None = None
        if isinstance(error, BaseExceptionGroup):
            failures, rest = error.split(Exception)
        elif isinstance(error, Exception):
            failures = error
        else:
            rest = error
        if failures is not None:
            self._report(failures)
            if rest is not None:
                raise rest from None
        return rest is None
