"""What the doctor makes of what it saw: pure judgements, at their bounds."""

import resource
from pathlib import Path
from typing import Any, cast

import pytest

from app.clients.probing import HostAnswer, ModelList
from app.ops.doctor import clock, machine, model, own_files, pace, row_security
from app.ops.doctor.database import key_taken, reached
from app.ops.doctor.finding import Finding, as_document, as_text, exit_code, fail, ok, skip, warn
from app.ops.doctor.judged_settings import judge, role_of
from app.settings import Settings
from tests.receive.auth.signing import as_json, assembled

PROJECT = {"supabase_url": "https://project.test", "supabase_key": "sb_secret_x", "telemetry_hash_key": "key"}
OUTSIDE = {"bind": "0.0.0.0:8000", "supabase_url": "https://project.test", "supabase_key": "sb_secret_x"}


def legacy_key(role: str) -> str:
    return assembled(b"{}", as_json({"role": role}), b"signature")


def found_in(**settings: Any) -> list[Finding]:
    return judge(Settings(_env_file=None, **settings))


@pytest.mark.parametrize("given", [{}, PROJECT, {"llm_limiter_mode": "adaptive"}, {"openai_api_pool_size": 1}])
def test_usual_settings_are_fine(given: dict[str, Any]) -> None:
    """The defaults, and what a deployment sets beside them, fit together."""
    assert [(finding.check, finding.status) for finding in found_in(**given)] == [("settings", "ok")]


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"graceful_timeout": 30}, "warn", "GRACEFUL_TIMEOUT to 55"),
        ({"drain_grace": 10}, "warn", "GRACEFUL_TIMEOUT to 65"),
        ({"llm_timeout": 55}, "warn", "LLM_TIMEOUT below TURN_TIMEOUT"),
        ({"db_fetch_timeout": 60}, "warn", "DB_FETCH_TIMEOUT below TURN_TIMEOUT"),
        ({"llm_first_token_timeout": 40, "turn_timeout": 60}, "warn", "LLM_FIRST_TOKEN_TIMEOUT below LLM_TIMEOUT"),
        ({"llm_idle_timeout": 41}, "warn", "LLM_IDLE_TIMEOUT below LLM_TIMEOUT"),
        ({"llm_queue_timeout": 30}, "warn", "no less than TURN_TIMEOUT"),
        ({"turn_timeout": 61, "graceful_timeout": 70}, "warn", "common proxies"),
        ({"openai_api_pool_size": 99, "llm_limiter_mode": "adaptive"}, "warn", "OPENAI_API_POOL_SIZE is 99"),
        ({"llm_per_user_max": 10}, "warn", "one user can have all"),
        ({"system_prompt_file": "/nowhere/prompt.txt"}, "fail", "SYSTEM_PROMPT_FILE"),
        (PROJECT | {"supabase_key": "sb_publishable_x"}, "fail", "role anon"),
        (PROJECT | {"supabase_key": legacy_key("anon")}, "fail", "role anon"),
        (PROJECT | {"supabase_key": "sb_secret_\u2022\u2022\u2022"}, "fail", "SUPABASE_KEY has a character"),
        (PROJECT | {"openai_api_key": "sk-\u2026x"}, "fail", "copy the whole key"),
        (PROJECT | {"telemetry_hash_key": None}, "warn", "TELEMETRY_HASH_KEY"),
        (PROJECT | {"auth_mode": "dev"}, "warn", "believes every user id"),
        (OUTSIDE | {"telemetry_hash_key": "k"}, "warn", "set OPS_TOKEN"),
        (OUTSIDE | {"telemetry_hash_key": "k", "ops_token": "short"}, "warn", "longer"),
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, Any], status: str, words: str) -> None:
    """Each contradiction is one line, with the variable to set."""
    (finding,) = found_in(**given)
    assert finding.status == status
    assert words in finding.line


@pytest.mark.parametrize(
    "key", ["", "a.b", "a.b.c", "a.b.c.d", legacy_key("service_role").replace(".", "", 1), "..", "\u00e9.\u00e9.\u00e9"]
)
def test_a_key_without_a_role_has_none(key: str) -> None:
    """Whatever stands in SUPABASE_KEY, reading its role is no trouble."""
    assert role_of(key) == ""
    assert role_of(legacy_key("service_role")) == "service_role"


@pytest.mark.parametrize(
    ("ahead_s", "within_s", "status"),
    [(2.4, 0.5, "ok"), (2.6, 0.5, "warn"), (-2.6, 0.5, "warn"), (30.4, 0.5, "warn"), (-31, 0.5, "fail"), (4, 3, "ok")],
)
def test_a_clock_is_judged_within_what_can_be_known(ahead_s: float, within_s: float, status: str) -> None:
    """A whole second of Date, and a slow answer, are no difference."""
    assert clock.judge({"host": (ahead_s, within_s)}).status == status


def test_the_worst_clock_decides() -> None:
    """One host that agrees does not excuse another; whose clock is to be set is told by who agrees."""
    finding = clock.judge({"a.test": (0.1, 0.5), "b.test": (-40.0, 0.5)})
    assert finding.status == "fail"
    assert "40 s ahead of that of b.test" in finding.said
    assert finding.todo.startswith("a.test agrees with this one")


def test_the_quickest_answer_of_a_host_tells_its_clock() -> None:
    """It is the most exact; what a store on the way kept, and what has no date, tells nothing."""
    clocks, date = clock.Clocks(), {"date": "Sun, 22 Nov 2026 12:00:00 GMT"}
    noon = 1795348800.0
    clocks.note("a.test", date, noon - 10, 5.0)
    assert "7 s behind that of a.test" not in clocks.finding().said
    clocks.note("a.test", date, noon - 10, 0.0)
    clocks.note("a.test", date, noon, 1.0)
    clocks.note("b.test", {**date, "age": "90"}, noon + 90, 0.0)
    clocks.note("c.test", {"date": "noon"}, noon + 90, 0.0)
    told = clocks.finding()
    assert (told.status, told.said) == ("warn", "this clock is 10 s behind that of a.test")


def answers(*seconds: float, **more: Any) -> list[HostAnswer]:
    return [HostAnswer(host="h", seconds=each, **({"status": 200} | more)) for each in seconds]


def test_reads_are_slow_by_their_median() -> None:
    """One slow read of ten is no slow database; half of them are."""
    assert pace.judge_latency(answers(*[0.01] * 9, 3.0)).status == "ok"
    assert "10 ms (median)" in pace.judge_latency(answers(*[0.01] * 9, 3.0)).said
    assert pace.judge_latency(answers(*[0.101] * 10)).status == "warn"
    assert pace.judge_latency(answers(0.01, status=500, code="http_500")).status == "warn"


def test_a_queue_is_seen_by_its_waits() -> None:
    """Reads at once that take as long as one alone are fine; five times as long, they wait for each other."""
    alone = answers(0.05)[0]
    assert pace.judge_pool(alone, answers(*[0.2] * 32)).status == "ok"
    assert "db-pool" in pace.judge_pool(alone, answers(*[0.3] * 32)).line
    assert pace.judge_pool(answers(0.001)[0], answers(*[0.02] * 32)).status == "ok"  # nobody minds 20 ms
    assert "429" in pace.judge_pool(alone, answers(0.1, status=429, code="http_429")).line


@pytest.mark.parametrize(
    ("tables", "filled", "status", "said"),
    [
        ("refused refused", "", "ok", "x reads no row of 2 tables"),
        ("refused rows", "memos", "fail", "x reads rows of memos, which are other people's"),
        ("refused unknown", "", "warn", "x: no clear answer for memos"),
        ("no_rows no_rows", "users memos", "ok", "x reads no row of 2 tables"),
        ("refused no_rows", "", "warn", "x reads no row of 1 tables; empty, so that nothing is proven: memos"),
        ("no_rows no_rows", "users", "warn", "x reads no row of 1 tables; empty, so that nothing is proven: memos"),
        ("no_rows no_rows", "", "skip", "x reads no row, where there is none to read: nothing is proven"),
        ("missing no_rows", "", "skip", "x reads no row, where there is none to read: nothing is proven"),
        ("refused missing", "", "ok", "x reads no row of 1 tables; not there: memos"),
        ("gate gate", "", "skip", "x is refused at the gate, before any table"),
        ("gate missing", "", "skip", "x is refused at the gate, before any table"),
    ],
)
def test_what_is_read_without_a_key(tables: str, filled: str, status: str, said: str) -> None:
    """Rows are a failure whatever else is refused; who is refused, or reads none of rows that are there, proves it."""
    words: dict[str, row_security.Seen] = {"no_rows": "no rows", "gate": "at the gate"}
    seen = [words.get(word, cast(row_security.Seen, word)) for word in tables.split()]
    found = row_security.judge("x", dict(zip(("users", "memos"), seen, strict=True)), filled.split())
    assert (found.status, found.said) == (status, said)


@pytest.mark.parametrize(
    ("status", "code", "seen"),
    [
        (401, "42501", "refused"), (401, "http_401", "at the gate"), (404, "PGRST205", "missing"),
        (400, "42703", "missing"), (500, "http_500", "unknown"), (None, "ReadTimeout", "unknown"),
    ],
)  # fmt: skip
def test_a_refusal_of_a_stranger(status: int | None, code: str, seen: str) -> None:
    """A table's proves something, the gate's does not; what is missing is left to the schema's check."""
    assert row_security.seen(HostAnswer(host="h", status=status, code=code)) == seen


@pytest.mark.parametrize(
    ("status", "code", "finding", "words"),
    [
        (504, "PGRST003", "warn", "db-pool"),
        (429, "http_429", "warn", "limits"),
        (503, "PGRST002", "fail", "status page"),
        (502, "http_502", "fail", "status page"),
        (404, "PGRST205", "ok", "answers in"),
    ],
)
def test_a_first_answer(status: int, code: str, finding: str, words: str) -> None:
    """A full pool and too many requests pass, a database that is away does not; none of them is about the key."""
    answer = HostAnswer(host="h", status=status, code=code)
    assert (reached(answer).status, words in reached(answer).line) == (finding, True)
    assert bool(key_taken(answer)) == (status == 404)


@pytest.mark.parametrize(
    ("error_type", "status", "words"),
    [
        ("invalid_api_key", "fail", "OPENAI_API_KEY"),
        ("http_401", "fail", "OPENAI_API_KEY"),
        ("http_403", "fail", "OPENAI_API_KEY"),
        ("model_not_found", "fail", "OPENAI_MODEL"),
        ("insufficient_quota", "fail", "no credit"),
        ("rate_limit_exceeded", "warn", "too busy"),
        ("http_500", "fail", "does not answer"),
        ("ConnectTimeout", "fail", "does not answer"),
    ],
)
def test_faults_of_a_model(error_type: str, status: str, words: str) -> None:
    """Each says what to do."""
    finding = model.judge_fault(error_type, "gpt")
    assert (finding.status, words in finding.line) == (status, True)


def test_answers_of_a_model() -> None:
    """A first word that comes late warns, and so does an answer without one."""
    assert model.judge_answer(0.5, 1.0, "gpt").status == "ok"
    assert model.judge_answer(3.5, 4.0, "gpt").status == "warn"
    assert model.judge_answer(3.5, 4.0, "tiny", embedded=True).status == "ok"
    assert "without a text" in model.judge_answer(None, 1.0, "gpt").line


@pytest.mark.parametrize(
    ("status", "finding", "words"),
    [
        (401, "fail", "OPENAI_API_KEY"),
        (403, "ok", "does not show its models to this key"),
        (404, "ok", "has no list of models"),
        (429, "warn", "for now (http_429)"),
        (500, "warn", "for now (http_500)"),
    ],
)
def test_a_list_that_is_refused(status: int, finding: str, words: str) -> None:
    """Only 401 is the key's fault for sure: a key that is for chats alone has no list, and a busy host none for now."""
    refused = ModelList(answer=HostAnswer(host="h", status=status, code=f"http_{status}"))
    (found,) = model.judge_list(refused, "gpt", None)
    assert (found.status, words in found.line) == (finding, True)


def test_a_fallback_that_is_not_listed() -> None:
    """The model that stands in is looked for too."""
    listed = ModelList(answer=HostAnswer(host="h", status=200, items=1), names=frozenset({"gpt"}))
    assert "OPENAI_FALLBACK_MODEL mini" in model.judge_list(listed, "gpt", "mini")[0].said
    assert model.judge_list(listed, "gpt", None)[0].status == "ok"


@pytest.mark.parametrize(
    ("hard", "status"), [(1128, "ok"), (1127, "warn"), (resource.RLIM_INFINITY, "ok"), (256, "warn")]
)
def test_open_files(hard: int, status: str) -> None:
    """What the process may open must hold all connections, and what the server needs beside them."""
    assert machine.judge_descriptors(hard, 1000).status == status


def test_a_disk() -> None:
    """Room is judged by what the outbox needs, fsync by what a save may wait for it."""
    assert [machine.judge_free(size << 20).status for size in (10, 100, 1000)] == ["fail", "warn", "ok"]
    assert [machine.judge_sync(seconds).status for seconds in (0.004, 0.2)] == ["ok", "warn"]


def test_outboxes() -> None:
    """Rows of the dead warn, refused ones are a failure, those of who lives are its own business."""
    path = Path("x.sqlite3")
    alive, dead = own_files.OutboxFile(path, True, waiting=3), own_files.OutboxFile(path, False, waiting=2)
    assert [finding.status for finding in own_files.judge_outboxes([alive], outbox=True)] == ["ok"]
    (left,) = own_files.judge_outboxes([alive, dead], outbox=True)
    assert (left.status, "2 rows wait in 1 files" in left.said) == ("warn", True)
    (aside,) = own_files.judge_outboxes([own_files.OutboxFile(path, True, set_aside=1)], outbox=True)
    assert aside.status == "fail"
    assert "OUTBOX=off" in own_files.judge_outboxes([], outbox=False)[0].said
    assert (
        own_files.judge_outboxes([own_files.OutboxFile(path, False, problem="SQLITE_NOTADB")], outbox=True)[0].status
        == "warn"
    )


FINDINGS = [ok("a.long.name", "fine"), warn("b", "odd", "look"), fail("c", "bad", "act"), skip("d", "not looked at")]


def test_a_report_is_aligned() -> None:
    """One line for each finding, in columns, without a colour; a last line counts them."""
    assert as_text(FINDINGS).splitlines() == [
        "ok    a.long.name  fine",
        "WARN  b            odd: look",
        "FAIL  c            bad: act",
        "skip  d            not looked at",
        "",
        "4 findings: 1 failed, 1 to look at, 1 left out",
    ]
    assert as_text(FINDINGS[:1]).endswith("1 findings: nothing is wrong")


def test_a_report_for_machines() -> None:
    """It has counts of every status and each finding whole; warnings alone are no failure."""
    document = as_document(FINDINGS, {"made_at": "now"})
    assert document["counts"] == {"ok": 1, "warn": 1, "fail": 1, "skip": 1}
    assert document["findings"][2] == {"check": "c", "status": "fail", "said": "bad", "todo": "act"}
    assert (exit_code(FINDINGS), exit_code(FINDINGS[:2])) == (1, 0)
