"""What is known of each command of the documents: what it must do, or why it is not typed here.

A rule is for every command that its pattern matches from the beginning to the end (`flat`, in one line and without
comments). Each command has exactly one rule, and each rule a command.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

Server = Literal["open", "signed"]
"""Which server is asked: the one that believes a user's id, as `make run` starts it, or one with a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Is typed. It ends with `code`; `says` are patterns and `has` JSON keys that must be in what it prints."""

    says: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    code: int = 0
    server: Server = "open"
    given: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exports:
    """Is typed, and what it sets is there for what its document says afterwards; `says` is a pattern of the value."""

    name: str
    says: str
    given: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serves:
    """Is typed: it serves until Ctrl-C. `model` is what it says will answer, `optimized` which plan `/chat` takes."""

    model: str
    optimized: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Is not typed here, since it takes long or changes the machine; what judges it is in the file `by`."""

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsEngine:
    """Needs a container engine or a cluster, which are not to be had where the tests run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsAccount:
    """Needs an account somewhere."""


Class = Runs | Exports | Serves | Elsewhere | NeedsEngine | NeedsAccount

SCRIPTED = "scripted-tutor"
APP = r"\.venv/bin/python -m app"
URL = r"http://127\.0\.0\.1:8000"
OPS = r'curl -s -H "Authorization: Bearer \$OPS_TOKEN"'
SIGNED = {"SUPABASE_JWT_SECRET": "a secret of thirty-two bytes or more"}
ANSWER = ("response", "conversation_id", "turn_id", "trace_id", "token_usage", "saved", "performance_metrics")

RULES: dict[str, Class] = {
    # make
    r"make run": Serves(model="SmolLM2"),
    r"make run LLM=scripted": Serves(model=SCRIPTED),
    r"USE_OPTIMIZED_CHAT=true CHAT_CANARY_PERCENT=100 make run": Serves(model="SmolLM2"),
    rf"USE_OPTIMIZED_CHAT=false {APP} serve": Serves(model=SCRIPTED, optimized=False),
    r"(NO_LOCAL_MODEL=1 )?make (test|soak|lint)": Elsewhere(by=".ci/run"),
    r"make (front-end|mock-hosts|traceql|typed-client|console-page)": Elsewhere(by=".ci/run"),
    r"make (install|install-dev|install-model|lock)": Elsewhere(by="tests/test_make.py"),
    r"make trace-demo": Elsewhere(by="tests/grafana/test_trace_demo.py"),
    r"make dashboards": Elsewhere(by="tests/grafana/test_dashboards.py"),
    r"make bench( ARGS=--quick)?": Elsewhere(by="bench/__main__.py"),
    # for whoever changes the code
    r'\.venv/bin/python -m pytest (-m "not soak" tests/admit|tests/test_chat_turn\.py)': Elsewhere(by=".ci/run"),
    r"\.venv/bin/python -m pytest -q .*": Elsewhere(by="tests/test_contributing.py"),
    r"\.venv/bin/python -m grafana": Elsewhere(by="tests/test_contributing.py"),
    r"\.venv/bin/ruff check --fix app tests": Runs(says=("All checks passed!",)),
    r"\.venv/bin/ruff format app tests": Runs(says=("files left unchanged",)),
    r"\.venv/bin/ruff check (?!--fix).*": Elsewhere(by="tests/test_contributing.py"),
    r"\.venv/bin/mypy .*": Elsewhere(by="tests/test_contributing.py"),
    # a turn
    rf"curl -s {URL}/chat -H 'Authorization: Bearer demo' .*": Runs(has=ANSWER),
    rf'curl -s {URL}/chat -H "Authorization: Bearer \$TOKEN" .*': Runs(has=ANSWER, server="signed"),
    rf"curl -s {URL}/conversation-agent/chat .*": Runs(says=('"decision_metadata"',), has=("response",)),
    rf"curl -N {URL}/chat/stream -H 'Authorization: Bearer demo' .*": Runs(
        says=(r'^data: \{"type": ?"start"', r'"type": ?"text-delta"', r'"data-stage"', r"^data: \[DONE\]$")
    ),
    # looking, and changing something live
    rf"curl -s {URL}/ops/outbox": Runs(has=("waiting", "set_aside", "entries")),
    rf"curl -s -X (POST|DELETE) {URL}/ops/outbox/17(/retry)?": Runs(says=('"not_found"',)),
    rf"curl -s {URL}/ops/limiter": Runs(has=("total_tokens", "borrowed", "rejections")),
    rf"curl -s -X PUT {URL}/ops/limiter .*": Runs(says=('"total_tokens": 12', '"who": "ann"')),
    rf"curl -s '{URL}/ops/turns\?outcome=shed' \| .*": Runs(says=(r'1 "error_type": "queue_full"',)),
    rf"curl -s '{URL}/ops/turns\?outcome=timeout' \| .*": Runs(says=(r'1 "error_type": "timeout\.llm\.idle"',)),
    rf"curl -s {URL}/metrics \| grep \^process_memory": Runs(says=(r"^process_memory_usage_bytes\S* \d",)),
    rf"curl -s {URL}/metrics \| grep chat_fallbacks_total": Runs(says=(r'^chat_fallbacks_total\{kind="plan"\} 0$',)),
    rf"curl -X PUT {URL}/ops/rollout .*, \"users\": .*'": Runs(
        says=(r'"chat": \{"optimized": true, "percent": 0\.0\}', r'"users": \["ann", "ben"\]')
    ),
    rf"curl -X PUT {URL}/ops/rollout .* -d '\{{\"chat\": \{{\"percent\": 10\}}\}}'": Runs(says=('"percent": 10.0',)),
    rf"curl -X PUT {URL}/ops/rollout .* -d '\{{\"chat\": \{{\"percent\": 100\}}\}}'": Runs(says=('"percent": 100.0',)),
    rf"curl -X PUT {URL}/ops/rollout .* -d '\{{\"chat\": \{{\"optimized\": false\}}\}}'": Runs(
        says=('"optimized": false',)
    ),
    # our own commands
    rf"{APP} doctor": Runs(says=("database", "model")),
    rf"{APP} doctor --bundle support\.json": Runs(says=("written for a support request: support.json",)),
    rf"{APP} limiter": Runs(says=("slots in use",)),
    rf"{APP} limiter --total 12 --why .*": Runs(says=("12 +manual", "503s at noon")),
    rf"{APP} limiter --mode adaptive --min 2 --max 40 --why .*": Runs(says=("adaptive", "the host refuses at times")),
    rf'{APP} whatif --turns var/turns\.jsonl --sizes 1\.\.40 --slo "p95<2s,shed<1%"': Runs(
        says=("<- smallest|smallest",)
    ),
    rf"{APP} whatif --turns var/turns\.jsonl --sizes 1\.\.40 --burst 2x --plot sizes\.svg": Runs(
        says=("OPENAI_API_POOL_SIZE",)
    ),
    rf'{APP} whatif --turns var/turns\.jsonl --slo "p95<2s"': Runs(says=("OPENAI_API_POOL_SIZE",)),
    rf"{APP} whatif --turns FILE": Runs(says=("OPENAI_API_POOL_SIZE",)),
    rf"{APP} outbox deliver (var/outbox/3f…|DATA_DIR/outbox/FILE)\.sqlite3": Runs(
        says=("delivered 2 rows; the file is removed",)
    ),
    rf"{APP} openapi > docs/openapi\.json": Runs(),
    rf"{APP} hash-user ID": Runs(says=(r"^[0-9a-f]{16,}$",), given={"TELEMETRY_HASH_KEY": "a key"}),
    rf"export TOKEN=\$\({APP} token --user demo\)": Exports(name="TOKEN", says=r"\w+\.\w+\.[\w-]+", given=SIGNED),
    # the runbook
    rf"export URL={URL}": Exports(name="URL", says="http://127"),
    r"export OPS_TOKEN=\.\.\.": Exports(name="OPS_TOKEN", says=r"\.\.\."),
    rf'{APP} doctor --bundle "support-\$\(date \+%H%M%S\)\.json"( --url "\$URL")?': Runs(
        says=(r"written for a support request: support-\d{6}\.json",)
    ),
    rf'{OPS} "\$URL/ops/turns\?(min_seconds=1|outcome=degraded)" \| python3 -m json\.tool \| head -\d+': Runs(
        says=('"turns"',)
    ),
    r'curl -s "\$URL/readyz"': Runs(has=("status",)),
    rf'for how in .*; do {OPS} "\$URL/ops/turns\?outcome=\$how" \| .* done': Runs(says=('"error_type": "queue_full"',)),
    rf'{OPS} "\$URL/ops/turns\?outcome=shed" \| .*': Runs(says=('1 "error_type": "queue_full"',)),
    rf'{OPS} "\$URL/ops/turns\?outcome=timeout" \| .*': Runs(says=(r'1 "error_type": "timeout\.llm\.idle"',)),
    rf'{APP} limiter --once --url "\$URL"': Runs(says=("slots in use",)),
    rf'{APP} limiter --url "\$URL" --total \d+ --why .*': Runs(says=(r"\d+ +manual",)),
    rf'{APP} limiter --url "\$URL" --mode adaptive --max 10 --why "429s"': Runs(says=("429s",)),
    rf'{OPS} "\$URL/metrics" \| \\? ?grep .*': Runs(says=(r"\d$",)),
    rf'{OPS} "\$URL/ops/outbox\?limit=10" \| python3 -m json\.tool': Runs(has=("waiting", "entries")),
    rf'{OPS} "\$URL/ops/outbox\?limit=1000" \| .*': Runs(says=('"set_aside": 0',)),
    r'curl -s -X (POST|DELETE) -H .* "\$URL/ops/outbox/17(/retry)?"': Runs(says=('"not_found"',)),
    r'curl -s -X PUT "\$URL/ops/rollout" .*': Runs(
        says=(r'"chat": \{"optimized": false', r'"agent": \{"optimized": false')
    ),
    r'curl -s --max-time 5 "\$URL/(healthz|readyz)" \|\| echo "no answer"': Runs(has=("status",)),
    # containers
    r"(docker|kubectl) .*": NeedsEngine(),
    # a machine's own services
    r"(cp|systemctl) .*nursery-chat@.*": Elsewhere(by="tests/deploy/test_unit.py"),
    r"export TOKEN=\$\(docker compose run .*\)": NeedsEngine(),
}


def rules_for(flat: str) -> list[str]:
    """Return the patterns that match a command."""
    return [pattern for pattern in RULES if re.fullmatch(pattern, flat)]
