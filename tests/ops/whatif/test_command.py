"""The command without a process: its options, what it cannot do, and its bar."""

import argparse
import io
import json
from pathlib import Path

import pytest

from app.errors import StartError
from app.ops.whatif.command import add_options, run
from app.ops.whatif.replay import GateRules
from tests.ops.whatif.test_turns import line

RULES = GateRules(queue_max=64, queue_timeout_s=10.0)
BREAKER = {"outcome": "shed", "reason": "breaker_open"}


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="whatif")
    add_options(parser)
    return parser.parse_args(given)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "good").write_text("".join(line(float(at)) for at in range(50)))
    (tmp_path / "empty").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--turns", "f", "--sizes", "4..1"], "must go upwards"),
        (["--turns", "f", "--slo", "p95>2s"], "is no target such as p95<2s"),
        (["--turns", "f", "--burst", "0"], "is no factor"),
        (["--turns", "f", "--queue-timeout", "nan"], "must be a number of seconds above 0"),
        (["--turns", "f", "--queue-max", "1.5"], "must be a whole number"),
        ([], "--turns"),
    ],
)
def test_a_wrong_option_is_told(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The parser names the option and what it wants, and ends with code 2."""
    with pytest.raises(SystemExit) as ended:
        options(*given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["missing"], "there is no .*missing; set TURN_LOG"),
        (["folder"], "cannot read .*: Is a directory"),
        (["empty"], "empty: no turn that held a slot and was answered is in there"),
        (["good", "--plot", "missing/out.svg"], "cannot write missing/out.svg: No such file"),
    ],
    ids=["missing", "folder", "empty", "plot"],
)
def test_what_cannot_be_done_is_one_clear_error(log: Path, given: list[str], said: str) -> None:
    """It names the file, and what is wrong with it."""
    (log / "folder").mkdir()
    (log / "folder" / "x").write_text("x")
    with pytest.raises(StartError, match=said):
        run(options("--turns", str(log / given[0]), *given[1:]), RULES, lambda text: None, None)


def test_an_option_goes_before_the_setting(log: Path) -> None:
    """The queue's bounds are the settings', unless the command is told others."""
    said: list[str] = []
    for more in ([], ["--queue-timeout", "4", "--queue-max", "0"]):
        run(options("--turns", str(log / "good"), "--sizes", "1", "--json", *more), RULES, said.append, None)
    assert [json.loads(answer)["rules"] for answer in said] == [
        {"queue_max": 64, "queue_timeout_s": 10.0},
        {"queue_max": 0, "queue_timeout_s": 4.0},
    ]


def test_what_failed_is_told(log: Path) -> None:
    """Turns that failed at once are counted and warned of, in text and in JSON, and change no recommendation."""
    served = [line(at / 4, 4.0) for at in range(400)]
    failed = [
        line(at / 4, 0.0002 if at % 2 else 4.0, **(BREAKER if at % 2 else {}))  # half of the turns
        for at in range(400)
    ]
    (log / "served").write_text("".join(served))
    (log / "failed").write_text("".join(failed))
    said: list[str] = []
    for name, *more in (["served", "--json"], ["failed", "--json"], ["failed"]):
        run(options("--turns", str(log / name), "--sizes", "1..30", *more), RULES, said.append, None)
    good, bad = json.loads(said[0]), json.loads(said[1])
    assert (good["recorded"]["failed"], bad["recorded"]["failed"]) == (0, 200)
    assert bad["smallest"] == good["smallest"]
    assert (
        "The log is censored: 0 turns were refused, 0 left before they were served, and 200 failed"
        in (bad["warnings"][0])
    )
    assert bad["warnings"][0] in said[2]
    assert "0 refused, 0 left, 200 failed." in said[2]
    assert not [told for told in good["warnings"] if "censored" in told]


def test_a_number_that_is_no_time_is_a_broken_line(log: Path) -> None:
    """However large the number, the line is skipped and counted, and the others are replayed."""
    lines = [line(1.0), line(2.0, 10**400), line(10**400), line(1e300), line(3.0, 1e300)]
    (log / "large").write_text("".join(lines))
    said: list[str] = []
    run(options("--turns", str(log / "large"), "--sizes", "1..2"), RULES, said.append, None)
    assert "4 lines could not be read, and were skipped." in said[0]


def test_a_bar_is_drawn_and_taken_away(log: Path) -> None:
    """On a terminal a bar shows how many sizes are done, and its line is empty at the end."""
    terminal, said = io.StringIO(), list[str]()
    run(options("--turns", str(log / "good"), "--sizes", "1..4"), RULES, said.append, terminal)
    drawn = terminal.getvalue().split("\r")
    assert [step.split()[-1] for step in drawn if "replaying" in step] == ["0/4", "1/4", "2/4", "3/4"]
    assert drawn[-1] == ""
    assert drawn[-2].isspace()
    assert len(said) == 1
