"""A real server whose database does not answer: refused before the model is paid."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import running


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Yield a port that is bound and not listening: connections to it are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def settings(port: int) -> dict[str, str]:
    return {"SUPABASE_URL": f"http://127.0.0.1:{port}", "SUPABASE_KEY": "sb_secret_test", "AUTH_MODE": "dev"}


def test_a_database_that_refuses_is_503(tmp_path: Path, closed_port: int) -> None:
    """A database that cannot be reached is 503 `database_unavailable`, and the model is not asked."""
    with running(tmp_path, **settings(closed_port)) as server:
        response = server.ask("Hello?")
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert "chat/completions" not in server.log_text


def test_a_database_that_stays_silent_is_bounded(tmp_path: Path, silent_port: int) -> None:
    """A database that takes the connection and never answers is 504 at DB_FETCH_TIMEOUT, not a hang."""
    with running(tmp_path, **settings(silent_port), DB_FETCH_TIMEOUT="0.5") as server:
        response = server.ask("Hello?")
        assert (response.status_code, response.json()["stage"]) == (504, "db_fetch")
