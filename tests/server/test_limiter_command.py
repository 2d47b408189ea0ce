"""The command for ops against a real server: it looks, sets, lives through a restart, and leaves the terminal whole."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import pytest

from app.__main__ import main
from tests.server.process import PROJECT_ROOT, ServerProcess, environment, run_command, running
from tests.server.terminal import on_terminal

TOKEN = "s3cret-ops-token"
COLOURS = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7])[;m]")


Limiter = Callable[..., tuple[int, str, str]]


@pytest.fixture
def limiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Limiter:
    """Run the command here, without the half second that a process takes to start: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)  # where no `.env` of a developer's lies

    def run(*arguments: str, **settings: str) -> tuple[int, str, str]:
        with monkeypatch.context() as here:
            here.setattr(sys, "argv", ["app", "limiter", *arguments])
            for name in ("BIND", "OPS_TOKEN"):
                here.delenv(name, raising=False)
            for name, value in settings.items():
                here.setenv(name, value)
            return main(), *capfd.readouterr()

    return run


def test_it_looks_and_sets(server: ServerProcess, limiter: Limiter) -> None:
    """A frame, the document, a size with its reason, a mode with its bounds: the server has it all, at once."""
    code, shown, errors = limiter("--url", server.url)
    assert (code, errors) == (0, "")
    assert shown.startswith("All quiet: 0 of 10 slots in use, nobody waits.\n")
    assert "\x1b" not in shown
    assert json.loads(limiter("--url", server.url, "--json")[1]) == server.http.get("/ops/limiter").json()
    code, shown, _ = limiter("--url", server.url, "--total", "12", "--why", "504s at noon [bold]昼", "--who", "ann")
    assert code == 0
    assert re.search(r"10 +12 +manual +ann +504s at noon \[bold\]昼", shown)
    assert figures(server) == ("fixed", 12, 1, 64)
    assert limiter("--url", server.url, "--mode", "adaptive", "--min", "2", "--max", "40")[0] == 0
    assert figures(server) == ("adaptive", 12, 2, 40)
    assert limiter("--url", server.url, "--total", "5")[0] == 0  # fixed is sent along
    assert figures(server) == ("fixed", 5, 2, 40)


def figures(server: ServerProcess) -> tuple[Any, ...]:
    document = server.http.get("/ops/limiter").json()
    return tuple(document[name] for name in ("mode", "total_tokens", "min", "max"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--total", "0"], "total_tokens: "),
        (["--total", "12", "--mode", "adaptive"], "total_tokens: the adaptive limit decides it"),
        (["--min", "9", "--max", "3"], "min: must not be more than max"),
        (["--total", "12", "--why", "x" * 201], "why: "),
        (["--total", "12", "--why", "\udcff"], "why: "),
    ],
)
def test_what_the_server_refuses_is_told_by_field(
    server: ServerProcess, limiter: Limiter, given: list[str], said: str
) -> None:
    """One line on stderr, exit code 2, and nothing has changed."""
    before = server.http.get("/ops/limiter").json()["changes"]
    code, shown, errors = limiter("--url", server.url, *given)
    assert (code, shown, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"nursery-chat cannot do that: {said}")
    assert server.http.get("/ops/limiter").json()["changes"] == before


def test_a_token_opens_it_and_is_never_shown(tmp_path: Path, limiter: Limiter) -> None:
    """By OPS_TOKEN or by --token; with none, or a wrong one, the line names the variable."""
    with running(tmp_path, OPS_TOKEN=TOKEN) as server:
        none, wrong, setting, option = (
            limiter("--url", server.url),
            limiter("--url", server.url, "--token", f"{TOKEN}-not"),
            limiter("--url", server.url, OPS_TOKEN=TOKEN),
            limiter("--url", server.url, "--token", TOKEN, OPS_TOKEN="other"),
        )
        assert [each[0] for each in (none, wrong, setting, option)] == [2, 2, 0, 0]
        assert "set OPS_TOKEN" in none[2]
        assert "is not the server's OPS_TOKEN" in wrong[2]
        assert not any(TOKEN in shown + errors for _, shown, errors in (none, wrong, setting, option))
        assert TOKEN not in server.log_text


def test_where_it_asks_without_an_address(server: ServerProcess, limiter: Limiter) -> None:
    """At BIND, it must name a port."""
    port = server.address[1]
    assert limiter(BIND=f"127.0.0.1:{port}")[0] == 0
    assert "BIND names no port" in limiter(BIND="127.0.0.1:0")[2]
    code, shown, errors = limiter(BIND="[::1]:9")
    assert (code, shown, errors.count("\n")) == (2, "", 1)
    assert "nobody answers at http://[::1]:9/ops/limiter" in errors


def test_the_process_ends_with_the_code(tmp_path: Path) -> None:
    """Started as it is documented, it says its line on stderr and ends with 2."""
    ran = run_command(tmp_path, "limiter", "--url", "http://127.0.0.1:9")
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert "nobody answers at http://127.0.0.1:9/ops/limiter" in ran.stderr


def test_a_live_view_lives_through_a_restart(tmp_path: Path) -> None:
    """It shows what happens, says when nobody answers, goes on with the next process; Ctrl-C leaves all as it was."""
    with running(tmp_path / "one", OPENAI_API_POOL_SIZE="1") as server, ThreadPoolExecutor(2) as pool:
        bind = server.url.removeprefix("http://")
        with on_terminal(tmp_path, "limiter", "--url", server.url) as terminal:
            seen = terminal.wait_for("All quiet: 0 of 1 slots in use")
            held = [pool.submit(server.ask, "Slow [[fault: stall after=1]]", user=name) for name in ("ann", "ben")]
            seen = terminal.wait_for("1 turn waits although the host has refused nothing", seen)
            seen = terminal.wait_for("admitted 1", seen)
            server.process.kill()
            server.process.wait()
            assert all(each.exception() for each in held)
            seen = terminal.wait_for("nobody answers at", seen)
            seen = terminal.wait_for("asking again every second", seen)
            with running(tmp_path / "two", BIND=bind, OPENAI_API_POOL_SIZE="7"):
                seen = terminal.wait_for("All quiet: 0 of 7 slots in use", seen)
                terminal.process.send_signal(SIGINT)
                assert terminal.wait() == 0
            assert_restored(terminal.shown)
            assert terminal.modes() == terminal.modes_before


def assert_restored(shown: str) -> None:
    """Check that the cursor and the screen of before are back, and the last frame stands on that."""
    assert shown.rindex("\x1b[?1049h") < shown.rindex("\x1b[?1049l") < shown.rindex("All quiet")
    assert shown.rindex("\x1b[?25l") < shown.rindex("\x1b[?25h")
    assert "Traceback" not in shown


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_it_ends_while_nobody_has_answered_yet(tmp_path: Path, number: Signals) -> None:
    """The view waits for a server that is still to come; whoever gives up gets a whole terminal back, and code 0."""
    with on_terminal(tmp_path, "limiter", "--url", "http://127.0.0.1:9", NO_COLOR="1") as terminal:
        terminal.wait_for("asking again every second")
        terminal.process.send_signal(number)
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.shown
        assert terminal.shown.rindex("\x1b[?1049h") < terminal.shown.rindex("\x1b[?1049l")
        assert not COLOURS.search(terminal.shown)


def test_what_asking_again_would_not_help_ends_the_live_view(tmp_path: Path) -> None:
    """A wrong token is told on the terminal of before, with code 2."""
    with (
        running(tmp_path, OPS_TOKEN=TOKEN) as server,
        on_terminal(tmp_path, "limiter", "--url", server.url) as terminal,
    ):
        assert terminal.wait() == 2
        end = terminal.wait_for("nursery-chat cannot do that: ")
        terminal.wait_for("OPS_TOKEN", end)
        assert terminal.shown.rindex("\x1b[?1049l") < end


def test_serving_does_not_wait_for_what_draws(tmp_path: Path) -> None:
    """The server and the other commands are imported without rich."""
    code = "import sys, app.__main__, app.bootstrap; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env=environment(tmp_path)).returncode == 0
