"""AUTH_MODE=supabase on a real server: tokens of a project whose keys are published on loopback, and counted."""

import base64
import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.receive.auth.signing import SECRET, Signer, as_json, assembled, hmac_token, published, signer
from tests.server.key_host import Auth, Project, project
from tests.server.process import AT_ONCE, ServerProcess, run_command, running, until
from tests.server.rows import stored
from tests.server.wire import problem

QUICK = "tests.server.quick_keys"
LEGACY = {"SUPABASE_JWT_SECRET": SECRET}
AGENT_STATUS = "/conversation-agent/status"
ROUTES = (
    ("GET", AGENT_STATUS), ("POST", "/conversation-agent/chat"), ("POST", "/chat"), ("POST", "/chat/stream"),
    ("GET", "/chat/history"), ("GET", "/chat/x/stream"), ("POST", "/chat/x/stop"),
)  # fmt: skip
TOLD = {"type", "title", "status", "detail", "code", "retryable", "trace_id"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Project]]:
    folder = tmp_path_factory.mktemp("place")
    with project(folder) as school, running(folder / "server", **school.settings) as server:
        yield server, school


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without a token of any kind."""
    with running(tmp_path_factory.mktemp("trusting"), AUTH_FAILURES_MAX="0") as server:
        yield server


@contextmanager
def rotating(folder: Path, auth: Auth, **settings: str) -> Iterator[tuple[ServerProcess, Project]]:
    """Serve a project, and a server that asks for its keys often."""
    with (
        project(folder, auth) as school,
        running(folder / "server", QUICK, **school.settings, **settings) as server,
    ):
        yield server, school


def bears(server: ServerProcess, token: str, path: str = AGENT_STATUS) -> httpx.Response:
    """Ask for something small with a token."""
    return server.http.get(path, headers={"authorization": f"Bearer {token}".rstrip()})


def test_a_signed_in_user_chats(place: tuple[ServerProcess, Project], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Under whatever name the server is reached; what is said is stored as the user's."""
    server, school = place
    headers = {"host": "chat.example.test"}
    body = server.answer(f"A question of mine {AT_ONCE}", user=school.token(), headers=headers)
    rows = httpx.get(f"{school.url}/rest/v1/chat_logs?turn_id=eq.{body['turn_id']}", trust_env=False).json()
    assert {row["user_id"] for row in rows} == {"demo"}
    history = bears(server, school.token(), f"/chat/history?conversation_id={body['conversation_id']}")
    assert [message["sender"] for message in history.json()] == ["user", "assistant"]
    assert school.fetches == 1


Forge = Callable[[Project], str]
STRANGER = Signer("ES256", "first", signer("ES256", "stranger").private)
FORGED: dict[str, Forge] = {
    "no token at all": lambda school: "",
    "the bare user id": lambda school: "demo",
    "a stranger's signature": lambda school: school.token(STRANGER),
    "another audience": lambda school: school.token(aud="anon"),
    "another project": lambda school: school.token(iss="https://other.supabase.co/auth/v1"),
    "expired": lambda school: school.token(exp=time.time() - 40),
    "not yet valid": lambda school: school.token(nbf=time.time() + 90),
    "nobody": lambda school: school.token(sub=None),
    "a user that does not exist": lambda school: school.token(sub="nobody"),
    "alg none": lambda school: assembled(as_json({"alg": "none"}), as_json(school.claims()), b""),
    "alg NoNe": lambda school: assembled(as_json({"alg": "NoNe", "kid": "first"}), as_json(school.claims()), b"x"),
    "the public key as a secret": lambda school: hmac_token(
        signer().public_texts()[0], {"alg": "HS256", "kid": "first"}, school.claims()
    ),
    "the server's key as a secret": lambda school: hmac_token(b"sb_secret_test", {"alg": "HS256"}, school.claims()),
    "a path for a kid": lambda school: school.token(header={"kid": "../../../../etc/passwd"}),
    "over 8 KB": lambda school: school.token(pad="x" * 8192),
    "not even ASCII": lambda school: "é" * 20,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_who_bears_no_right_token_is_401_and_told_nothing(place: tuple[ServerProcess, Project], forge: Forge) -> None:
    """The same answer for every reason, on every route; the log has the reason as a word."""
    server, school = place
    raw = [(b"authorization", f"Bearer {forge(school)}".rstrip().encode("latin-1"))]
    for method, path in ROUTES:
        before = len(server.lines("auth.refused"))
        response = server.http.request(method, path, headers=raw)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.headers["x-error-code"] == "unauthenticated"
        if response.headers["content-type"] == "application/problem+json":
            body = problem(response, 401, "unauthenticated")
            assert (body["detail"], set(body)) == ("Please sign in again.", TOLD)
        else:  # the AI SDK shows the body as it is
            assert response.text.splitlines()[0] == "Please sign in again."
        until(lambda: len(server.lines("auth.refused")) == before + 1, "the reason is logged")  # noqa: B023 - at once
    assert school.fetches == 1


def test_a_flood_of_unknown_keys_asks_for_nothing(place: tuple[ServerProcess, Project]) -> None:
    """Two hundred tokens, each with a `kid` of its own, within half a minute of the last fetch."""
    server, school = place
    tokens = [school.token(Signer("ES256", f"made-up-{number}", signer().private)) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        statuses = {response.status_code for response in pool.map(lambda token: bears(server, token), tokens)}
    assert statuses == {401}
    assert school.fetches <= 2  # one more if the machine took half a minute to come here
    assert bears(server, school.token()).status_code == 200


@pytest.mark.parametrize("name", ["jku", "x5u", "iss"])
def test_an_address_in_a_token_is_never_asked(place: tuple[ServerProcess, Project], name: str) -> None:
    """A host that the token names, with keys that would fit, hears nothing."""
    server, school = place
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/auth/v1"
        header = {"jwk": STRANGER.jwk(), **({name: f"{url}/.well-known/jwks.json"} if name != "iss" else {})}
        forged = school.token(STRANGER, header, **({"iss": url} if name == "iss" else {}))
        assert bears(server, forged).status_code == 401
        assert bears(server, school.token(header=header)).status_code == 200
        assert not select.select([listening], [], [], 0.2)[0]


def test_eight_kilobytes_of_token_pass_the_edge(place: tuple[ServerProcess, Project]) -> None:
    """Beside headers of two more kilobytes."""
    server, school = place
    token = school.token(pad="x" * 5750)
    assert 7900 < len(token) <= 8192
    response = server.http.get(AGENT_STATUS, headers={"authorization": f"Bearer {token}", "cookie": "c" * 2048})
    assert response.status_code == 200


def test_a_mapped_user_has_the_rows_of_its_old_id(place: tuple[ServerProcess, Project]) -> None:
    """Where `user_id_mapping` leads from the token's `sub` to another `users.id`."""
    server, school = place
    school.insert("users", id="17", username="Old")
    school.insert("user_id_mapping", auth_id="0b5c7a3e-aaaa-4000-8000-000000000017", user_id="17")
    body = server.answer(f"Mine {AT_ONCE}", user=school.token(sub="0b5c7a3e-aaaa-4000-8000-000000000017"))
    rows = httpx.get(f"{school.url}/rest/v1/chat_logs?turn_id=eq.{body['turn_id']}", trust_env=False).json()
    assert {row["user_id"] for row in rows} == {"17"}


def test_no_piece_of_a_token_is_in_the_log(place: tuple[ServerProcess, Project]) -> None:
    """Neither of a right one nor of a wrong one, on any level."""
    server, school = place
    right, wrong = school.token(), school.token(STRANGER)
    assert (bears(server, right).status_code, bears(server, wrong).status_code) == (200, 401)
    server.ask(f"Again {AT_ONCE}", user=right)
    assert not any(piece in server.log_text for token in (right, wrong) for piece in token.split(".")[1:])


def test_keys_are_rotated(tmp_path: Path) -> None:
    """The new key's first token passes; once the old key is gone, so are the tokens that it signed."""
    old, new = signer("ES256", "old"), signer("EdDSA", "new")
    with rotating(tmp_path, Auth(published(old.jwk()))) as (server, school):
        before, after = school.token(old), school.token(new)
        assert (bears(server, before).status_code, bears(server, after).status_code) == (200, 401)
        school.auth.body = published(old.jwk(), new.jwk())
        until(lambda: bears(server, after).status_code == 200, "the new key is known")
        assert bears(server, before).status_code == 200
        school.auth.body = published(new.jwk())
        until(lambda: bears(server, before).status_code == 401, "the old key is withdrawn")
        assert bears(server, after).status_code == 200


def test_keys_that_cannot_be_had_at_the_start_are_waited_for(tmp_path: Path) -> None:
    """The server starts and says so; a token is neither right nor wrong, and passes as soon as there are keys."""
    with rotating(tmp_path, Auth(status=503)) as (server, school):
        server.wait_for_log("auth.keys.failed", error="http_503", stale=False)
        ready = server.http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "loading", "degraded": ["identity"]})
        response = bears(server, school.token())
        body = problem(response, 503, "identity_unavailable")
        assert (body["retryable"], int(response.headers["retry-after"]) >= 1) == (True, True)
        problem(bears(server, ""), 401, "unauthenticated")
        japanese = {"authorization": f"Bearer {school.token()}", "accept-language": "ja"}
        assert "サインイン" in server.http.get(AGENT_STATUS, headers=japanese).json()["detail"]
        school.auth.status = 200
        until(lambda: bears(server, school.token()).status_code == 200, "the keys are there")
        assert server.http.get("/readyz").json() == {"status": "ready", "degraded": []}


def test_keys_outlive_whatever_becomes_of_their_host(tmp_path: Path) -> None:
    """An error page, a flood, silence: new tokens are verified with the keys that are held, and ops are told."""
    moods = {
        "http_502": Auth(b"<html>Bad gateway</html>", 502, "text/html"),
        "not_json": Auth(b"<html>Sign in to the hotel's network</html>", 200, "text/html"),
        "too_large": Auth(b" " * 3_000_000),
        "no_usable_keys": Auth(published()),
        "timeout": Auth(mood="silent"),
    }
    with rotating(tmp_path, Auth()) as (server, school):
        assert bears(server, school.token()).status_code == 200
        for error, mood in moods.items():
            vars(school.auth).update(vars(mood))
            server.wait_for_log("auth.keys.failed", error=error, stale=True)
            assert bears(server, school.token()).status_code == 200
            assert server.http.get("/readyz").json() == {"status": "ready", "degraded": ["identity"]}
        vars(school.auth).update(vars(Auth()))
        until(lambda: server.http.get("/readyz").json()["degraded"] == [], "the keys are fetched again")


def test_a_project_with_a_legacy_secret(tmp_path: Path) -> None:
    """It publishes an empty list: the secret verifies, until the first key is published."""
    with rotating(tmp_path, Auth(published()), **LEGACY) as (server, school):
        token = hmac_token(SECRET.encode(), {"alg": "HS256", "typ": "JWT", "kid": "legacy"}, school.claims())
        minted = run_command(tmp_path, "token", "--user", "demo", **school.settings, **LEGACY).stdout.strip()
        assert [bears(server, each).status_code for each in (token, minted)] == [200, 200]
        school.auth.body = published(signer().jwk())
        until(lambda: bears(server, school.token()).status_code == 200, "the first key is known")
        assert [bears(server, each).status_code for each in (token, minted)] == [401, 401]
        school.auth.body = published()
        server.wait_for_log("auth.keys.failed", error="no_usable_keys", stale=True)
        assert [bears(server, each).status_code for each in (token, minted, school.token())] == [503, 401, 200]


@pytest.mark.soak  # proven without sockets in tests/receive/auth and tests/test_settings.py, too
def test_keys_that_rotate_while_their_host_is_down(tmp_path: Path) -> None:
    """A token of the new key is neither right nor wrong until the host is back, and no failure of its address."""
    old, new = signer("ES256", "old"), signer("ES256", "new")
    with rotating(tmp_path, Auth(published(old.jwk())), AUTH_FAILURES_MAX="1") as (server, school):
        assert bears(server, school.token(old)).status_code == 200
        school.auth.status = 500
        server.wait_for_log("auth.keys.failed", error="http_500", stale=True)
        for _ in range(3):
            problem(bears(server, school.token(new)), 503, "identity_unavailable")
        assert bears(server, school.token(old)).status_code == 200
        vars(school.auth).update(vars(Auth(published(new.jwk()))))
        until(lambda: bears(server, school.token(new)).status_code == 200, "the new key is known")


@pytest.mark.soak  # proven without sockets in tests/receive/auth and tests/test_settings.py, too
def test_a_project_without_keys_and_secret_is_not_its_users_fault(tmp_path: Path) -> None:
    """A legacy project whose secret we lack: 503 for every token, which spends nothing, and `degraded` for ops."""
    with rotating(tmp_path, Auth(published()), AUTH_FAILURES_MAX="1") as (server, school):
        token = hmac_token(SECRET.encode(), {"alg": "HS256", "typ": "JWT"}, school.claims())
        server.wait_for_log("auth.keys.new", keys=0)
        for _ in range(3):
            problem(bears(server, token), 503, "identity_unavailable")
        assert server.http.get("/readyz").json() == {"status": "ready", "degraded": ["identity"]}


def test_an_expiry_beyond_all_numbers_is_an_expiry(place: tuple[ServerProcess, Project]) -> None:
    """A token whose times have 400 digits is judged like any other, not a failure of ours."""
    server, school = place
    assert bears(server, school.token(exp=10**400)).status_code == 200
    assert bears(server, school.token(nbf=10**400)).status_code == 401


@pytest.mark.soak  # proven without sockets in tests/receive/auth and tests/test_settings.py, too
def test_a_project_is_known_by_its_name_in_capitals(tmp_path: Path) -> None:
    """The issuer that Auth writes has none."""
    with project(tmp_path) as school:
        url = school.url.replace("127.0.0.1", "LOCALHOST")
        with running(tmp_path / "server", **{**school.settings, "SUPABASE_URL": url}) as server:
            token = school.token(iss=f"{url.lower()}/auth/v1")
            assert bears(server, token).status_code == 200


@pytest.mark.soak  # proven without sockets in tests/receive/auth and tests/test_settings.py, too
def test_a_secret_is_not_ignored(tmp_path: Path) -> None:
    """Who sets one means tokens, without another word; who asks for `dev` beside it is told what that means."""
    with running(tmp_path / "a", **LEGACY) as server:
        problem(bears(server, "demo"), 401, "unauthenticated")
        assert server.lines("settings.doubtful") == []
    with running(tmp_path / "b", AUTH_MODE="dev", **LEGACY) as server:
        assert bears(server, "demo").status_code == 200
        assert "AUTH_MODE=dev" in server.wait_for_log("settings.doubtful")["hint"]


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({}, (200, 200, 200)),
        ({"x-forwarded-for": "::1", "x-forwarded-host": "localhost:3000"}, (200, 200, 200)),
        ({"x-forwarded-for": "::ffff:127.0.0.1, 127.0.0.1"}, (200, 200, 200)),
        ({"x-forwarded-for": "203.0.113.9"}, (401, 404, 404)),
        ({"x-forwarded-for": "127.0.0.1, 203.0.113.9"}, (401, 404, 404)),
        ({"forwarded": "for=127.0.0.1"}, (401, 404, 404)),
        ({"host": "evil.test"}, (401, 404, 404)),
    ],
    ids=["direct", "a dev server", "two of them", "nginx", "a liar behind nginx", "the standard's", "another name"],
)
def test_without_tokens_only_this_machine_is_answered(
    trusting: ServerProcess, headers: dict[str, str], statuses: tuple[int, ...]
) -> None:
    """By the dev identity, and by ops without a token: a stranger whom a proxy on this machine passes on is none."""
    paths = (AGENT_STATUS, "/ops/turns", "/metrics")
    given = {"authorization": "Bearer demo", **headers}
    assert tuple(trusting.http.get(path, headers=given).status_code for path in paths) == statuses


def test_a_minted_token_opens_a_server_without_a_project(tmp_path: Path) -> None:
    """With a secret alone: the command prints a token and nothing else, and the embedded database makes its user."""
    ended = run_command(tmp_path, "token", "--user", "new-user", "--minutes", "5", **LEGACY)
    assert (ended.returncode, ended.stderr) == (0, "")
    (token,) = ended.stdout.splitlines()
    with running(tmp_path / "data", AUTH_MODE="supabase", BIND="0.0.0.0:0", **LEGACY) as server:
        body = server.answer(f"Hello {AT_ONCE}", user=token, headers={"host": "chat.example.test"})
        problem(server.ask("Hello", user="demo"), 401, "unauthenticated")
        banner = server.wait_for_text("/ops/turns")
    assert '-H "Authorization: Bearer $TOKEN"' in banner
    assert {row["user_id"] for row in stored(tmp_path / "data", turn_id=body["turn_id"])} == {"new-user"}
    assert [row["id"] for row in stored(tmp_path / "data", "users")] == ["demo", "new-user"]


def test_a_token_says_what_supabase_would(tmp_path: Path) -> None:
    """The user, the time that was asked for, and the project's own issuer; whether that is enough is said beside it."""
    urls = {"SUPABASE_URL": "https://u:p@project.test/", "SUPABASE_KEY": "x"}
    ended = run_command(tmp_path, "token", "--user", "ann", "--minutes", "2", **urls, **LEGACY)
    assert ended.stderr.startswith("a project that publishes keys refuses this token")
    (minted,) = ended.stdout.splitlines()
    head, payload, _ = minted.split(".")
    said = [json.loads(decoded(part)) for part in (head, payload)]
    assert said[0] == {"alg": "HS256", "typ": "JWT"}
    assert said[1]["exp"] - said[1]["iat"] in (120, 121)
    assert {name: said[1][name] for name in ("sub", "aud", "iss", "role")} == {
        "sub": "ann",
        "aud": "authenticated",
        "iss": "https://project.test/auth/v1",
        "role": "authenticated",
    }


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        (("--user", "demo"), {}, "SUPABASE_JWT_SECRET"),
        (("--user", "a b"), LEGACY, "--user"),
        ((), LEGACY, "--user"),
        (("--user", "demo", "--minutes", "0"), LEGACY, "--minutes"),
        (("--user", "demo", "--minutes", "nan"), LEGACY, "--minutes"),
    ],
)
def test_a_token_that_cannot_be_made_is_told(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], named: str
) -> None:
    """Exit code 2, nothing on stdout that a script could take for one, and no secret in what is said."""
    ended = run_command(tmp_path, "token", *arguments, **settings)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr
