"""Settings that are allowed and yet wrong, or doubtful. Pure, but for looking whether the prompt can be read."""

import base64
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from app.ops.doctor.finding import Finding, fail, ok, warn
from app.settings import Settings

PROXIES_GIVE_UP_S = 60.0
"""Common load balancers' and proxies' default; nginx's `proxy_read_timeout`, AWS's idle timeout."""
SHORTEST_TOKEN = 16
"""Of OPS_TOKEN where the network can try: characters."""
_SENDABLE = re.compile(r"[\x21-\x7e]*")
"""What keys are made of; a header can carry little else."""


def judge(settings: Settings) -> list[Finding]:
    """Return what is to be said of the settings; one line when that is nothing."""
    found = [
        *chain(
            _deadlines(settings),
            _drain(settings),
            _unsendable(settings),
            _keys(settings),
            _sizes(settings),
            _files(settings),
        )
    ]
    found += [warn("settings.doubtful", sentence, "set what you mean") for sentence in settings.doubts]
    return found or [ok("settings", "they fit together")]


def _deadlines(settings: Settings) -> Iterator[Finding]:
    check, whole = "settings.deadlines", settings.turn_timeout
    stages = {
        "DB_FETCH_TIMEOUT": settings.db_fetch_timeout,
        "LLM_QUEUE_TIMEOUT": settings.llm_queue_timeout,
        "LLM_FIRST_TOKEN_TIMEOUT": settings.llm_first_token_timeout,
        "LLM_TIMEOUT": settings.llm_timeout,
        "DB_SAVE_TIMEOUT": settings.db_save_timeout,
    }
    for name, seconds in stages.items():
        if seconds >= whole:
            said = f"{name} is {seconds:g} s and TURN_TIMEOUT {whole:g} s, so that the stage's deadline never comes"
            yield warn(check, said, f"set {name} below TURN_TIMEOUT")
    for name, seconds in (
        ("LLM_FIRST_TOKEN_TIMEOUT", settings.llm_first_token_timeout),
        ("LLM_IDLE_TIMEOUT", settings.llm_idle_timeout),
    ):
        if settings.llm_timeout < whole and seconds >= settings.llm_timeout:
            said = f"{name} is {seconds:g} s and LLM_TIMEOUT {settings.llm_timeout:g} s"
            yield warn(check, f"{said}, so that the first never comes", f"set {name} below LLM_TIMEOUT")
    names = ("DB_FETCH_TIMEOUT", "LLM_QUEUE_TIMEOUT", "LLM_FIRST_TOKEN_TIMEOUT")
    before_text = sum(stages[name] for name in names)
    if before_text >= whole > max(stages.values()):
        said = f"{' + '.join(names)} are {before_text:g} s, no less than TURN_TIMEOUT ({whole:g} s)"
        yield warn(check, said, "raise TURN_TIMEOUT, or lower one of them")
    if whole > PROXIES_GIVE_UP_S:
        said = f"TURN_TIMEOUT is {whole:g} s, and common proxies give up at {PROXIES_GIVE_UP_S:g} s"
        yield warn(check, said, "lower it, or raise the proxy's read timeout above it")


def _drain(settings: Settings) -> Iterator[Finding]:
    needed = settings.turn_timeout + settings.drain_grace
    if settings.graceful_timeout < needed:
        beside = f" and DRAIN_GRACE {settings.drain_grace:g} s" if settings.drain_grace else ""
        said = f"GRACEFUL_TIMEOUT is {settings.graceful_timeout:g} s, TURN_TIMEOUT {settings.turn_timeout:g} s{beside}"
        todo = f"set GRACEFUL_TIMEOUT to {needed:g} or more, and the platform's kill timeout above it"
        yield warn("settings.drain", f"{said}, so that a restart cuts turns off", todo)


def sendable(key: str) -> bool:
    """Return whether a request can carry a key; one that was copied as it is shown, with dots in its middle, cannot."""
    return _SENDABLE.fullmatch(key) is not None


def _unsendable(settings: Settings) -> Iterator[Finding]:
    for name in ("supabase_key", "openai_api_key"):
        secret = getattr(settings, name)
        if secret is not None and not sendable(secret.get_secret_value()):
            said = f"{name.upper()} has a character that no key has, such as a space or the dots of a hidden one"
            yield fail("settings.keys", said, "copy the whole key again")


def _keys(settings: Settings) -> Iterator[Finding]:
    key = settings.supabase_key.get_secret_value() if settings.supabase_key else ""
    role = "anon" if key.startswith("sb_publishable_") else role_of(key)
    if role in ("anon", "authenticated"):
        said = f"SUPABASE_KEY is a key of the role {role}, which row-level security keeps from all rows"
        yield fail("settings.keys", said, "set the secret key (sb_secret_...) or the legacy service_role key")
    token = settings.ops_token.get_secret_value() if settings.ops_token else None
    if token is None and not settings.on_loopback:
        said = "OPS_TOKEN is not set and BIND is no loopback address, so that /metrics and /ops are 404 for everybody"
        yield warn("settings.ops", said, "set OPS_TOKEN")
    if token is not None and len(token) < SHORTEST_TOKEN and not settings.on_loopback:
        said = f"OPS_TOKEN has less than {SHORTEST_TOKEN} characters and opens /ops to the network"
        yield warn("settings.ops", said, "set a longer one, such as `openssl rand -hex 24` gives")
    if settings.telemetry_hash_key is None and settings.supabase_url:
        said = "TELEMETRY_HASH_KEY is not set, so that a user has another hash in each process"
        yield warn("settings.telemetry", said, "set it to the same secret everywhere")


def role_of(key: str) -> str:
    """Return the role that a legacy key names; nothing for other keys. It is read, not verified."""
    parts = key.split(".")
    if len(parts) != 3:
        return ""
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return str(payload["role"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _sizes(settings: Settings) -> Iterator[Finding]:
    size = settings.openai_api_pool_size
    if settings.llm_limiter_mode == "adaptive" and not settings.llm_limiter_min <= size <= settings.llm_limiter_max:
        said = f"OPENAI_API_POOL_SIZE is {size}, outside LLM_LIMITER_MIN to LLM_LIMITER_MAX"
        yield warn("settings.limiter", said, "set it between them: the adaptive limiter begins there")
    if size > 1 and settings.llm_per_user_max >= size:
        said = f"LLM_PER_USER_MAX is {settings.llm_per_user_max} of {size} model calls, so that one user can have all"
        yield warn("settings.limiter", said, "set it below OPENAI_API_POOL_SIZE")


def _files(settings: Settings) -> Iterator[Finding]:
    path = settings.system_prompt_file
    if path is not None and (problem := _unreadable(path)):
        said = f"SYSTEM_PROMPT_FILE cannot be read ({problem}), and the server does not start without it"
        yield fail("settings.files", said, "name a UTF-8 text that the server's user may read")


def _unreadable(path: Path) -> str:
    try:
        path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        return type(exc).__name__
    return ""
