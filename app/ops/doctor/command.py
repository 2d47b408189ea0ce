"""The command: examines, tells, and writes the bundle if one is wanted."""

import argparse
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from app.errors import StartError
from app.ops.doctor.bundle import check_place, turn_log_tail, write
from app.ops.doctor.finding import Finding, as_document, as_text, exit_code, fail, skip
from app.ops.doctor.judged_settings import sendable
from app.ops.doctor.steps import first_of
from app.ops.limiter_cli.client import OpsServer, connected, text_of
from app.ops.support_routes import settings_for_support
from app.settings import Settings
from telemetry.redaction import Redaction, redaction

INTERRUPTED = 130
"""As shells have it for who was ended by SIGINT."""
SUPPORT = "/ops/support"
Examine = Callable[[Settings, str | None], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """What the command needs of whoever starts it.

    Args:
        load: reads the settings; raises StartError where they are wrong.
        examine: runs all checks.
        server: makes of the settings, and of --url, where the running server is asked.
        versions: tells what runs here.
        say: takes what is told.
    """

    load: Callable[[], Settings]
    examine: Examine
    server: Callable[[Settings, str | None], OpsServer]
    versions: Callable[[], Mapping[str, str]]
    say: Callable[[str], None]


def run(options: argparse.Namespace, doctor: Doctor) -> int:
    """Examine, tell, and return the exit code: 1 when something is wrong, 0 when nothing is, or only doubtful.

    Raises:
        StartError: it cannot begin, or the bundle cannot be written.
    """
    if options.bundle is not None:
        check_place(options.bundle)
    if not sendable(options.anon_key or ""):
        raise StartError("--anon-key has a character that no key has: copy the whole key again")
    try:
        return trio.run(partial(_run, options, doctor))
    except* KeyboardInterrupt:
        pass
    return INTERRUPTED


async def _run(options: argparse.Namespace, doctor: Doctor) -> int:
    settings, findings = await _examined(options.anon_key, doctor)
    hidden = redaction([*(settings.secrets if settings else ()), *filter(None, (options.anon_key,))])
    shown = [_redacted(finding, hidden) for finding in findings]
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    report = as_document(shown, {"made_at": made_at, "versions": dict(doctor.versions())})
    doctor.say(json.dumps(report, ensure_ascii=False, indent=1) if options.json else as_text(shown))
    if options.bundle is not None:
        document = hidden.of(await _bundle(report, settings, options.url, doctor))
        await trio.to_thread.run_sync(write, options.bundle, document, abandon_on_cancel=True)
        if not options.json:
            doctor.say(f"written for a support request: {options.bundle}")
    return exit_code(findings)


async def _examined(anon_key: str | None, doctor: Doctor) -> tuple[Settings | None, list[Finding]]:
    """Return the settings, where they can be read, and what was found."""
    settings, problem = None, ""
    try:
        settings = doctor.load()
        return settings, await doctor.examine(settings, anon_key)
    except* StartError as group:
        problem = str(first_of(group))
    return settings, unusable(problem)


def unusable(problem: str) -> list[Finding]:
    """Return the report where the settings cannot be read, or nothing can be opened with them."""
    return [
        fail("settings", f"the server does not start ({problem})", "correct the variable, here or in .env"),
        skip("everything else", "needs settings that can be used"),
    ]


def _redacted(finding: Finding, hidden: Redaction) -> Finding:
    return Finding(
        check=finding.check, status=finding.status, said=hidden.text(finding.said), todo=hidden.text(finding.todo)
    )


async def _bundle(
    report: Mapping[str, Any], settings: Settings | None, url: str | None, doctor: Doctor
) -> dict[str, Any]:
    if settings is None:
        return {"doctor": report, "settings": None, "server": {"problem": "the settings cannot be read"}}
    return {
        "doctor": report,
        "settings": settings_for_support(settings.masked()),
        "server": await _server(settings, url, doctor),
        "turn_log": turn_log_tail(settings.turn_log),
    }


async def _server(settings: Settings, url: str | None, doctor: Doctor) -> dict[str, Any]:
    """Return what the running server says of itself, or why there is nothing."""
    try:
        async with connected(doctor.server(settings, url), SUPPORT) as client:
            return {"support": json.loads(text_of(await client.ask(), client.address))}
    except StartError as exc:
        return {"problem": str(exc)}
