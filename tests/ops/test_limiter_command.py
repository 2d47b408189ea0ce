"""The command without a process: what it asks, what it shows, and the one line for each way to fail."""

import argparse
import getpass
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from app.errors import StartError
from app.ops.limiter_cli.client import DEADLINE_S, OpsServer, UnreachableError
from app.ops.limiter_cli.command import login_name, run
from app.ops.limiter_cli.options import add_options, change_in
from tests.ops.limiter_host import CHANGE, Host, document, host

TOKEN = "s3cret-token"


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="limiter")
    add_options(parser)
    return parser.parse_args(given)


def ask(url: str, *given: str, token: str | None = TOKEN, deadline_s: float = 5.0) -> list[str]:
    """Run the command and return what it said of JSON."""
    said: list[str] = []
    run(options(*given), OpsServer(url=url, token=token, deadline_s=deadline_s), said.append)
    return said


@pytest.fixture
def quiet() -> Iterator[Host]:
    with host() as served:
        yield served


def test_where_no_terminal_listens_one_frame_is_printed(quiet: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain text, no escape sequence, one request with the token; the same as with --once."""
    assert ask(quiet.url) == []
    out, err = capsys.readouterr()
    assert out.startswith("All quiet: 3 of 10 slots in use, nobody waits.\n")
    assert "admitted 812" in out
    assert "\x1b" not in out
    assert err == ""
    ask(quiet.url, "--once")
    assert capsys.readouterr() == (out, err)
    (asked, _again) = quiet.asked
    assert (asked.method, asked.path, asked.authorization) == ("GET", "/ops/limiter", f"Bearer {TOKEN}")


def test_json_is_printed_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    """Order, spaces, letters and fields that this command does not know are the server's."""
    came = '{"zz":  1, "why": "\\u6625 春",\n "new": [1.50]}\n'
    with host(body=came.encode()) as served:
        assert ask(served.url, "--json", token=None) == [came.rstrip("\n")]
        assert served.asked[0].authorization is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ("--total 12", {"total_tokens": 12, "mode": "fixed", "who": "login"}),
        ("--total 12 --who ann --why noon", {"total_tokens": 12, "mode": "fixed", "who": "ann", "why": "noon"}),
        ("--total 12 --mode adaptive", {"total_tokens": 12, "mode": "adaptive", "who": "login"}),
        (
            "--mode adaptive --min 2 --max 40 --json",
            {"mode": "adaptive", "min": 2, "max": 40, "who": "login"},
        ),
        ("--max 40 --once --who=", {"max": 40}),
        ("--total 0", {"total_tokens": 0, "mode": "fixed", "who": "login"}),
    ],
)
def test_a_change_is_one_put(
    quiet: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str, body: dict[str, Any]
) -> None:
    """It says what, who and why; the answer is shown, and nothing else is asked."""
    monkeypatch.setattr(getpass, "getuser", lambda: "login")
    said = ask(quiet.url, *given.split())
    assert [(asked.method, asked.path, asked.body) for asked in quiet.asked] == [("PUT", "/ops/limiter", body)]
    assert bool(said) is ("--json" in given)
    assert capsys.readouterr().out.startswith("All quiet") is not bool(said)


@pytest.mark.parametrize("given", [["--why", "x"], ["--who", "x"]])
def test_who_and_why_without_what_is_refused(given: list[str]) -> None:
    """Nobody should believe that something was set."""
    with pytest.raises(ValueError, match="--who and --why go with a change"):
        change_in(options(*given), "login")
    with pytest.raises(StartError, match="--who and --why go with a change"):
        ask("http://127.0.0.1:1", *given)


@pytest.mark.parametrize("given", [["--total", "x"], ["--total", "1.5"], ["--mode", "auto"]])
def test_a_wrong_option_is_told(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The parser names it, and ends with code 2."""
    with pytest.raises(SystemExit) as ended:
        options(*given)
    assert ended.value.code == 2
    assert given[0] in capsys.readouterr().err


PROBLEM = {"errors": ["total_tokens: must be a whole number from 1 to 10000", "min: \x1b[31mbad"], "detail": "Wrong."}


@pytest.mark.parametrize(
    ("status", "body", "token", "said"),
    [
        (401, {}, TOKEN, "answers 401: the token is not the server's OPS_TOKEN"),
        (401, {}, None, "answers 401: set OPS_TOKEN to the server's, or give --token"),
        (404, {}, None, "answers 404: set OPS_TOKEN on the server, and the same here"),
        (422, PROBLEM, None, "total_tokens: must be a whole number from 1 to 10000; min: ?[31mbad"),
        (422, {"detail": "Some\nfields."}, None, "Some?fields."),
        (422, b"[]", None, "the server refuses that, and does not say why"),
        (200, b"<html>", None, "answers with something that is not JSON"),
        (200, b"", None, "answers with something that is not JSON"),
        (200, b"\xff\xfe{", None, "answers with something that is not JSON"),
        (200, b"[]", None, "answers with another document than a limiter's (all of it: "),
        (200, document(waiting="\x1b[31m"), None, "another document than a limiter's (waiting: "),
        (200, json.dumps(document(oldest_wait_seconds=float("inf"))).encode(), None, "(oldest_wait_seconds: "),
        (200, document(changes=[{**CHANGE, "at": "\x1b[2J"}]), None, "(changes.0.at: "),
        (200, b" " * (1 << 21), None, "sends more than any server of ours has to say"),
        (302, {}, None, "answers 302, as no server of ours would"),
    ],
)
def test_what_cannot_be_done_is_one_line(status: int, body: Any, token: str | None, said: str) -> None:
    """Each way to fail has its own sentence, in which no token and no escape sequence stands."""
    with host(status, body) as served, pytest.raises(StartError) as failed:
        ask(served.url, token=token)
    assert said in str(failed.value)
    assert str(failed.value).isprintable()
    assert TOKEN not in str(failed.value)
    assert not isinstance(failed.value, UnreachableError)


def test_json_that_is_none_is_not_passed_on() -> None:
    """A page of a proxy's is an error, for a program too."""
    with host(200, b"<html>") as served, pytest.raises(StartError, match="something that is not JSON"):
        ask(served.url, "--json")


@pytest.mark.parametrize("how", [{"waits": True}, {"drips": True}], ids=str)
def test_a_server_that_never_comes_to_an_end_is_given_up(how: dict[str, bool]) -> None:
    """The deadline is of the whole request, however many bytes come by and by."""
    with host(**how) as served, pytest.raises(UnreachableError, match=r"did not answer within 0.3 s$"):
        ask(served.url, deadline_s=0.3)
    assert OpsServer(url="").deadline_s == DEADLINE_S == 5.0


def test_nobody_there_may_be_asked_again() -> None:
    """A closed port, a server that hangs up, and one whose proxy says 503 are a restart, perhaps."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(UnreachableError, match=f"nobody answers at {url}/ops/limiter"):
        ask(url)
    with host(503, b"<html>") as served, pytest.raises(UnreachableError, match=r"answers 503$"):
        ask(served.url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8000", "--url must begin with"),
        ("ftp://127.0.0.1", "--url must begin with"),
        ("http://", "--url must begin with"),
        ("http://[", "--url must begin with"),
        ("http://127.0.0.1:99999", "--url must begin with"),
        ("http://ann:s3cret-token@127.0.0.1", "--url takes no name, password"),
        ("http://127.0.0.1/?token=s3cret-token", "--url takes no name, password"),
    ],
)
def test_an_address_that_is_none_is_told(url: str, said: str) -> None:
    """Without repeating it, as it may hold a password."""
    with pytest.raises(StartError, match=said) as failed:
        ask(url)
    assert TOKEN not in str(failed.value)


def test_a_token_that_no_header_can_carry_is_not_repeated(quiet: Host) -> None:
    """The line says that it is the token, or the address; nothing that shows the server's description shows it."""
    with pytest.raises(StartError, match="no request can be made of this address and token") as failed:
        ask(quiet.url, token=f"{TOKEN}\r\nx: y")
    assert TOKEN not in str(failed.value)
    assert TOKEN not in repr(OpsServer(url="http://x", token=TOKEN))


def test_a_path_before_ours_is_kept(quiet: Host) -> None:
    """A proxy may have the server under one."""
    ask(f"{quiet.url}/chat/", "--json")
    assert quiet.asked[0].path == "/chat/ops/limiter"


def test_a_proxy_is_asked_for_other_machines_only(quiet: Host) -> None:
    """What the standard variables name holds, but for this machine."""
    named: list[str] = []

    def proxy_for(url: str) -> str:
        named.append(url)
        return quiet.url

    for url in (quiet.url, "http://limiter.test"):
        run(options("--json"), OpsServer(url=url, proxy_for=proxy_for), named.append)
    assert [asked.path for asked in quiet.asked] == ["/ops/limiter", "http://limiter.test/ops/limiter"]
    assert [each for each in named if "{" not in each] == ["http://limiter.test"]


@pytest.mark.parametrize("error", [OSError, KeyError, ImportError])
def test_who_has_no_name_may_ask_too(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """A container's user may have no login."""

    def nobody() -> str:
        raise error("none")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert login_name() == ""
    assert change_in(options("--total", "3"), login_name()) == {"total_tokens": 3, "mode": "fixed"}


def test_letters_that_the_terminal_lacks_are_question_marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """On a terminal that knows ASCII only, the bars are of ASCII, and nothing fails."""
    changes = [{**CHANGE, "who": "山田"}]
    with host(body=document(changes=changes)) as served, (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        ask(served.url)
    text = (tmp_path / "out").read_text("ascii")
    assert "#########....................." in text
    assert "manual  ??" in text
