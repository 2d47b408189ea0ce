"""What is compared, each with a line for what it does and does not do."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import bodies
from bench.processes import Server, other, ours

POOL = "128"
QUIET = {"OTEL_SDK_DISABLED": "true", "LOG_LEVEL": "warning"}
Start = Callable[[Path, str], AbstractContextManager[Server]]


@dataclass(frozen=True)
class Variant:
    """A server, how it is started on the stand-ins' URL, and what an honest reader must know of it.

    `kind` is what it is asked: a `turn`, the same as a `stream`, or a single `completion`, plain or `streamed`. `rows`
    is how many a turn stores, which is checked; `late`, whether after its answer. `base` shares another variant's
    process.
    """

    key: str
    name: str
    does: str
    start: Start
    kind: str = "turn"
    page: str = "general"
    rows: int = 2
    late: bool = False
    base: str = ""


def _telemetry(upstream: str, share: float) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": upstream,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


def our_settings(upstream: str, pool: str = POOL) -> dict[str, str]:
    """Return the settings of ours, with upstreams of the stand-ins' and nothing switched off."""
    return {
        "SUPABASE_URL": upstream,
        "SUPABASE_KEY": "bench",
        "AUTH_MODE": "dev",
        "OPENAI_BASE_URL": upstream + "/v1",
        "OPENAI_MODEL": bodies.MODEL,
        "OPENAI_API_POOL_SIZE": pool,
        "LLM_QUEUE_MAX": "1000",  # the others let everybody wait
        "SUPABASE_MAX_CONNECTIONS": pool,
        "BODY_TIMEOUT": "900",  # for connections that are held open in the middle of a request
    }


def _ours(share: float | None = 0.1, pool: str = POOL, **more: str) -> Start:
    def start(folder: Path, upstream: str) -> AbstractContextManager[Server]:
        telemetry = {} if share is None else _telemetry(upstream, share)
        return ours(folder, **our_settings(upstream, pool), **telemetry, **more)

    return start


PATIENT = (
    "LLM_QUEUE_TIMEOUT", "LLM_FIRST_TOKEN_TIMEOUT", "LLM_IDLE_TIMEOUT", "LLM_TIMEOUT", "TURN_TIMEOUT",
    "DB_FETCH_TIMEOUT", "DB_SAVE_TIMEOUT", "CLIENT_SEND_TIMEOUT",
)  # fmt: skip
OPEN_STREAMS = Variant(
    "streams",
    "ours, many streams open",
    "every default of ours but pools of 4,096 and timeouts of 900 s, so that no stream waits for another or is cut off",
    _ours(0.1, "4096", **dict.fromkeys(PATIENT, "900")),
    kind="stream",
)
"""Not one of those that are compared: it is loaded in its own way (bench/streams.py)."""


def _fastapi(client: str) -> Start:
    def start(folder: Path, upstream: str) -> AbstractContextManager[Server]:
        command = [sys.executable, "-m", "bench.peer", client, "PORT"]
        return other(folder, command, "/healthz", UPSTREAM=upstream)

    return start


LITELLM_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {upstream}/v1
      api_key: {key}
general_settings:
  master_key: {key}
litellm_settings:
  telemetry: false
  num_retries: 0
"""


@contextmanager
def _litellm(folder: Path, upstream: str) -> Iterator[Server]:
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(model=bodies.MODEL, upstream=upstream, key=bodies.KEY))
    program = str(Path(sys.executable).parent / "litellm")
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", "PORT", "--num_workers", "1"]
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": bodies.KEY, "LITELLM_LOG": "ERROR"}
    with other(folder, command, "/health/liveliness", **settings) as server:
        yield server


_ALL = "every default: identity, limiter, deadlines, breakers, retries, an INFO log line per turn, metrics"
_FASTAPI = (
    "the turn alone, on asyncio.gather, uvloop, httptools: no identity, limits, deadlines, retries, log, telemetry"
)
VARIANTS = (
    Variant("ours", "ours", f"{_ALL}; 10 % of the traces sampled and exported to the collector stand-in", _ours()),
    Variant("ours-100", "ours, sampled 100 %", "the same, every trace sampled and exported", _ours(1.0)),
    Variant(
        "ours-no-otel",
        "ours, telemetry off",
        "the same with OTEL_SDK_DISABLED=true",
        _ours(None, OTEL_SDK_DISABLED="true"),
    ),
    Variant(
        "ours-bare",
        "ours, telemetry and limits off",
        "OTEL_SDK_DISABLED=true, LOG_LEVEL=warning, pools of 1,024, so that no limit is met: the one to hold against "
        "FastAPI; identity, deadlines, breakers and shielded saves cannot be switched off",
        _ours(None, pool="1024", **QUIET),
    ),
    Variant("ours-pool-10", "ours, pool 10", "as ours with pools of 10, the default for the model", _ours(pool="10")),
    Variant(
        "ours-project",
        "ours, on a project's page",
        "as ours, five upstream calls: the project is read beside the history",
        _ours(),
        page="project-1",
        base="ours",
    ),
    Variant(
        "ours-httpcore", "ours on httpcore", "as ours with HTTP_TRANSPORT=httpcore", _ours(HTTP_TRANSPORT="httpcore")
    ),
    Variant(
        "ours-sequential",
        "ours, sequential",
        "as ours with USE_OPTIMIZED_CHAT=false: one call after the other, both rows after the answer",
        _ours(USE_OPTIMIZED_CHAT="false"),
    ),
    Variant(
        "ours-outbox",
        "ours, SAVE_MODE=outbox",
        "as ours, but the answer waits for the outbox's file (OUTBOX_SYNC=full) and not for the database; the rows "
        "follow in bulk: all of them must have come, and the CPU time until then counts",
        _ours(SAVE_MODE="outbox"),
        late=True,
    ),
    Variant(
        "ours-stream",
        "ours, as a stream",
        "as ours, by POST /chat/stream: the model's chunks come at once, so the server hands them on as few pieces",
        _ours(),
        kind="stream",
        base="ours",
    ),
    Variant("fastapi-httpx", "FastAPI on httpx", _FASTAPI, _fastapi("httpx")),
    Variant("fastapi-aiohttp", "FastAPI on aiohttp", _FASTAPI, _fastapi("aiohttp")),
    Variant(
        "litellm",
        "LiteLLM proxy, plain",
        "ONE upstream call, nothing read or stored; a master key and its router; the client sends the whole history",
        _litellm,
        kind="completion",
        rows=0,
    ),
    Variant(
        "litellm-streamed", "LiteLLM proxy, streamed", "the same, streamed", _litellm,
        kind="streamed", rows=0, base="litellm",
    ),
)  # fmt: skip
BY_KEY = {variant.key: variant for variant in VARIANTS}
