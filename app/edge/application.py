"""The Quart-Trio application: routes joined, and every error, the framework's own too, as problem+json."""

import json
import logging
from collections.abc import Sequence

from quart import Blueprint, Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from app.edge.observe import REQUEST, RequestFacts
from app.errors import CallerFault, Fault, InternalFault
from app.respond.language import Language, preferred_language
from app.respond.problem import problem_body, problem_headers

log = logging.getLogger(__name__)

_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
}


def build_application(blueprints: Sequence[Blueprint], *, max_body_bytes: int, body_timeout_s: float) -> QuartTrio:
    """Return the application that serves `blueprints`."""
    app = QuartTrio("nursery-chat", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    app.config["BODY_TIMEOUT"] = body_timeout_s
    app.before_request(_note_route)
    app.register_error_handler(Fault, problem_response)
    app.register_error_handler(HTTPException, _http_problem)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    return app


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
    """Return a fault that is not about a turn; those that no caller can help are logged."""
    if fault.kind.blame != "caller":
        log.warning("request.failed", extra={"code": fault.code, "error": fault.error_type, "note": fault.note})
    body = problem_body(fault, request_facts().trace_id, reply_language())
    response = json_response(body, fault.kind.status)
    response.headers.update(problem_headers(fault))
    return response


async def _http_problem(error: HTTPException) -> Response:
    """Return the framework's own errors: unknown address, wrong method, body too large, a failed handler."""
    status = error.code or 500
    if status >= 500:
        return await problem_response(InternalFault("internal_error"))
    response = await problem_response(CallerFault(_HTTP_CODES.get(status, "bad_request")))
    allowed = error.get_headers()
    response.headers.update({name: value for name, value in allowed if name.lower() == "allow"})
    return response


async def _note_route() -> None:
    if request.url_rule is not None:
        request_facts().route = request.url_rule.rule
