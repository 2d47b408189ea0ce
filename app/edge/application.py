"""The Quart-Trio application: routes joined, and every error, the framework's own too, as problem+json."""

import gzip
import json
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
from quart import Blueprint, Response, request
from quart.ctx import RequestContext
from quart_cors import cors
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from app.edge.observe import REQUEST, RequestFacts, log_failure
from app.errors import CallerFault, Fault, InternalFault
from app.respond.language import Language, preferred_language
from app.respond.problem import problem_body, problem_headers

log = logging.getLogger(__name__)

COMPRESS_FROM_BYTES = 2048
"""Less would hardly shrink: gzip's frame is 18 bytes, and what fits one or two packets travels no faster."""
COMPRESS_LEVEL = 5
THREAD_FROM_BYTES = 1 << 17
"""Compressing this much takes about 3 ms, which no other turn should wait for."""
EXPOSED = (
    "x-request-id", "x-trace-id", "x-error-code", "server-timing", "retry-after",
    "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "x-next-before", "location",
)  # fmt: skip
PREFLIGHT_S = 600
_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
}


class Application(QuartTrio):
    """Quart on Trio, in which what a handler fails with is logged once, under its caller's trace id."""

    def log_exception(self, exception_info: Any) -> None:
        """Log what no error handler knew."""
        log_failure(exception_info[1])

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> Any:
        """Answer. A failure that comes together with a cancellation is logged here: quart-trio 0.12 then drops it."""
        try:
            return await super().full_dispatch_request(request_context)
        except BaseExceptionGroup as group:
            failures, cancelled = group.split(Exception)
            if failures is not None and cancelled is not None:
                log_failure(failures)
            raise


def build_application(blueprints: Sequence[Blueprint], *, max_body_bytes: int, body_timeout_s: float) -> QuartTrio:
    """Return the application that serves `blueprints`."""
    app = Application("nursery-chat", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    app.config["BODY_TIMEOUT"] = body_timeout_s
    app.config["RESPONSE_TIMEOUT"] = None  # the turn and the sending have deadlines; this one cut streams silently
    app.url_map.merge_slashes = False  # it answers with a redirect to whatever host the request named
    app.before_request(_note_route)
    app.after_request(_compress)
    app.register_error_handler(Fault, problem_response)
    app.register_error_handler(HTTPException, _http_problem)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    return app


def allow_origins(blueprint: Blueprint, origins: Sequence[str]) -> Blueprint:
    """Let pages of `origins` call a blueprint's routes, and return it. They read what our front end must: our ids,
    timings and when to come again. No cookie is ever asked for, so none is allowed.
    """
    return cors(blueprint, allow_origin=origins, expose_headers=EXPOSED, max_age=PREFLIGHT_S) if origins else blueprint


def request_facts() -> RequestFacts:
    """Return what the edge knows of the current request."""
    return REQUEST.get()


def reply_language() -> Language:
    """Return the language that the current request's sender prefers."""
    return preferred_language(request.headers.get("accept-language", ""))


async def read_json_body() -> bytes:
    """Return the current request's body, which says it is JSON.

    Raises:
        CallerFault: `unsupported_media_type`.
        HTTPException: 413 over the size limit, 408 when it takes too long to arrive.
    """
    if request.mimetype != "application/json":
        raise CallerFault("unsupported_media_type")
    return await request.get_data(cache=False, as_text=False, parse_form_data=False)


def json_response(body: object, status: int = 200, content_type: str = "application/json") -> Response:
    """Return `body` as JSON, in UTF-8."""
    return Response(json.dumps(body, ensure_ascii=False), status, content_type=content_type)


async def problem_response(fault: Fault) -> Response:
    """Return a fault that is not about a turn."""
    log_refusal(fault)
    return _problem(fault)


def log_refusal(fault: Fault) -> None:
    """Log why a request was refused before it was a turn, unless that is its caller's doing."""
    if fault.kind.blame != "caller":
        log.warning("request.failed", extra={"code": fault.code, "error": fault.error_type, "note": fault.note})


def _problem(fault: Fault) -> Response:
    body = problem_body(fault, request_facts().trace_id, reply_language())
    response = json_response(body, fault.kind.status)
    response.headers.update(problem_headers(fault))
    return response


async def _http_problem(error: HTTPException) -> Response:
    """Return the framework's own errors: unknown address, wrong method, body too large, a failed handler."""
    status = error.code or 500
    if status >= 500:
        return _problem(InternalFault("internal_error"))  # logged where it failed
    response = await problem_response(CallerFault(_HTTP_CODES.get(status, "bad_request")))
    allowed = error.get_headers()
    response.headers.update({name: value for name, value in allowed if name.lower() == "allow"})
    return response


async def _compress(response: Response) -> Response:
    """Send large JSON and text smaller to who takes gzip. Streams and small answers stay as they are."""
    if (response.content_length or 0) < COMPRESS_FROM_BYTES or "content-encoding" in response.headers:
        return response
    response.vary.add("accept-encoding")
    if not request.accept_encodings["gzip"]:
        return response
    body = await response.get_data(as_text=False)
    squeeze = partial(gzip.compress, body, COMPRESS_LEVEL, mtime=0)
    response.set_data(squeeze() if len(body) < THREAD_FROM_BYTES else await trio.to_thread.run_sync(squeeze))
    response.headers["content-encoding"] = "gzip"
    return response


async def _note_route() -> None:
    if request.url_rule is not None:
        request_facts().route = request.url_rule.rule
