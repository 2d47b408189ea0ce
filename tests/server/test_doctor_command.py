"""`python -m app doctor` as it is started: its lines, its exit codes, its end, and the file for a support request."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any

import pytest

from app.__main__ import main
from app.ops.doctor import pace
from tests.server.clinic import KEY, MODEL_KEY, Clinic, Gateway, clinic
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, environment, run_command, running, until

OPS_TOKEN = "canary-ops-token"
HASH_KEY = "canary-hash-key"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with pytest.MonkeyPatch.context() as patch, clinic(tmp_path_factory.mktemp("clinic"), patch) as town:
        yield town


AWAY = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_KEY": "sb_secret_x", "AUTH_MODE": "dev"}


@pytest.fixture(scope="module")
def server(house: Clinic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    own = {name: value for name, value in house.settings.items() if name != "DATA_DIR"}
    with running(tmp_path_factory.mktemp("server"), AUTH_MODE="dev", OPS_TOKEN=OPS_TOKEN, **own) as running_:
        yield running_


@dataclass(frozen=True)
class Ran:
    """What the command did."""

    code: int
    out: str
    errors: str


Doctor = Callable[..., Ran]


@pytest.fixture
def doctor(house: Clinic, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Doctor:
    """Run the command here, without the seconds that a process takes to start; no secret may be told."""
    monkeypatch.setattr("app.__main__.log_to", lambda **_level: None)  # the logging is this process's own
    monkeypatch.setattr(pace, "SLOW_S", 5.0)

    def run(*options: str, **settings: str) -> Ran:
        capfd.readouterr()
        with house.as_environment({"OPS_TOKEN": OPS_TOKEN} | settings) as here:
            here.setattr(sys, "argv", ["app", "doctor", *options])
            try:
                code = main()
            except SystemExit as end:  # of argparse
                code = int(str(end.code))
        ran = Ran(code, *capfd.readouterr())
        safe(ran.out + ran.errors)
        return ran

    return run


def safe(text: str) -> None:
    """Check that a text has no secret in it, nor a word of anybody's."""
    for secret in (KEY, MODEL_KEY, OPS_TOKEN, HASH_KEY, "canary"):
        assert secret not in text, text


def test_a_report_for_people(house: Clinic) -> None:
    """As a process: aligned lines on stdout, nothing on stderr, no colour; the last line counts; nothing failed: 0."""
    ran = run_command(house.folder, "doctor", **house.settings, OPS_TOKEN=OPS_TOKEN)
    safe(ran.stdout)
    lines = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    assert lines[0].split()[:2] == ["ok", "settings"]
    assert lines[-1].startswith(f"{len(lines) - 2} findings: ")
    column = lines[0].index("they fit")
    assert {line[column - 2 : column] for line in lines[:-2]} == {"  "}


def test_a_report_for_machines(doctor: Doctor) -> None:
    """One JSON document on stdout; something failed: 1."""
    ran = doctor("--json", OPENAI_API_KEY="sk-canary-other")
    report = json.loads(ran.out)
    assert (ran.code, ran.errors) == (1, "")
    assert report["counts"]["fail"] == 1
    (wrong,) = [finding for finding in report["findings"] if finding["status"] == "fail"]
    assert (wrong["check"], "OPENAI_API_KEY" in wrong["todo"]) == ("model.host", True)


def test_settings_that_cannot_be_read(doctor: Doctor) -> None:
    """The server would not start: that is the report, with the variable's name, and code 1."""
    ran = doctor(LLM_TIMEOUT="soon", SUPABASE_KEY="")
    assert ran.code == 1
    assert ran.out.startswith("FAIL  settings")
    assert "LLM_TIMEOUT" in ran.out.splitlines()[0]


def test_no_secret_is_told_wherever_it_stands(doctor: Doctor, tmp_path: Path) -> None:
    """A secret that somebody put into a path, too, is asterisks in the report and in the bundle."""
    where = {"DATA_DIR": str(tmp_path / OPS_TOKEN), "TURN_LOG": str(tmp_path / MODEL_KEY)}
    assert f"{tmp_path}/**********" in doctor(**where).out
    assert bundled(doctor, tmp_path / "bundle.json", **where)["settings"]["TURN_LOG"] == f"{tmp_path}/**********"


@pytest.mark.parametrize(
    "url",
    [
        "https://me:canary-hunter\u2100@host/v1",
        "https://me:canary-hunter/x@host/v1",
        "https://me:canary-hunter#x@host/v1",
        "https://me:canary-hunter?x@host/v1",
    ],
)
def test_no_password_is_told_though_it_breaks_its_url(doctor: Doctor, tmp_path: Path, url: str) -> None:
    """Where a password makes the URL none, nothing of it is told, though no settings say what is secret."""
    ran = doctor("--json", OPENAI_BASE_URL=url)
    assert (ran.code, "OPENAI_BASE_URL: must be a URL" in ran.out) == (1, True)
    bundled(doctor, tmp_path / "bundle.json", OPENAI_BASE_URL=url)


def test_keys_as_they_are_shown(doctor: Doctor) -> None:
    """Keys that were copied with the dots that hide their middle are named; all that needs none is looked at."""
    ran = doctor("--json", SUPABASE_KEY="sb_secret_\u2022\u2022", OPENAI_API_KEY="sk-canary\u2026")
    found = {each["said"].split()[0]: each["status"] for each in json.loads(ran.out)["findings"]}
    assert (ran.code, ran.errors) == (1, "")
    assert (found["SUPABASE_KEY"], found["OPENAI_API_KEY"]) == ("fail", "fail")
    assert finding(json.loads(ran.out), "disk.data_dir")["status"] == "ok"
    assert doctor("--anon-key", "sb_publishable_\u2022").code == 2


def test_a_url_that_no_request_can_be_made_of(doctor: Doctor) -> None:
    """It is a report of one line with the variable, as for settings that cannot be read."""
    ran = doctor(SUPABASE_URL="http://\u00e4..test")
    assert (ran.code, ran.errors) == (1, "")
    assert "SUPABASE_URL" in ran.out.splitlines()[0]


def test_it_cannot_begin(doctor: Doctor, tmp_path: Path) -> None:
    """A bundle that has no place, or an option that is none, is told before anything is looked at: 2."""
    for place in ("nowhere/file.json", f"{'n' * 300}/file.json", ""):
        ran = doctor("--bundle", str(tmp_path / place))
        assert (ran.code, ran.out, ran.errors.count("\n")) == (2, "", 1)
        assert ran.errors.startswith("nursery-chat cannot examine: --bundle: ")
    assert doctor("--colour").code == 2


def test_a_bundle_replaces_nothing(doctor: Doctor, tmp_path: Path) -> None:
    """A file, a link (also one to nowhere), and a pipe are refused as its place, and stay what they were."""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=")
    (tmp_path / "link").symlink_to(".env")
    (tmp_path / "dangling").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    before = {path.name: path.lstat() for path in tmp_path.iterdir()}
    for name in before:
        ran = doctor("--bundle", str(tmp_path / name))
        assert (ran.code, "is there already" in ran.errors) == (2, True)
    assert {path.name: path.lstat() for path in tmp_path.iterdir()} == before


def test_whoever_gives_up_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a host says nothing: code 130, no report, no stack."""
    gateway = Gateway(silent=True)
    with clinic(tmp_path, monkeypatch, gateway) as house:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "doctor"],
            cwd=tmp_path,
            env=environment(tmp_path / "data") | house.settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: gateway.asked > 0, "the doctor asks")
        process.send_signal(SIGINT)
        out, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, errors) == (130, "", "")


def bundled(doctor: Doctor, file: Path, *options: str, **settings: str) -> dict[str, Any]:
    """Return what a bundle holds, which is safe and for its owner's eyes only."""
    assert doctor("--bundle", str(file), *options, **settings).code in (0, 1)
    safe(file.read_text("utf-8"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(file.parent.glob(f".{file.name}*"))
    document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return document


def test_a_bundle_of_a_server_that_runs(server: ServerProcess, doctor: Doctor, tmp_path: Path) -> None:
    """It holds the report, the settings and what the server says of itself, asked where BIND or --url have it."""
    server.ask(f"canary: what is a hypothesis? {AT_ONCE}")
    server.ask("canary: fail [[fault: http 401 invalid_api_key]]")
    bind = server.url.removeprefix("http://")
    found = bundled(doctor, tmp_path / "bind.json", BIND=bind)
    assert found["server"]["support"]["turns"][0]["error_type"] == "invalid_api_key"
    assert found["server"]["support"]["now"]["users_active"] == 1
    assert found["doctor"]["counts"]["ok"] > 10
    assert found["settings"]["SUPABASE_KEY"] == "**********"
    elsewhere = bundled(doctor, tmp_path / "url.json", "--url", server.url, BIND="127.0.0.1:9")
    assert "support" in elsewhere["server"]
    refused = bundled(doctor, tmp_path / "refused.json", "--url", server.url, OPS_TOKEN="another-canary-token")
    assert "OPS_TOKEN" in refused["server"]["problem"]


def test_a_bundle_without_a_server(doctor: Doctor, tmp_path: Path) -> None:
    """It says that nobody answers, and has the times of the last turns from TURN_LOG; nothing else of these lines."""
    log = tmp_path / "turns.jsonl"
    turn = {"turn": "t", "service_s": 1.5, "outcome": "ok", "message": "canary: what somebody wrote"}
    log.write_text('{"half a line\n' + f"{json.dumps(turn)}\n" * 3 + "[1]\n")
    found = bundled(doctor, tmp_path / "bundle.json", BIND="127.0.0.1:9", TURN_LOG=str(log))
    assert "nobody answers at http://127.0.0.1:9/ops/support" in found["server"]["problem"]
    assert found["turn_log"] == [{"turn": "t", "service_s": 1.5, "outcome": "ok"}] * 3


def test_a_bundle_without_settings(doctor: Doctor, tmp_path: Path) -> None:
    """Where the settings are wrong it has what can be had: why."""
    found = bundled(doctor, tmp_path / "bundle.json", LLM_TIMEOUT="soon")
    assert found["settings"] is None
    assert "LLM_TIMEOUT" in found["doctor"]["findings"][0]["said"]


def test_the_outbox_of_a_process_that_is_gone(house: Clinic, server: ServerProcess, doctor: Doctor) -> None:
    """A file that a killed server left is told from one whose server lives, and looking changes neither."""
    house.gateway.status = 503  # so that what waits is not delivered
    here = AWAY | {"DATA_DIR": str(server.data_dir)}
    (file,) = (server.data_dir / "outbox").glob("*.sqlite3")
    put_row(file)
    alive = json.loads(doctor("--json", **here).out)
    assert finding(alive, "outbox")["status"] == "ok"
    assert "1 rows wait in 1 files" in finding(alive, "outbox")["said"]
    server.process.kill()
    server.process.wait()
    before = file.read_bytes()
    gone = json.loads(doctor("--json", **here).out)
    left = finding(gone, "outbox.left")
    assert left["status"] == "warn"
    assert "1 rows wait in 1 files of processes that are gone" in left["said"]
    assert file.read_bytes() == before
    assert file.with_name(f"{file.name}-lock").exists()


def finding(report: dict[str, Any], check: str) -> dict[str, Any]:
    (found,) = [each for each in report["findings"] if each["check"] == check]
    return dict(found)


def put_row(file: Path) -> None:
    """Put a row into an outbox, as it would lie there."""
    with sqlite3.connect(file) as outbox:
        outbox.execute(
            "INSERT INTO entries (position, turn_id, sender, created_at, row) VALUES (99, 't', 'user', 'now', x'7b7d')"
        )
    outbox.close()
