"""All checks as steps: which of them there are for these settings, in which order, each with its deadline."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import trio

from app.clients.ports import KeyHost
from app.clients.probing import DatabaseProbe, HostAnswer, Reader, Signal
from app.ops.doctor import machine, own_files
from app.ops.doctor.clock import Clocks
from app.ops.doctor.database import CONNECT, DatabaseChecks
from app.ops.doctor.export import ExportCheck
from app.ops.doctor.finding import Finding
from app.ops.doctor.judged_settings import judge as judge_settings
from app.ops.doctor.model import ModelChecks
from app.ops.doctor.pace import PaceChecks
from app.ops.doctor.row_security import RowSecurityCheck
from app.ops.doctor.signing_keys import KeysCheck
from app.ops.doctor.steps import Check, Step
from app.settings import Settings, otel_disabled, otel_exports

CHECK_URL = "check OPENAI_BASE_URL and the way there"
REACH_S = 5.0
LOOK_S = 10.0
ANSWER_S = 15.0
LOADING_S = 60.0
"""Beside a word from the embedded model, that it loads from a cold disk."""
SLOW = "the host is slow or silent: look at its status page, and run the doctor again"
HOSTS = ("database.reach", "identity.keys", "model.host", "otlp.traces", "otlp.metrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Whom the server talks to, open for questions; None where what is embedded serves.

    Args:
        model: the model and its host.
        model_loads: whether it has to load first.
        database: the project's, or None.
        keys: where its keys are published, in an identity mode that has them.
        strangers: as whom row-level security is tried.
        export: exports nothing of one signal; it blocks.
        clocks: are noted while hosts are asked.
    """

    model: ModelChecks
    model_loads: bool
    database: DatabaseProbe | None
    keys: KeyHost | None
    strangers: Sequence[Reader]
    export: Callable[[Signal], HostAnswer]
    clocks: Clocks


def steps(settings: Settings, near: Neighbours, outbox_folder: Path) -> list[Step]:
    """Return the steps in the order of the report; what is timed comes after a model that loads on the same cores."""
    quiet = ("model.answer",) if near.model_loads else ()
    found = [
        _here("settings", partial(judge_settings, settings)),
        *(_of_project(settings, near, near.database, quiet) if near.database else _of_embedded(settings)),
        *_of_identity(settings, near),
        Step(name="model.host", check=near.model.host, deadline_s=REACH_S, todo=CHECK_URL),
        Step(
            name="model.answer", check=near.model.answer, todo=SLOW, needs=("model.host",),
            deadline_s=LOADING_S if near.model_loads else min(ANSWER_S, settings.llm_timeout),
        ),
        *(_export(signal, near) for signal in get_args(Signal)),
    ]  # fmt: skip
    hosts = tuple(step.name for step in found if step.name in HOSTS)
    return [
        *found,
        Step(name="clock", check=_later(lambda: [near.clocks.finding()]), deadline_s=LOOK_S, todo="", after=hosts),
        _here("disk", partial(look_at_disk, settings, outbox_folder, os.geteuid()), after=quiet),
        _here("limits.files", partial(machine.look_at_descriptors, settings.max_connections)),
    ]


def look_at_disk(settings: Settings, outbox_folder: Path, me: int) -> list[Finding]:
    """Return what there is to say of DATA_DIR, and of the outboxes where they are of the user `me`."""
    outboxes = own_files.outboxes_in(outbox_folder)
    embedded = [] if settings.supabase_url else [_embedded_file(settings)]
    found = machine.look(settings.data_dir, [outbox_folder, *outboxes, *embedded], me)
    if any(finding.status == "fail" or finding.check == machine.USER for finding in found):
        return found
    return [*found, *own_files.judge_outboxes([*map(own_files.read_outbox, outboxes)], outbox=settings.outbox)]


def _of_project(settings: Settings, near: Neighbours, probe: DatabaseProbe, quiet: tuple[str, ...]) -> list[Step]:
    key = settings.supabase_key.get_secret_value() if settings.supabase_key else None
    server = Reader(name="the server", key=key)
    checks, pace = DatabaseChecks(probe, server), PaceChecks(probe, server)
    rls = RowSecurityCheck(probe, server, near.strangers)
    needs = ("database.reach",)
    rows: list[tuple[str, Check, float, tuple[str, ...]]] = [
        ("database.schema", checks.schema, LOOK_S, ()),
        ("database.keys", checks.keys, LOOK_S, ("database.schema",)),
        ("database.rls", rls.look, LOOK_S, ()),
        ("database.latency", pace.latency, LOOK_S, ("database.keys", "database.rls", *quiet)),
        ("database.pool", partial(pace.pool, settings.supabase_max_connections), LOOK_S, ("database.latency",)),
    ]
    return [
        Step(name="database.reach", check=checks.reach, deadline_s=REACH_S, todo=CONNECT),
        *(
            Step(name=name, check=check, deadline_s=deadline_s, todo=SLOW, needs=needs, after=after)
            for name, check, deadline_s, after in rows
        ),
    ]


def _embedded_file(settings: Settings) -> Path:
    return settings.data_dir / "supabase.sqlite3"


def _of_embedded(settings: Settings) -> list[Step]:
    look = partial(own_files.look_at_database, _embedded_file(settings), os.geteuid())
    return [_here(own_files.EMBEDDED, look)]


def _of_identity(settings: Settings, near: Neighbours) -> list[Step]:
    if near.keys is None:
        return []
    secret = settings.supabase_jwt_secret.get_secret_value() if settings.supabase_jwt_secret else None
    check = KeysCheck(near.keys, secret).look
    return [Step(name="identity.keys", check=check, deadline_s=REACH_S + 1, todo="check the project's Auth")]


def _export(signal: Signal, near: Neighbours) -> Step:
    check = ExportCheck(signal=signal, export=near.export, wanted=otel_exports(signal), disabled=otel_disabled())
    return Step(
        name=f"otlp.{signal}", check=check.look, deadline_s=LOOK_S, todo="start the collector, or unset its endpoint"
    )


def _here(name: str, look: Callable[[], list[Finding]], after: tuple[str, ...] = ()) -> Step:
    """Return the step of what is on this machine, in a thread: a disk that hangs holds up nobody."""

    async def check() -> list[Finding]:
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)

    return Step(
        name=name, check=check, deadline_s=LOOK_S, todo="the disk hangs: look at the machine's log", after=after
    )


def _later(look: Callable[[], list[Finding]]) -> Check:
    async def check() -> list[Finding]:
        await trio.lowlevel.checkpoint()
        return look()

    return check
