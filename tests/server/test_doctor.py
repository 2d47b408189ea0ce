"""The doctor against real hosts with real faults: each is found under its name, with what to do."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.clients import export_probe
from app.ops.doctor import pace
from app.ops.doctor.finding import Finding, exit_code
from tests.receive.auth.signing import SECRET
from tests.receivers import otlp_receiver
from tests.server.clinic import ANON_KEY, Clinic, Gateway, clinic, keyed, schema_without
from tests.server.neighbours import model_host

HEALTHY = {
    "settings", "database.reach", "database.key", "database.schema", "database.keys", "database.latency",
    "database.pool", "identity.keys", "model.host", "model.answer", "clock", "disk.data_dir", "disk.free",
    "disk.sync", "outbox", "limits.files",
}  # fmt: skip


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with pytest.MonkeyPatch.context() as patch, clinic(tmp_path_factory.mktemp("clinic"), patch) as clinic_:
        yield clinic_


@pytest.fixture
def house(town: Clinic, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    monkeypatch.setattr(pace, "SLOW_S", 5.0)  # on a busy machine anything may be slow
    monkeypatch.setattr(pace, "READS", 2)
    town.gateway.heal()
    return town


def told(finding: Finding, status: str, *words: str) -> None:
    """Check that a finding has this status, and says these words on its one line."""
    assert finding.status == status, finding
    assert "\n" not in finding.line
    assert "canary" not in finding.line
    for word in words:
        assert word in finding.line, finding.line


def test_what_is_well_is_said_to_be(house: Clinic) -> None:
    """A whole deployment: every check is fine but those that need what is not there, and the exit code is 0."""
    found = house.found()
    assert {check for check, finding in found.items() if finding.status == "ok"} == HEALTHY
    assert {check for check, finding in found.items() if finding.status == "skip"} == {
        "otlp.traces", "otlp.metrics", "database.rls",
    }  # fmt: skip
    told(found["database.rls"], "skip", "at the gate", "--anon-key")
    assert exit_code(found.values()) == 0


def test_nothing_is_changed_by_looking(house: Clinic) -> None:
    """The database has the rows it had, and DATA_DIR is not even made."""
    file = house.folder / "project.sqlite3"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        before = list(database.iterdump())
        assert house.found()["database.keys"].status == "ok"
        assert list(database.iterdump()) == before
    assert not (house.folder / "data").exists()


def test_a_wrong_key(house: Clinic) -> None:
    """A key that the project does not know is named; what needs it is still said where it can be."""
    found = house.found(SUPABASE_KEY="sb_secret_canary-of-another-project")
    told(found["database.key"], "fail", "SUPABASE_KEY", "secret key")
    assert found["database.schema"].status == "skip"
    assert exit_code(found.values()) == 1


OLDER = (
    ("  turn_id uuid,\n  unique (turn_id, sender)\n", "  turn_id uuid\n"),
    ("  unique (user_id, page_id)\n", "  gone text\n"),
    ("  context_data jsonb,\n", ""),
    ("  hypothesis text,\n", ""),
    ("  conversation_id uuid references chat_conversations (id),\n", "  conversation_id uuid,\n"),
)


def test_a_schema_that_is_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing columns, keys and relations are named, each with the migration that gives it."""
    with clinic(tmp_path, monkeypatch, schema=schema_without(tmp_path, *OLDER)) as house:
        found = [each for each in house.found_all() if each.check in ("database.schema", "database.keys")]
    lines = "\n".join(finding.line for finding in found)
    for said, file in (
        ("projects lacks hypothesis", "20261122000002_missing_columns.sql"),
        ("chat_logs lacks context_data", "20261122000002_missing_columns.sql"),
        ("chat_logs has no foreign key to chat_conversations", "20261122000004_turn_keys.sql"),
        ("chat_logs (turn_id, sender) is not unique", "20261122000004_turn_keys.sql"),
        ("chat_conversations (user_id, page_id) is not unique", "20261122000003_one_conversation_per_page.sql"),
    ):
        assert any(said in line and f"supabase/migrations/{file}" in line for line in lines.splitlines()), (said, lines)
    assert {finding.status for finding in found} == {"fail"}


def test_a_table_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the migration that makes it."""
    pieces = [("create table user_id_mapping", "create table another")]
    with clinic(tmp_path, monkeypatch, schema=schema_without(tmp_path, *pieces)) as house:
        told(house.found()["database.schema"], "fail", "no table user_id_mapping", "20261122000001_tables.sql")


def test_rows_that_anybody_reads(house: Clinic) -> None:
    """A table without row-level security is found by who has no key, and told with its migration, not its rows."""
    house.gateway.open_to_all = True
    finding = house.found()["database.rls"]
    told(finding, "fail", "who has no key reads rows of users, projects, memos", "row_level_security.sql")
    assert "demo" not in finding.line


def test_what_the_front_ends_key_opens(house: Clinic) -> None:
    """With their key the tables themselves refuse, or do not; what was tried, and with which rows, is said."""
    said = [finding for finding in house.found_all(ANON_KEY) if finding.check == "database.rls"]
    told(said[1], "ok", "the front ends' key reads no row of 6 tables")
    house.gateway.open_to_all = True
    said = [finding for finding in house.found_all(ANON_KEY) if finding.check == "database.rls"]
    assert [finding.status for finding in said] == ["fail", "fail"]
    told(said[1], "fail", "the front ends' key reads rows of users")


def test_somebody_signed_in_without_rows(house: Clinic) -> None:
    """Where we can sign tokens, one of a user whom nobody knows is tried, and taken: it must read none of the rows."""

    def said(secret: str) -> Finding:
        found = house.found_all(SUPABASE_JWT_SECRET=secret)
        (finding,) = (each for each in found if each.said.startswith("a signed-in user without rows"))
        return finding

    told(said(SECRET), "fail", "reads rows of users, projects, memos")  # this project has no row-level security
    house.gateway.secret = SECRET
    told(said(SECRET), "warn", "reads no row of 3 tables", "empty", "user_id_mapping", "when they have rows")
    assert house.gateway.signed_in == {"authenticated"}
    told(said(SECRET[::-1]), "skip", "refused at the gate", "keys of its own")


def test_a_slow_host(house: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that take longer than they may warn, with their median and p95."""
    monkeypatch.setattr(pace, "SLOW_S", 0.02)
    house.gateway.slow_s = 0.025
    told(house.found(SUPABASE_MAX_CONNECTIONS="2")["database.latency"], "warn", "(median)", "(p95)", "region")


def test_a_pool_that_is_too_small(house: Clinic) -> None:
    """Reads that PostgREST refuses for want of a connection are counted, and its setting is named."""
    house.gateway.slow_s, house.gateway.pool = 0.02, 4
    found = house.found(SUPABASE_MAX_CONNECTIONS="12")
    told(found["database.pool"], "warn", "of 12 reads at once", "PGRST003", "db-pool", "SUPABASE_MAX_CONNECTIONS")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(504, "PGRST003", ("pool full", "db-pool")), (429, "", ("asked too often", "may not have looked at the key"))],
)
def test_a_host_that_is_busy(house: Clinic, status: int, code: str, words: tuple[str, ...]) -> None:
    """A full pool, or a gateway that is asked too often, is no database that is away; nobody says the key is taken."""
    house.gateway.status, house.gateway.code = status, code
    found = house.found()
    told(found["database.reach"], "warn", str(status), *words)
    assert "database.key" not in found


@pytest.mark.parametrize("status", [404, 503])
def test_a_host_that_is_something_else(house: Clinic, status: int) -> None:
    """A page in PostgREST's place is told from a database that is away."""
    house.gateway.status = status
    word = "SUPABASE_URL" if status == 404 else "status page"
    told(house.found()["database.reach"], "fail", f"http_{status}", word)


def test_silent_hosts(house: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that never answers costs its deadline once: what needs it is left out, and the others are looked at."""
    monkeypatch.setattr("app.ops.doctor.examination.REACH_S", 0.5)
    house.gateway.silent = True
    found = house.found()
    told(found["database.reach"], "fail", "no end within 0.5 s", "SUPABASE_URL")
    assert {found[f"database.{name}"].status for name in ("schema", "keys", "rls", "latency", "pool")} == {"skip"}
    assert found["model.answer"].status == "ok"


def test_nobody_there(house: Clinic) -> None:
    """Addresses where nobody listens: each is told as such, with its variable."""
    found = house.found(SUPABASE_URL="http://127.0.0.1:9", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    told(found["database.reach"], "fail", "127.0.0.1:9 does not answer (ConnectError)", "SUPABASE_URL")
    told(found["model.host"], "fail", "does not answer", "OPENAI_BASE_URL")
    told(found["identity.keys"], "fail", "cannot be fetched", "jwks.json")
    assert found["model.answer"].status == "skip"


@pytest.mark.parametrize(
    ("ahead_s", "status", "words"),
    [(5, "warn", "5 s behind"), (-6, "warn", "6 s ahead"), (90, "fail", "tokens allow 30 s"), (1, "ok", "agrees")],
)
def test_a_clock_that_is_wrong(house: Clinic, ahead_s: int, status: str, words: str) -> None:
    """A host's Date tells how far this clock is off; beyond what tokens allow it is a failure."""
    house.gateway.clock_s = ahead_s
    told(house.found()["clock"], status, words)


def test_keys_that_are_not_published(house: Clinic) -> None:
    """A project without keys needs the secret; without that nobody can sign in."""
    house.gateway.auth.body = b'{"keys": []}'
    told(house.found()["identity.keys"], "fail", "nobody can sign in", "SUPABASE_JWT_SECRET")
    told(house.found(SUPABASE_JWT_SECRET=SECRET)["identity.keys"], "ok", "verifies tokens")
    house.gateway.auth.body = b"<html>"
    told(house.found()["identity.keys"], "fail", "no key set")


def test_a_model_that_is_not_there(house: Clinic) -> None:
    """A wrong key, a model that the host does not list, one that it does not have, and no credit: told apart."""
    told(house.found(OPENAI_API_KEY="sk-canary-other")["model.host"], "fail", "refuses the key", "OPENAI_API_KEY")
    told(house.found(OPENAI_MODEL="gpt-9")["model.host"], "warn", "no OPENAI_MODEL gpt-9")
    with model_host(keyed(listing=403)) as model:  # a key that is restricted to chats
        found = house.found(OPENAI_BASE_URL=f"{model.url}/v1")
        told(found["model.host"], "ok", "does not show its models to this key (http_403)")
        told(found["model.answer"], "ok", "first word")
    for status, code, words in (
        (404, b"model_not_found", ("has no model", "OPENAI_MODEL")),
        (429, b"insufficient_quota", ("no credit",)),
    ):
        with model_host(keyed(status=status, body=b'{"error":{"code":"%s"}}' % code)) as model:
            told(house.found(OPENAI_BASE_URL=f"{model.url}/v1")["model.answer"], "fail", *words)


def test_collectors(house: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty export is taken, refused by a page, or heard by nobody; each signal by itself."""
    with otlp_receiver() as collector:
        found = house.found(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        assert {found[f"otlp.{signal}"].status for signal in ("traces", "metrics")} == {"ok"}
        told(found["clock"], "ok", collector.url.removeprefix("http://"))
        assert (collector.bodies, collector.spans, collector.metrics) == ([b"", b""], [], [])
        elsewhere = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": house.settings["SUPABASE_URL"] + "/v1/metrics"}
        found = house.found(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **elsewhere)
        assert found["otlp.traces"].status == "ok"
        told(found["otlp.metrics"], "warn", "401", "OTEL_EXPORTER_OTLP_HEADERS")
        house.gateway.open_to_all = True
        told(house.found(**elsewhere)["otlp.metrics"], "warn", "404", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
        off = house.found(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SDK_DISABLED="true")
        told(off["otlp.traces"], "skip", "OTEL_SDK_DISABLED is true")
        without = house.found(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_EXPORTER="none")
        told(without["otlp.traces"], "skip", "OTEL_TRACES_EXPORTER is none")
        assert without["otlp.metrics"].status == "ok"
    monkeypatch.setattr(export_probe, "LONGEST_S", 0.5)
    told(house.found(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")["otlp.traces"], "warn", "does not answer")


@pytest.mark.parametrize(
    ("name", "words"),
    [("file", "is no folder"), ("file/below", "is no folder"), ("n" * 300, "cannot be written (File name too long)")],
)
def test_a_data_dir_that_cannot_be_used(house: Clinic, tmp_path: Path, name: str, words: str) -> None:
    """What is no folder, and what the system does not even look at, is a failure that names the variable."""
    (tmp_path / "file").write_text("not a folder")
    told(house.found(DATA_DIR=str(tmp_path / name))["disk.data_dir"], "fail", "DATA_DIR", words)


def test_nothing_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is embedded is looked at as what it is: the file before and after the first start, and the model asked."""
    house = Clinic(tmp_path, Gateway(), {"EMBEDDED_LLM": "scripted", "DATA_DIR": str(tmp_path)}, monkeypatch)
    found = house.found()
    told(found["database.embedded"], "ok", "is made at the first start")
    told(found["model.answer"], "ok", "first word")
    assert found["clock"].status == "skip"
    told(house.found(DATA_DIR=str(tmp_path / ("n" * 300)))["database.embedded"], "fail", "File name too long")
    (tmp_path / "supabase.sqlite3").write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    told(house.found()["database.embedded"], "fail", "SQLITE_NOTADB")
    assert exit_code(found.values()) == 0
