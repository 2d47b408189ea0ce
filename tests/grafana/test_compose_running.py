"""What of compose.yaml can be run without its images: server, gateway, migrations, tokens, the scrape."""

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.grafana.composed import FOLDER, SERVICES, composed, environment_of, last_stage, outside
from tests.grafana.composed_running import Demo, demo
from tests.needs import need_program
from tests.server.process import WAIT_S, run_command
from tests.supabase.cluster import SUPERUSER, open_cluster
from tests.supabase.migrations import catalog

_, _, DEMO_USER, *_ = SERVICES["token"]["command"]
ODD_PASSWORD = "it's \"odd\" $HOME \\ :'x'"
# https://prometheus.io/docs/instrumenting/content_negotiation/
PROMETHEUS_3_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ROWS = "select (select count(*) from public.users), (select count(*) from public.projects)"


@pytest.fixture(scope="module")
def running_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("demo")) as started:
        rest = f"{started.postgrest_host.url}/users"
        httpx.post(rest, json=[{"id": DEMO_USER, "username": "demo"}], trust_env=False).raise_for_status()
        yield started


@pytest.fixture(scope="module")
def token(running_demo: Demo) -> str:
    """What `docker compose run --rm -T token` prints."""
    settings = dict(running_demo.environment)
    done = run_command(running_demo.folder, *SERVICES["token"]["command"], **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_turn_is_answered_over_the_gateway(running_demo: Demo, token: str) -> None:
    """With the demo token a question is answered and stored; PostgREST was asked at its root, with the service key."""
    response = running_demo.server.http.post(
        "/chat", json={"message": "What is a hypothesis?"}, headers={"authorization": f"Bearer {token}"}
    )
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["saved"], body["context_metadata"]["model"], body["warnings"]) == ("database", "scripted-tutor", [])
    assert {"/chat_conversations", "/chat_logs"} <= set(running_demo.postgrest.paths)
    key = running_demo.environment["SUPABASE_KEY"]
    (stored, *_) = [heard for heard in running_demo.postgrest_host.heard if heard.path == "/chat_logs"]
    assert (stored.headers["apikey"], stored.headers["authorization"]) == (key, f"Bearer {key}")


def test_its_trace_arrives_under_the_jobs_name(running_demo: Demo, token: str) -> None:
    """The turn's spans reach the collector's address, under the name by which a trace leads to metrics."""
    running_demo.server.http.post("/chat", json={"message": "And now?"}, headers={"authorization": f"Bearer {token}"})
    running_demo.receiver.wait_for(lambda: bool(running_demo.receiver.named("chat.turn")))
    resource = running_demo.receiver.named("chat.turn")[0].resource
    assert resource["service.name"] == environment_of("server")["OTEL_SERVICE_NAME"]
    assert resource["deployment.environment.name"] == "demo"


def test_a_stranger_is_not_let_in(running_demo: Demo) -> None:
    """Neither the bare id, nor PostgREST's service key, nor a token of another secret is taken for a pupil's token."""
    forged = jwt.encode({"sub": DEMO_USER, "aud": "authenticated", "exp": 2**32}, "another-secret-of-32-bytes-or-more!")
    for bearer in (DEMO_USER, running_demo.environment["SUPABASE_KEY"], forged):
        headers = {"authorization": f"Bearer {bearer}"}
        assert running_demo.server.http.post("/chat", json={"message": "Hi"}, headers=headers).status_code == 401


def test_the_gateway_tells_whether_postgrest_is_ready(running_demo: Demo) -> None:
    """The gateway's health check asks PostgREST, and the project publishes no keys."""
    (url,) = [part for part in SERVICES["gateway"]["healthcheck"]["test"] if part.startswith("http")]
    path = url.removeprefix("http://127.0.0.1:8000")
    assert httpx.get(running_demo.gateway_url + path, trust_env=False).status_code == 200
    assert running_demo.postgrest.paths[-1] == path
    keys = httpx.get(f"{running_demo.gateway_url}/auth/v1/.well-known/jwks.json", trust_env=False)
    assert (keys.json(), keys.headers["content-type"]) == ({"keys": []}, "application/json")
    assert httpx.get(f"{running_demo.gateway_url}/users", trust_env=False).status_code == 404


def test_the_images_health_check_tells_ready_from_gone(running_demo: Demo) -> None:
    """The Containerfile's check ends well while the server is ready, and badly where nobody listens."""
    (check,) = [argument for verb, argument in last_stage() if verb == "HEALTHCHECK"]
    program, *arguments = json.loads(check[check.index("[") :])
    assert program == "python"

    def at(port: int) -> int:
        command, told = [sys.executable, *arguments], {"BIND": f"0.0.0.0:{port}"}
        return subprocess.run(command, env=told, capture_output=True, check=False, timeout=WAIT_S).returncode

    assert at(running_demo.server.address[1]) == 0
    assert at(1) != 0


def test_the_pinned_prometheus_gets_exemplars(running_demo: Demo) -> None:
    """Asked as Prometheus 3 asks, which the image has and this machine has not, /metrics is OpenMetrics."""
    headers = {"accept": PROMETHEUS_3_ACCEPTS, "authorization": f"Bearer {running_demo.environment['OPS_TOKEN']}"}
    response = running_demo.server.http.get("/metrics", headers=headers)
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")


def test_the_service_key_is_of_the_secret() -> None:
    """The default key is what compose/service_key.py makes of the default secret, and names PostgREST's role."""
    told = environment_of("server")
    secret = told["SUPABASE_JWT_SECRET"]
    assert environment_of("postgrest")["PGRST_JWT_SECRET"] == secret
    command = [sys.executable, str(FOLDER / "service_key.py")]
    done = subprocess.run(command, input=f"{secret}\n", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told["SUPABASE_KEY"]
    assert jwt.decode(told["SUPABASE_KEY"], secret, algorithms=["HS256"]) == {"role": "service_role"}
    short = subprocess.run(command, input="short", capture_output=True, text=True, check=False)
    assert (short.returncode, short.stdout) == (1, "")


def test_a_secret_of_ones_own_reaches_both() -> None:
    """Given by its variable, the secret is both servers' to know, the ops token Prometheus's too."""
    given = composed(DEMO_JWT_SECRET="mine", DEMO_OPS_TOKEN="ours")
    services = given["services"]
    assert [services[name]["environment"]["SUPABASE_JWT_SECRET"] for name in ("server", "token")] == ["mine", "mine"]
    assert services["postgrest"]["environment"]["PGRST_JWT_SECRET"] == "mine"
    assert services["server"]["environment"]["OPS_TOKEN"] == given["configs"]["ops-token"]["content"] == "ours"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The conninfo of a database that the service `migrate` has filled, twice, in a cluster that had nothing."""
    need_program("psql", "apt-get install postgresql-client")
    with open_cluster() as folder:
        conninfo = f"host={folder} dbname=postgres"
        migrate(folder, **environment_of("migrate"))
        with psycopg.connect(conninfo, user=SUPERUSER) as connection:
            before = [*catalog(connection), connection.execute(ROWS).fetchall()]
        migrate(folder, **environment_of("migrate") | {"AUTHENTICATOR_PASSWORD": ODD_PASSWORD})
        with psycopg.connect(conninfo, user=SUPERUSER) as connection:
            assert [*catalog(connection), connection.execute(ROWS).fetchall()] == before
        yield conninfo


def migrate(socket_folder: Path, **told: str) -> None:
    """Run what the service `migrate` runs, with its variables but for where the database and the files are."""
    program, script = SERVICES["migrate"]["command"]
    migrations = outside("migrate", told["MIGRATIONS"])
    here = {"PATH": os.environ["PATH"], "PGHOST": str(socket_folder), "MIGRATIONS": str(migrations)}
    command = [program, str(outside("migrate", script))]
    done = subprocess.run(command, env=told | here, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(path.name for path in migrations.glob("*.sql"))
    assert done.stdout.splitlines() == [f"apply {name}" for name in ("supabase.sql", *files, "rows.sql")]


def as_role(conninfo: str, role: str, sub: str = "") -> psycopg.Connection[tuple[object, ...]]:
    """Come in as PostgREST does for a request: as authenticator, then with the token's role and claims."""
    connection = psycopg.connect(conninfo, user=environment_of("postgrest")["PGUSER"])
    claims = json.dumps({"role": role, "sub": sub} if sub else {"role": role})
    connection.execute(
        "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)", [role, claims]
    )
    return connection


def test_the_pupil_of_the_token_is_there(database: str) -> None:
    """Row-level security shows the token's user their project, and somebody else nothing."""
    with as_role(database, "authenticated", DEMO_USER) as connection:
        assert connection.execute("select theme from public.projects").fetchall() == [("Plants and light",)]
        assert connection.execute("select auth.uid()::text, auth.role()").fetchone() == (DEMO_USER, "authenticated")
    with as_role(database, "authenticated", "5eed0000-0000-4000-8000-000000000002") as connection:
        assert connection.execute("select theme from public.projects").fetchall() == []


def test_the_roles_may_what_supabases_may(database: str) -> None:
    """The service role writes past policies, anon reads nothing, and authenticator has no right but to become them."""
    with as_role(database, "service_role") as connection:
        connection.execute("insert into public.users (id) values ('somebody')")
        connection.rollback()
    nobody = as_role(database, environment_of("postgrest")["PGRST_DB_ANON_ROLE"])
    for connection in (nobody, psycopg.connect(database, user="authenticator")):
        with connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select from public.users")


def test_postgrest_comes_in_with_its_password(database: str) -> None:
    """Its password is the given one, whatever is in it, and the roles that it leads to cannot come in themselves."""
    with psycopg.connect(database, user=SUPERUSER) as connection:
        found = connection.execute("select rolname, rolcanlogin, rolpassword from pg_authid").fetchall()
    roles = {name: (can_login, password) for name, can_login, password in found}
    can_login, password = roles["authenticator"]
    assert can_login
    assert is_of(str(password), ODD_PASSWORD)
    assert [roles[name] for name in ("anon", "authenticated", "service_role")] == [(False, None)] * 3


def is_of(stored: str, password: str) -> bool:
    """Whether a password is what PostgreSQL has stored of one: RFC 5802, 3."""
    _, iterations, salt, stored_key, _ = re.split(r"[$:]", stored)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest() == base64.b64decode(stored_key)


def test_a_migration_that_fails_ends_it(database: str, tmp_path: Path) -> None:
    """Nothing is applied after a file that fails, and PostgREST, which waits for the end to be good, does not start."""
    (tmp_path / "1.sql").write_text("create table public.leftover (); select from nowhere;")
    (tmp_path / "2.sql").write_text("create table public.leftover ()")
    program, script = SERVICES["migrate"]["command"]
    here = {"PATH": os.environ["PATH"], "MIGRATIONS": str(tmp_path), "PGHOST": str(conninfo_to_dict(database)["host"])}
    told = environment_of("migrate") | here
    command = [program, str(outside("migrate", script))]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert done.stdout.splitlines() == ["apply supabase.sql", "apply 1.sql"]
    with psycopg.connect(database, user=SUPERUSER) as connection:
        assert connection.execute("select to_regclass('public.leftover')").fetchone() == (None,)


def test_prometheus_is_let_in(running_demo: Demo) -> None:
    """With its own file Prometheus has the rules and scrapes the server by the ops token; nobody else is let in."""
    asked, job = running_demo.prometheus, environment_of("server")["OTEL_SERVICE_NAME"]
    assert running_demo.server.http.get("/metrics").status_code == 401
    asked.wait_until(f'up{{job="{job}"}} == 1')
    assert asked.query(f'target_info{{job="{job}"}}')[0].labels["service_name"] == job
    assert len(asked.rules()) > 10
