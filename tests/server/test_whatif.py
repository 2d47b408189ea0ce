"""From recorded turns to a recommendation: the server writes its log, and the command reads it."""

import json
import random
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import AT_ONCE, run_command, running
from tests.server.wire import problem


def recorded(path: Path, turns: int = 3000) -> Path:
    """Write a log of bursts, one minute in four, as the server would have."""
    draw, at, lines = random.Random(5), 1_800_000_000.0, []
    for number in range(turns):
        at += draw.expovariate(11 if int(at // 60) % 4 == 0 else 3)
        served = {"turn": f"turn-{number}", "arrived": round(at, 6), "wait_s": 0.0, "service_s": draw.expovariate(0.25)}
        lines.append(json.dumps({**served, "outcome": "ok", "reason": None, "plan": "concurrent"}))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("log") / "turns.jsonl")


def asked(log: Path, *options: str, **settings: str) -> dict[str, Any]:
    """Return the command's JSON."""
    ran = run_command(log.parent, "whatif", "--turns", str(log), "--json", *options, **settings)
    assert (ran.returncode, ran.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_turns_are_recorded_and_told_apart(tmp_path: Path) -> None:
    """Served, refused, and answered by rules: each has its line, nobody's words or ids, and the command reads them."""
    path = tmp_path / "turns.jsonl"
    settings = {"TURN_LOG": str(path), "OPENAI_API_POOL_SIZE": "1", "LLM_QUEUE_TIMEOUT": "0.3"}
    with running(tmp_path / "data", **settings) as server:
        served = server.answer(f"canary-text {AT_ONCE}", user="canary-user", page_id="canary-page")
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(server.answer, "Slowly [[fault: slow first=1.0 each=0]]", user="first")
            server.wait_for_gauge("llm_limiter_borrowed", 1)
            refused = problem(server.ask("Me too", user="second"), 503, "overloaded")
            slow = first.result()
    lines = {line["turn"]: line for line in map(json.loads, path.read_text().splitlines())}
    assert set(lines) == {served["turn_id"], refused["turn_id"], slow["turn_id"]}
    assert "canary" not in path.read_text()
    assert served["conversation_id"] not in path.read_text()
    good, bad, long = (lines[body["turn_id"]] for body in (served, refused, slow))
    assert (good["outcome"], good["tokens_in"], good["tokens_out"]) == (
        "ok",
        served["token_usage"]["prompt_tokens"],
        served["token_usage"]["completion_tokens"],
    )
    assert good["service_s"] >= served["performance_metrics"]["llm_response_time"]
    assert (bad["outcome"], bad["service_s"], bad["arrived"] > long["arrived"]) == ("shed", None, True)
    assert long["service_s"] >= 1.0
    answer = asked(path, "--sizes", "1..3", "--queue-timeout", "0.3")
    assert [answer["recorded"][name] for name in ("turns", "refused", "broken_lines")] == [3, 1, 0]
    assert "censored" in answer["warnings"][0]


def test_a_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """One line names the variable and the path, and no stack is shown."""
    (tmp_path / "file").write_text("")
    ran = run_command(tmp_path, "serve", TURN_LOG=str(tmp_path / "file" / "turns.jsonl"))
    assert ran.returncode == 2
    assert f"cannot start: TURN_LOG: cannot write {tmp_path}/file/turns.jsonl: File exists" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_answer_is_a_table_a_sentence_and_what_is_assumed(log: Path) -> None:
    """For a person: what was recorded, a row per size with the marks, the recommendation, the assumptions."""
    ran = run_command(log.parent, "whatif", "--turns", str(log), "--sizes", "20..60:2", "--slo", "p95<2s,shed<1%")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("3,000 turns in ")
    rows = [line.split() for line in ran.stdout.splitlines() if line.strip()[:2].isdecimal() and " s" in line]
    assert {"20", "60"} <= {row[0] for row in rows}
    assert "<- knee" in ran.stdout
    assert "Set OPENAI_API_POOL_SIZE to " in ran.stdout
    assert "LLM_PER_USER_MAX is left out" in ran.stdout


def test_the_answer_in_json_holds_every_size(log: Path) -> None:
    """For a program: every size, more slots never refusing more, and the smallest that meets the target."""
    answer = asked(log, "--sizes", "1..60")
    sizes = answer["sizes"]
    assert [each["size"] for each in sizes] == [*range(1, 61)]
    assert sizes[0]["refused_share"] > 0.5
    assert sizes[-1]["refused_share"] == 0
    smallest = next(each for each in sizes if each["size"] == answer["smallest"])
    assert smallest["p95_s"] <= 2
    before = sizes[answer["smallest"] - 2]
    assert not before["meets"]
    assert smallest["erlang_p95_s"] < smallest["p95_s"]
    assert f"to {answer['smallest']}" in answer["recommendation"]


def test_heavier_bursts_and_a_shorter_queue_are_answered(log: Path) -> None:
    """With the busy minutes half as busy again, the smallest size grows; LLM_QUEUE_TIMEOUT bounds the replayed wait."""
    heavy = asked(log, "--sizes", "10..80:2", "--burst", "1.5x", LLM_QUEUE_TIMEOUT="3")
    assert heavy["smallest"] > asked(log, "--sizes", "10..80:2")["smallest"]
    assert heavy["sizes"][0]["turns"] == pytest.approx(3000, rel=0.1)
    assert heavy["sizes"][0]["p99_s"] <= 3 == heavy["rules"]["queue_timeout_s"]


def test_the_plot_is_an_svg(log: Path, tmp_path: Path) -> None:
    """`--plot` writes a picture that an XML parser takes."""
    run_command(log.parent, "whatif", "--turns", str(log), "--sizes", "20..60:4", "--plot", str(tmp_path / "out.svg"))
    assert ET.parse(tmp_path / "out.svg").getroot().tag.endswith("svg")


def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path) -> None:
    """Exit code 2, why, and no stack."""
    ran = run_command(tmp_path, "whatif", "--turns", "missing.jsonl")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("nursery-chat cannot tell: there is no missing.jsonl")
    assert ran.stderr.count("\n") == 1
