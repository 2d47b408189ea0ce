"""`python -m app serve`, and the commands for those who run it: read the settings, bootstrap, serve; no more."""

import os
import signal
import sys

if __name__ == "__main__" and sys.argv[1:2] == ["serve"]:  # before the imports, which take a second

    def _end(number: int, _frame: object) -> None:
        """End by the signal, without a stack; as process 1, for which the kernel drops that, by its exit code."""
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        os._exit(128 + number)

    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, _end)  # until the server takes them itself

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import trio

from app.errors import StartError
from app.ops.doctor import add_options as add_doctor_options
from app.ops.limiter_cli.options import add_options as add_limiter_options
from app.ops.whatif.command import add_options as add_what_if_options
from app.ops.whatif.command import run as answer_what_if
from app.ops.whatif.replay import GateRules
from app.settings import Settings, load_settings, otel_refusal, proxy_for
from telemetry.logs import log_to
from telemetry.turn_trace import user_hash

if TYPE_CHECKING:
    from app.ops.limiter_cli.client import OpsServer

CANNOT_START = 2
NOT_ALL_DELIVERED = 1
LONGEST_MINUTES = 366 * 24 * 60
CANNOT = {
    "outbox": "deliver", "whatif": "tell", "limiter": "do that", "token": "make a token", "doctor": "examine",
    "hash-user": "hash",
}  # fmt: skip
"""What a command cannot do, where it is not to start."""


def main() -> int:
    """Run the command of the command line and return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m app", description="nursery-chat")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM or SIGINT")
    hash_user = commands.add_parser("hash-user", help="print the hash under which telemetry knows a user")
    hash_user.add_argument("id")
    token = commands.add_parser("token", help="print a token for a user, signed with SUPABASE_JWT_SECRET")
    token.add_argument("--user", required=True, help="the token's `sub`")
    token.add_argument("--minutes", type=_minutes, default=60.0, help="how long it is valid; 60 when not given")
    outbox = commands.add_parser("outbox", help="what waits to be delivered to the database")
    deliver = outbox.add_subparsers(dest="action", required=True).add_parser(
        "deliver", help="deliver what a process that is gone left behind; exit code 1 when something is left"
    )
    deliver.add_argument("file", type=Path, help="under DATA_DIR/outbox, of a process that runs no more")
    what_if = commands.add_parser("whatif", help="replay recorded turns at other sizes of the limiter")
    add_what_if_options(what_if)
    commands.add_parser("openapi", help="print the contract of the HTTP API, OpenAPI 3.1; docs/openapi.json is a copy")
    limiter = commands.add_parser("limiter", help="look at the limiter of a running server, live, and set it")
    add_limiter_options(limiter)
    doctor = commands.add_parser("doctor", help="check everything the server needs, and say what to do")
    add_doctor_options(doctor)
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "hash-user":
                return _hash_user(arguments.id)
            case "token":
                return _mint_token(arguments.user, arguments.minutes)
            case "outbox":
                return _deliver(arguments.file)
            case "whatif":
                return _what_if(arguments)
            case "limiter":
                return _limiter(arguments)
            case "openapi":
                return _openapi()
            case "doctor":
                return _doctor(arguments)
            case _:
                return _serve()
    except* StartError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        what = CANNOT.get(arguments.command, "start")
        _say(f"nursery-chat cannot {what}: {error}", sys.stderr)
    return CANNOT_START


def _serve() -> int:
    settings = load_settings()
    log_to(level=settings.log_level)
    with _sdk_imported():
        from app import bootstrap  # only now: a wrong setting is told before half a second of imports

    trio.run(bootstrap.run, settings, _say)
    return 0


@contextmanager
def _sdk_imported() -> Iterator[None]:
    """Tell in one line which variable OpenTelemetry's SDK refuses: it reads some of them while it is imported."""
    try:
        yield
    except ValueError as exc:
        raise otel_refusal(exc) from None


def _deliver(file: Path) -> int:
    settings = load_settings()
    log_to(level="warning")  # that the database does not answer, too: trying takes a while
    with _sdk_imported():
        from app import bootstrap

    end = trio.run(bootstrap.deliver_orphan, settings, file)
    if end.problem is None and not end.set_aside:
        _say(end.text())
        return 0
    _say(end.text(), sys.stderr)
    return NOT_ALL_DELIVERED


def _what_if(arguments: argparse.Namespace) -> int:
    settings = load_settings()
    rules = GateRules(queue_max=settings.llm_queue_max, queue_timeout_s=settings.llm_queue_timeout)
    answer_what_if(arguments, rules, _say, sys.stderr if sys.stderr and sys.stderr.isatty() else None)
    return 0


def _limiter(arguments: argparse.Namespace) -> int:
    settings = load_settings()
    from app.ops.limiter_cli.command import run as show_limiter  # only now: nobody else needs rich

    show_limiter(arguments, _ops_server(settings, arguments.url, arguments.token), _say)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    log_to(level="critical")  # what goes wrong is told by the report
    with _sdk_imported():
        from app.bootstrap.doctor import examine  # only now, as for serving
    from app.ops.doctor.command import Doctor, run
    from app.ops.versions import versions

    doctor = Doctor(load=load_settings, examine=examine, server=_ops_server, versions=versions, say=_say)
    return run(arguments, doctor)


def _openapi() -> int:
    from app.contract.routes import rendered  # only now: it imports every route

    _say(rendered(indent=2))
    return 0


def _ops_server(settings: Settings, url: str | None, token: str | None = None) -> "OpsServer":
    from app.ops.limiter_cli.client import OpsServer  # only now: serving does not need it

    own = settings.ops_token.get_secret_value() if settings.ops_token else None
    return OpsServer(url=url or _own_url(settings), token=own if token is None else token, proxy_for=proxy_for)


def _own_url(settings: Settings) -> str:
    host, port = settings.address
    if port == 0:
        raise StartError("BIND names no port, so --url must say where the server listens")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not to listen on, but to ask
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _hash_user(user_id: str) -> int:
    key = load_settings().telemetry_hash_key
    if key is None:
        raise StartError("TELEMETRY_HASH_KEY is not set, so every process hashes with a key of its own")
    _say(user_hash(key.get_secret_value().encode()[:64], user_id))
    return 0


def _mint_token(user: str, minutes: float) -> int:
    settings = load_settings()
    if settings.supabase_jwt_secret is None:
        raise StartError("SUPABASE_JWT_SECRET is not set, so there is nothing to sign a token with")
    from app.receive.auth.tokens import TokenRules, mint  # only now: cryptography is a tenth of a second of imports

    rules = TokenRules(audience=settings.supabase_jwt_audience, issuer=settings.token_issuer)
    secret = settings.supabase_jwt_secret.get_secret_value()
    try:
        _say(mint(user, secret, rules, now=time.time(), valid_s=minutes * 60))
    except ValueError as exc:
        raise StartError(f"--user {exc}") from None
    if settings.supabase_url:
        _say("a project that publishes keys refuses this token, and so does a server that knows them", sys.stderr)
    return 0


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= LONGEST_MINUTES:
        raise ValueError(text)
    return minutes


def _say(text: str, stream: TextIO | None = None) -> None:
    """Write for a person; where nobody listens (a closed or full stream), that is no reason to stop serving."""
    stream = stream or sys.stdout
    if stream is not None:
        with suppress(OSError, ValueError):
            os.write(stream.fileno(), f"{text}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
