"""Every setting: its environment variable (the field's name in capitals), unit, default and reason.

The only file that reads the environment. `.env` in the working directory is read when present; the environment wins.
The `OTEL_*` variables are the standard ones and are read by the OpenTelemetry SDK itself; this file only looks at
which signals they switch on, and at what in them is secret.
"""

import os
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.addresses import Network, host_and_port, is_http_address, networks
from app.errors import StartError
from app.loopback import is_loopback
from app.settings_values import Address, Count, HttpUrl, Networks, Origins, Percent, ProjectUrl, PublicUrl, Seconds
from app.url_secrets import masked_url, secrets_in_headers, secrets_in_url

EMBEDDED_SUPABASE_URL = "http://supabase.embedded"
MIN_SECRET_BYTES = 32
"""A shorter one can be found out by trying; RFC 7518, 3.2 asks for as much."""


def _setting(default: Any, reason: str, unit: str = "") -> Any:
    """Declare a setting. `reason` says what it is for, or why the default is what it is."""
    return Field(default=default, description=reason, json_schema_extra={"unit": unit})


class Settings(BaseSettings):
    """All settings, read once, frozen. `load_settings()` builds it and turns what is wrong into one clear line."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    bind: Address = _setting("127.0.0.1:8000", "Address to listen on; port 0 takes a free one.", "host:port")
    data_dir: Path = _setting(
        Path("var"), "Where the outbox and the embedded database live: must outlive the process.", "path"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least severity that is logged.")

    embedded_llm: Literal["local", "scripted"] = _setting(
        "local", "Without a model of yours: `local` is a tiny real one (English), `scripted` a deterministic tutor."
    )
    system_prompt_file: Path | None = _setting(None, "Replaces the built-in tutor's instructions.", "path")
    openai_api_key: SecretStr | None = _setting(None, "Unset, and no base URL either: the embedded model.")
    openai_base_url: HttpUrl | None = _setting(None, "Any OpenAI-compatible server; unset means OpenAI's own.", "URL")
    openai_model: str = _setting("gpt-4o-mini", "The model to ask for; the embedded ones have names of their own.")
    openai_fallback_model: str | None = _setting(
        None, "Another model of the same host, asked once where the first fails in a way that may pass."
    )
    openai_max_tokens: Count | None = _setting(None, "Longest answer; 800, or 256 with the local model.", "tokens")
    openai_temperature: Annotated[float, Field(ge=0, le=2)] | None = _setting(None, "Unset leaves it to the model.")
    chat_prompt_max_chars: Annotated[int, Field(ge=1000)] | None = _setting(
        None, "The whole prompt; the oldest history goes first. 48000, or what the local model holds.", "characters"
    )
    openai_api_pool_size: Count = _setting(
        10, "Model calls at once, per process: the limiter's size, and where the adaptive one begins.", "calls"
    )
    llm_limiter_mode: Literal["fixed", "adaptive"] = _setting(
        "fixed", "`adaptive`: the size follows what the model's host takes, between the next two."
    )
    llm_limiter_min: Count = _setting(1, "The adaptive limiter's smallest size.", "calls")
    llm_limiter_max: Count = _setting(64, "The adaptive limiter's largest size.", "calls")
    llm_limiter_silent_queue: bool = _setting(
        False, "The adaptive limiter shrinks too where first tokens come late: for a host that lets calls wait."
    )
    llm_queue_timeout: Seconds = _setting(10.0, "Longest wait for the limiter, or predicted one, before 503.", "s")
    llm_queue_max: Annotated[int, Field(ge=0, le=1000)] = _setting(
        64, "Turns that wait for the limiter at once; who comes then is 503.", "turns"
    )
    llm_per_user_max: Count = _setting(2, "Model calls of one user at once; its other turns wait for these.", "calls")

    supabase_url: ProjectUrl | None = _setting(None, "Your project; unset means the embedded database.", "URL")
    supabase_key: SecretStr | None = _setting(None, "Server key: a legacy JWT or `sb_secret_…`.")
    supabase_rls_passthrough: bool = _setting(
        False, "Reads go with the caller's own token, so that row-level security applies to them."
    )
    supabase_max_connections: Count = _setting(32, "Requests to the database at once.", "requests")

    http_transport: Literal["trio", "httpcore"] = _setting(
        "trio",
        "What carries the calls to both: ours, or httpx's own, which proxies and the sequential plan always take.",
    )

    db_fetch_timeout: Seconds = _setting(5.0, "Reading the conversation.", "s")
    llm_first_token_timeout: Seconds = _setting(20.0, "From asking the model to its first token.", "s")
    llm_idle_timeout: Seconds = _setting(10.0, "Between two tokens.", "s")
    llm_timeout: Seconds = _setting(40.0, "The whole model call.", "s")
    db_save_timeout: Seconds = _setting(2.0, "Storing a message, after which it is the outbox's.", "s")
    turn_timeout: Seconds = _setting(
        55.0, "The whole turn; common proxies give up at 60 s with a 504 of their own.", "s"
    )
    save_mode: Literal["await", "outbox"] = _setting(
        "await",
        "`await`: the reply waits for the database, `DB_SAVE_TIMEOUT` at most; `outbox`: for the outbox only.",
    )
    outbox: bool = _setting(True, "Keeps what the database does not take; off for deployments without a volume.")
    outbox_sync: Literal["full", "normal"] = _setting(
        "full", "`full` survives power loss (some 4 ms, shared by all who wait); `normal` the process's end only."
    )
    body_timeout: Seconds = _setting(15.0, "Receiving a request's body.", "s")
    graceful_timeout: Annotated[float, Field(ge=0.2, le=3600)] = _setting(
        60.0, "Drain at SIGTERM; longer than a turn.", "s"
    )
    drain_grace: Annotated[float, Field(ge=0, le=600)] = _setting(
        0.0, "Of the drain, the time in which connections are still taken, for load balancers to notice.", "s"
    )
    client_send_timeout: Seconds = _setting(
        10.0, "For a client to take the next 64 KiB of its answer, or be dropped.", "s"
    )

    chat_history_limit_default: Count = _setting(20, "Newest messages the model is given.", "messages")
    chat_history_limit_max: Count = _setting(50, "The same for a message of over 500 characters.", "messages")
    on_disconnect: Literal["cancel", "continue"] = _setting(
        "cancel", "What becomes of a turn whose client leaves; a request's `on_disconnect` goes before it."
    )
    max_chat_message_length: Count = _setting(2000, "Longest message.", "characters")
    max_body_bytes: Count = _setting(1 << 20, "Longest request body.", "bytes")
    max_connections: Count = _setting(
        10_000, "Held at once, as far as the process may open files; more are answered 503.", "connections"
    )
    cors_allow_origins: Origins = _setting(
        "", "Pages that may call the front end's routes: origins by comma, or `*`.", "origins"
    )

    enable_chat_rate_limit: bool = _setting(True, "Each user may ask for so many turns as the next two say.")
    chat_rate_limit_max: Annotated[int, Field(ge=1, le=100_000)] = _setting(
        20, "Turns a user may ask for at once; after that, one every window / max: 3 s.", "turns"
    )
    chat_rate_limit_window_sec: Seconds = _setting(60.0, "Until a user who has none left has all of them again.", "s")

    enable_conversation_agent: bool = _setting(False, "`/chat` answers through the conversation agent.")
    use_optimized_chat: bool = _setting(True, "False: the sequential, conservative plan for everybody (rollback).")
    use_optimized_agent: bool = _setting(True, "The same for turns of the agent.")
    chat_canary_percent: Percent = _setting(100.0, "Share on the concurrent plan while the flag is true.", "%")
    agent_canary_percent: Percent = _setting(100.0, "The same for turns of the agent.", "%")
    canary_by: Literal["user", "request"] = _setting("user", "`user`: stable per user; `request`: every turn draws.")
    canary_users: str = _setting("", "Users that always take the concurrent plan while the flag is true, by comma.")

    auth_mode: Literal["dev", "supabase"] | None = _setting(
        None,
        "`dev`: `Bearer <user id>`, this machine only. Default: `supabase` with a URL or a JWT secret, else `dev`.",
    )
    supabase_jwt_secret: SecretStr | None = _setting(
        None, "Verifies tokens (HS256) where the project publishes no keys, or there is no project; from 32 bytes on."
    )
    supabase_jwt_audience: Annotated[str, Field(min_length=1)] = _setting(
        "authenticated", "What a token's `aud` must say."
    )
    ops_token: SecretStr | None = _setting(
        None, "Opens `/metrics` and `/ops/*`; unset: open to this machine on loopback, 404 elsewhere."
    )
    console: bool = _setting(True, "The page `/console` and what it shows; off: neither is there.")
    jaeger_url: PublicUrl | None = _setting(None, "Jaeger's pages, for the console's links to traces.", "URL")
    grafana_url: PublicUrl | None = _setting(
        None, "Grafana's pages, for the same; its Tempo must have the uid `tempo`.", "URL"
    )
    auth_failures_max: Annotated[int, Field(ge=0, le=100_000)] = _setting(
        10, "Bad tokens of one address at once, an IPv6 one's /64 together; 0: as many as come.", "failures"
    )
    auth_failures_window_sec: Seconds = _setting(60.0, "Until an address that has none left has all again.", "s")
    trusted_proxies: Networks = _setting(
        "", "Whose `X-Forwarded-For` and sampled flag count: addresses or networks, by comma."
    )
    telemetry_hash_key: SecretStr | None = _setting(
        None, "Key of the user hashes in telemetry; unset: random per process."
    )
    turn_log: Path | None = _setting(
        None, "A JSON line per turn goes here, for `python -m app whatif`; rotated, 320 MiB at most.", "path"
    )
    redis_url: str | None = _setting(None, "Reserved; setting it is an error.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for broken, sentence in (
            (self.redis_url, "REDIS_URL is reserved for a later version: unset it"),
            (self.drain_grace >= self.graceful_timeout, "DRAIN_GRACE must be under GRACEFUL_TIMEOUT"),
            (self.supabase_url and not self.supabase_key, "SUPABASE_URL is set, so SUPABASE_KEY must be set too"),
            (self.supabase_key and not self.supabase_url, "SUPABASE_KEY is set, so SUPABASE_URL must be set too"),
            (
                self.supabase_rls_passthrough and not self.supabase_url,
                "SUPABASE_RLS_PASSTHROUGH is for a project's database: set SUPABASE_URL and SUPABASE_KEY, or unset it",
            ),
            (
                self.supabase_rls_passthrough and self.auth == "dev",
                "SUPABASE_RLS_PASSTHROUGH needs the callers' tokens, and AUTH_MODE=dev has none: unset one of them",
            ),
            (
                self.supabase_rls_passthrough and urlsplit(self.supabase_url or "").username is not None,
                "SUPABASE_RLS_PASSTHROUGH sends the callers' tokens where the user and password of SUPABASE_URL would "
                "go: unset one of them",
            ),
            (
                self.auth == "supabase" and not self.supabase_url and not self.supabase_jwt_secret,
                "AUTH_MODE=supabase needs SUPABASE_URL, or SUPABASE_JWT_SECRET",
            ),
            (
                self.supabase_jwt_secret
                and len(self.supabase_jwt_secret.get_secret_value().encode()) < MIN_SECRET_BYTES,
                f"SUPABASE_JWT_SECRET must have {MIN_SECRET_BYTES} bytes or more",
            ),
            (
                self.save_mode == "outbox" and not self.outbox,
                "SAVE_MODE=outbox needs the outbox: set OUTBOX=on, or SAVE_MODE=await",
            ),
            (
                self.auth == "dev" and not self.on_loopback,
                f"AUTH_MODE=dev is for loopback only, and BIND is {self.bind}",
            ),
            (self.llm_limiter_min > self.llm_limiter_max, "LLM_LIMITER_MIN must not be over LLM_LIMITER_MAX"),
            (
                self.chat_history_limit_default > self.chat_history_limit_max,
                "CHAT_HISTORY_LIMIT_DEFAULT must not be over CHAT_HISTORY_LIMIT_MAX",
            ),
        ):
            if broken:
                raise ValueError(sentence)
        return self

    @property
    def auth(self) -> str:
        """The identity mode in force."""
        return self.auth_mode or ("supabase" if self.supabase_url or self.supabase_jwt_secret else "dev")

    @property
    def doubts(self) -> tuple[str, ...]:
        """What may be meant as it is set, but rather is not: a sentence each, for the log."""
        parts = urlsplit(self.supabase_url or "")
        remarks = (
            (
                self.auth == "dev" and (self.supabase_url or self.supabase_jwt_secret),
                "AUTH_MODE=dev believes every user id, although there is a project or a secret to verify tokens with",
            ),
            (
                parts.scheme == "http" and not is_loopback(parts.hostname or ""),
                "SUPABASE_URL is http: whoever is on the way reads the key and all rows, and can put in other keys",
            ),
        )
        return tuple(sentence for doubtful, sentence in remarks if doubtful)

    @property
    def token_issuer(self) -> str | None:
        """What a token's `iss` must say; None without a project, whose URL it would be made of.

        Like Auth itself names it: the host in lower case, without its scheme's own port, a user or a password.
        """
        if self.supabase_url is None:
            return None
        parts = urlsplit(self.supabase_url.rstrip("/"))
        usual = {"http": ":80", "https": ":443"}[parts.scheme]
        host = parts.netloc.rpartition("@")[2].lower().removesuffix(usual)
        return parts._replace(netloc=host).geturl() + "/auth/v1"

    @cached_property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return host_and_port(self.bind)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.address[0])

    @property
    def embedded_database(self) -> bool:
        """Whether the embedded database serves."""
        return self.supabase_url is None

    @property
    def embedded_model(self) -> Literal["local", "scripted"] | None:
        """Which embedded model serves, if one does."""
        return None if self.openai_api_key or self.openai_base_url else self.embedded_llm

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The peers whose word on sampling, and on whom they speak for, counts."""
        return networks(self.trusted_proxies)

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """The origins whose pages may call us."""
        return tuple(part.strip() for part in self.cors_allow_origins.split(",") if part.strip())

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret in clear, those in URLs and in the standard variables too: to be taken out of a text."""
        found = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        proxies = urllib.request.getproxies_environment().values()
        for url in filter(None, (self.supabase_url, self.openai_base_url, *proxies, *_otlp_variables("ENDPOINT"))):
            found += secrets_in_url(url)
        for headers in _otlp_variables("HEADERS"):
            found += secrets_in_headers(headers)
        return tuple(dict.fromkeys(filter(None, found)))

    def masked(self) -> dict[str, Any]:
        """Return every setting by its variable's name; secrets, also those inside URLs, as asterisks."""
        shown = self.model_dump(mode="json")
        for name in ("supabase_url", "openai_base_url"):
            shown[name] = shown[name] and masked_url(shown[name])
        return {name.upper(): value for name, value in shown.items()}


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of this process.

    Raises:
        StartError: one line that names each variable that is wrong.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        problems = (_problem(tuple(error["loc"]), error["msg"]) for error in exc.errors(include_input=False))
        raise StartError("; ".join(problems)) from None


def _problem(location: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"{str(location[0]).upper()}: {text[:1].lower()}{text[1:]}" if location else text


def proxy_for(url: str) -> str | None:
    """Return the proxy's URL that the standard variables (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, ...) name for a URL.

    Raises:
        StartError: it is none that can be used.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]  # typeshed lacks it
        return None
    proxies = urllib.request.getproxies_environment()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named:
        return None
    proxy = named if "://" in named else f"http://{named}"  # as curl reads it
    if not is_http_address(proxy):
        raise StartError(f"{parts.scheme.upper()}_PROXY or ALL_PROXY: must be the address of an HTTP proxy")
    return proxy


def otel_exports(signal: Literal["traces", "metrics"]) -> bool:
    """Return whether the standard variables ask for OTLP export of a signal."""
    if otel_disabled():
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return os.environ.get(f"OTEL_{signal.upper()}_EXPORTER") != "none" and any(map(os.environ.get, endpoints))


def _otlp_variables(ending: str) -> list[str]:
    names = (name for name in os.environ if name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith(ending))
    return [os.environ[name] for name in names]


def otel_refusal(error: ValueError) -> StartError:
    """Return what the SDK's refusal of a variable that it read itself says of the start."""
    return StartError(f"a variable of OpenTelemetry's (OTEL_*): {' '.join(str(error).split())}")


def otel_span_queue() -> int | None:
    """Return the standard bound of the spans that wait for export, when it is set to a number."""
    size = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "")
    return int(size) if size.isdecimal() and int(size) > 0 else None


def otel_captures_messages() -> bool:
    """Return whether `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` asks for prompts and answers on spans."""
    return os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().lower() == "true"


def otel_disabled() -> bool:
    """Return whether `OTEL_SDK_DISABLED` switches telemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
