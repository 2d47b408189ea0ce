"""How the server starts, and how it says why it cannot."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.needs import need_program
from tests.server.neighbours import model_host
from tests.server.process import AT_ONCE, WAIT_S, ServerProcess, environment, run_command, running, until

URL = "http://127.0.0.1:9"

WRONG: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "a URL without its key": ({"SUPABASE_URL": URL}, ("SUPABASE_URL", "SUPABASE_KEY")),
    "a key without its URL": ({"SUPABASE_KEY": "canary"}, ("SUPABASE_URL", "SUPABASE_KEY")),
    "a database that is no URL": ({"SUPABASE_URL": "project", "SUPABASE_KEY": "canary"}, ("SUPABASE_URL", "http://")),
    "a model that is no URL": ({"OPENAI_BASE_URL": "ftp://x"}, ("OPENAI_BASE_URL", "http://")),
    "a reserved setting": ({"REDIS_URL": "redis://canary@localhost"}, ("REDIS_URL", "reserved")),
    "identity of Supabase without anything to verify by": (
        {"AUTH_MODE": "supabase"},
        ("AUTH_MODE", "SUPABASE_URL", "SUPABASE_JWT_SECRET"),
    ),
    "a secret that is too short": ({"SUPABASE_JWT_SECRET": "canary"}, ("SUPABASE_JWT_SECRET", "32")),
    "dev on every address, with a project": (
        {"AUTH_MODE": "dev", "BIND": "0.0.0.0:8000", "SUPABASE_URL": URL, "SUPABASE_KEY": "canary"},
        ("AUTH_MODE=dev", "0.0.0.0:8000"),
    ),
    "an unknown identity": ({"AUTH_MODE": "none"}, ("AUTH_MODE",)),
    "dev on every address": ({"BIND": "0.0.0.0:8000"}, ("AUTH_MODE=dev", "0.0.0.0:8000")),
    "dev on every address, said twice": ({"BIND": "[::]:8000", "AUTH_MODE": "dev"}, ("AUTH_MODE=dev",)),
    "no port": ({"BIND": "127.0.0.1"}, ("BIND", "host:port")),
    "a port too high": ({"BIND": "127.0.0.1:65536"}, ("BIND", "host:port")),
    "a word for a number": ({"LLM_TIMEOUT": "canary"}, ("LLM_TIMEOUT",)),
    "a time below nothing": ({"TURN_TIMEOUT": "-1"}, ("TURN_TIMEOUT",)),
    "no slots": ({"OPENAI_API_POOL_SIZE": "0"}, ("OPENAI_API_POOL_SIZE",)),
    "half a message": ({"MAX_CHAT_MESSAGE_LENGTH": "0.5"}, ("MAX_CHAT_MESSAGE_LENGTH",)),
    "two wrong numbers": ({"LLM_TIMEOUT": "x", "DB_SAVE_TIMEOUT": "y"}, ("LLM_TIMEOUT", "DB_SAVE_TIMEOUT")),
    "limits the wrong way round": ({"CHAT_HISTORY_LIMIT_DEFAULT": "60"}, ("CHAT_HISTORY_LIMIT_DEFAULT",)),
    "an unknown model": ({"EMBEDDED_LLM": "gpt"}, ("EMBEDDED_LLM",)),
    "an unknown log level": ({"LOG_LEVEL": "loud"}, ("LOG_LEVEL",)),
    "a proxy that is no address": ({"TRUSTED_PROXIES": "10.0.0.0/8, proxy"}, ("TRUSTED_PROXIES",)),
    "a proxy of another kind for the model": (
        {"OPENAI_BASE_URL": "https://model.test/v1", "HTTPS_PROXY": "socks5://u:canary@x:1"},
        ("HTTPS_PROXY", "HTTP proxy"),
    ),
    "a proxy without a host for the database": (
        {"SUPABASE_URL": URL, "SUPABASE_KEY": "canary", "AUTH_MODE": "dev", "ALL_PROXY": "http://u:canary@"},
        ("ALL_PROXY", "HTTP proxy"),
    ),
    "a prompt that is not there": ({"SYSTEM_PROMPT_FILE": "no-such-prompt.txt"}, ("SYSTEM_PROMPT_FILE",)),
    "metrics sent without a pause": (
        {"OTEL_METRIC_EXPORT_INTERVAL": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
        ("OTEL_", "interval"),
    ),
    "spans sent without a pause": (
        {"OTEL_BSP_SCHEDULE_DELAY": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
        ("OTEL_", "schedule_delay"),
    ),
    "spans without room, which is refused while it is imported": (
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1"},
        ("OTEL_*", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
    ),
    "a prompt that is a folder": ({"SYSTEM_PROMPT_FILE": "."}, ("SYSTEM_PROMPT_FILE",)),
}


def refused(folder: Path, **settings: str) -> str:
    """Return the one line that a server which cannot start leaves behind; it ended with exit code 2."""
    ended = run_command(folder, "serve", **settings)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    (line,) = ended.stderr.splitlines()
    assert line.startswith("nursery-chat cannot start: ")
    return line


@pytest.mark.parametrize(("settings", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_one_clear_line(tmp_path: Path, settings: dict[str, str], named: tuple[str, ...]) -> None:
    """Exit code 2 and one line, which names each wrong variable and repeats no value that may be secret."""
    line = refused(tmp_path, **settings)
    assert all(word in line for word in named), line
    assert "canary" not in line


def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    """When another listens there: exit code 2, a line with the address and what to do, and no database made."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(tmp_path, BIND=address)
    assert address in line
    assert "BIND" in line
    assert not (tmp_path / "data").exists()


def test_a_data_dir_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """A DATA_DIR below a regular file, which not even root can make, is named."""
    (tmp_path / "file").write_text("")
    line = refused(tmp_path, DATA_DIR=str(tmp_path / "file" / "data"))
    assert "DATA_DIR" in line
    assert str(tmp_path / "file" / "data") in line


@pytest.mark.parametrize("content", [b"This is not a database. " * 100, b"\x00" * 4096], ids=["text", "zeros"])
def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    """A database file that SQLite did not write is refused, and left as it is."""
    file = tmp_path / "data" / "supabase.sqlite3"
    file.parent.mkdir()
    file.write_bytes(content)
    assert "DATA_DIR" in refused(tmp_path)
    assert file.read_bytes() == content


def test_a_file_of_dot_env_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    """`.env` in the working directory counts, below the environment."""
    (tmp_path / ".env").write_text("REDIS_URL=redis://x\nLLM_TIMEOUT=7\nLLM_IDLE_TIMEOUT=3\n")
    assert "REDIS_URL" in refused(tmp_path)
    (tmp_path / ".env").write_text("LLM_TIMEOUT=7\nLLM_IDLE_TIMEOUT=3\n")
    with running(tmp_path, LLM_TIMEOUT="9") as server:
        shown = server.http.get("/ops/settings").json()["settings"]
    assert (shown["LLM_TIMEOUT"], shown["LLM_IDLE_TIMEOUT"]) == (9.0, 3.0)


def test_an_unknown_command_is_told_the_known_ones(tmp_path: Path) -> None:
    """A command line that is wrong: exit code 2 and the usage."""
    ended = run_command(tmp_path, "sreve")
    assert ended.returncode == 2
    assert "serve" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data")) as process:
        yield process


def test_listening_is_one_log_line(server: ServerProcess) -> None:
    """One JSON line says where it listens, and by which process; that very process."""
    (line,) = server.lines("server.listening")
    assert (line["pid"], line["level"], line["logger"]) == (server.process.pid, "info", "app.bootstrap")
    assert server.http.get(f"{line['url']}/readyz").status_code == 200


def test_the_banners_curl_line_works_as_pasted(server: ServerProcess) -> None:
    """What the banner offers to paste is answered by the banner's own server, with the demo user's project."""
    curl = need_program("curl", "apt-get install curl")
    banner = server.wait_for_text("/ops/turns")
    lines = banner.splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().startswith("curl "))
    command = "\n".join(lines[first : first + 2])
    path = {"PATH": str(Path(curl).parent)}
    pasted = subprocess.run(["sh", "-c", command], capture_output=True, env=path, text=True, timeout=WAIT_S, check=True)
    body = json.loads(pasted.stdout)
    assert body["context_metadata"]["project_id"] == 1
    assert body["saved"] == "database"
    assert server.url in banner
    assert str(server.data_dir / "supabase.sqlite3") in banner


def test_the_banner_says_that_the_model_is_not_real(server: ServerProcess) -> None:
    """Who runs the scripted model is told so, in words."""
    banner = server.wait_for_text("/ops/turns")
    assert "scripted-tutor" in banner
    assert "not a real model" in banner


def test_a_prompt_file_replaces_the_tutor(tmp_path: Path) -> None:
    """With SYSTEM_PROMPT_FILE, that text is what the model is told, before the project's line."""
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("あなたは宇宙飛行士です。\n")
    settings = {"SYSTEM_PROMPT_FILE": str(prompt)}
    with model_host() as model, running(tmp_path / "data", OPENAI_BASE_URL=f"{model.url}/v1", **settings) as server:
        server.answer(f"Who are you? {AT_ONCE}", page_id="project-2")
    system = json.loads(model.heard[-1].body)["messages"][0]
    assert system["role"] == "system"
    assert system["content"].startswith("あなたは宇宙飛行士です。\n\n[テーマ:Honeybees in the city|問い:")


def test_hash_user_gives_what_telemetry_says(tmp_path: Path) -> None:
    """`hash-user` prints 16 hex digits: the same for the same key and user, another for another."""
    hashes = {
        (key, user): run_command(tmp_path, "hash-user", user, TELEMETRY_HASH_KEY=key).stdout
        for key, user in (("k1", "demo"), ("k2", "demo"), ("k1", "ann"))
    }
    assert len(set(hashes.values())) == 3
    assert all(len(printed) == 17 and int(printed, 16) >= 0 for printed in hashes.values())
    assert run_command(tmp_path, "hash-user", "demo", TELEMETRY_HASH_KEY="k1").stdout == hashes["k1", "demo"]


def test_hash_user_needs_the_key(tmp_path: Path) -> None:
    """Without the key, whose random stand-in another process does not know: exit code 2, one line."""
    ended = run_command(tmp_path, "hash-user", "demo")
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert "TELEMETRY_HASH_KEY" in line


@pytest.mark.parametrize("redirect", ["", ">&-", "> /dev/full"])
def test_a_closed_or_full_stdout_does_not_end_the_server(tmp_path: Path, redirect: str) -> None:
    """Where nobody reads the banner, the server serves on."""
    shell = ["sh", "-c", f'exec "$0" -m app serve {redirect}', sys.executable]
    with subprocess.Popen(
        shell, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            url = next(line["url"] for line in map(json.loads, process.stderr) if line["event"] == "server.listening")
            until(lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200, "ready")
            assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
        finally:
            process.terminate()
        assert process.wait(10) == 0
