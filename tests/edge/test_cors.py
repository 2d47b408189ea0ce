"""Pages of other origins: those that `CORS_ALLOW_ORIGINS` names may ask and read, others may not, ops is nobody's."""

from collections.abc import Iterator

import httpx
import pytest

from app.errors import StartError
from app.settings import load_settings
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.wire import problem

SCHOOL, HOME, STRANGER = "https://school.example", "http://localhost:3000", "https://evil.example"
SETTINGS = {"": (), SCHOOL: (SCHOOL,), f"{SCHOOL}, {HOME}": (SCHOOL, HOME), "*": (SCHOOL, HOME, STRANGER, "null")}
LOOK_ALIKES = ("null", "http://school.example", f"{SCHOOL}:8443", f"{SCHOOL}.evil.example", "https://a.school.example",
               "https://schoolXexample", f"{SCHOOL}/", f"{SCHOOL} {STRANGER}", STRANGER)  # fmt: skip
EXPOSED = {"x-request-id", "x-trace-id", "x-error-code", "server-timing", "retry-after",
           "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "x-next-before", "location"}  # fmt: skip
MESSAGE = f"What is a hypothesis? {AT_ONCE}"


@pytest.fixture(scope="module", params=SETTINGS, ids=["unset", "one", "two", "any"])
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(setting: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), "tests.edge.breaking", CORS_ALLOW_ORIGINS=setting) as process:
        yield process
        assert process.end() == 0
        process.log[:] = [line for line in process.log if "stack" not in line]  # some fail on purpose


def preflight(server: ServerProcess, origin: str, path: str = "/chat", method: str = "POST") -> httpx.Response:
    """Ask as a browser does before a request of a page: without token and body."""
    asked = {"access-control-request-method": method, "access-control-request-headers": "authorization,content-type"}
    return server.http.options(path, headers={"origin": origin, **asked})


def granted(response: httpx.Response) -> dict[str, str]:
    """Return what a response says to browsers about other origins."""
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def words(response: httpx.Response, name: str) -> set[str]:
    """Return a header's words, in lower case."""
    return {word.strip().lower() for word in response.headers.get(name, "").split(",") if word}


@pytest.mark.parametrize("origin", [SCHOOL, HOME, STRANGER, "null"])
def test_a_page_may_ask_if_its_origin_is_named(server: ServerProcess, setting: str, origin: str) -> None:
    """Preflight and answer name the origin (or all) for those that are allowed, and nothing for the others."""
    first, answer = preflight(server, origin), server.ask(MESSAGE, headers={"origin": origin})
    assert (first.status_code, answer.status_code) == (200, 200)
    if origin not in SETTINGS[setting]:
        assert (granted(first), granted(answer)) == ({}, {})
        return
    named = "*" if setting == "*" else origin
    assert first.headers["access-control-allow-origin"] == named
    assert words(first, "access-control-allow-headers") >= {"authorization", "content-type"}
    assert words(first, "access-control-allow-methods") >= {"get", "post", "put", "patch", "delete"}
    assert int(first.headers["access-control-max-age"]) > 0
    assert first.content == b""
    assert answer.headers["access-control-allow-origin"] == named
    assert words(answer, "access-control-expose-headers") == EXPOSED
    for response in (first, answer):
        assert "access-control-allow-credentials" not in response.headers
        assert setting == "*" or "origin" in words(response, "vary")


def test_a_cache_keeps_origins_apart(server: ServerProcess, setting: str) -> None:
    """Where the answer depends on the origin it says so, also to who named none or another; and only there."""
    for headers in ({}, {"origin": STRANGER}, {"origin": SCHOOL}):
        response = server.http.get("/healthz", headers=headers)
        assert setting == "*" or ("origin" in words(response, "vary")) == bool(setting)


@pytest.mark.parametrize("path", ["/metrics", "/ops/turns", "/ops/settings", "/ops/rollout", "/test/routes"])
def test_ops_is_for_no_page(server: ServerProcess, path: str) -> None:
    """Open on loopback as these are, a page must neither read them nor change anything, whatever is set."""
    for origin in (SCHOOL, STRANGER, "null"):
        asked = [preflight(server, origin, path, method) for method in ("GET", "PUT")]
        answers = [*asked, server.http.get(path, headers={"origin": origin})]
        assert [granted(response) for response in answers] == [{}, {}, {}]


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"CORS_ALLOW_ORIGINS": SCHOOL, "BODY_TIMEOUT": "0.5"}
    with running(tmp_path_factory.mktemp("data"), "tests.edge.breaking", **settings) as process:
        yield process
        assert process.end() == 0
        process.log[:] = [line for line in process.log if "stack" not in line]


ERRORS = {
    "no token": ({"authorization": ""}, 401, "unauthenticated"),
    "not a JSON body": ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
    "no JSON": ({"body": "{"}, 400, "bad_json"),
    "a wrong field": ({"body": "{}"}, 422, "invalid_request"),
    "someone else's project": ({"body": '{"message": "a", "project_id": 7}'}, 404, "not_found"),
    "a huge body": ({"body": " " * (1 << 21)}, 413, "body_too_large"),
    "a bug of a handler": ({"authorization": "Bearer handler-bug"}, 500, "internal_error"),
    "a bug of a turn": ({"authorization": "Bearer stage-bug"}, 500, "internal_error"),
    "no database": ({"authorization": "Bearer database-down"}, 503, "database_unavailable"),
    "a busy model": ({"body": '{"message": "[[fault: http 503 retry-after=30]]"}'}, 503, "model_busy"),
}


OF_CHAT_ALONE = {"someone else's project", "a busy model"}  # the agent's rules ask no model, and do without a project
ASKED = [("/chat", name) for name in ERRORS]
ASKED += [("/conversation-agent/chat", name) for name in ERRORS if name not in OF_CHAT_ALONE]


@pytest.mark.parametrize(("path", "name"), ASKED)
def test_a_page_can_read_what_went_wrong(school: ServerProcess, path: str, name: str) -> None:
    """Errors are as readable as answers are, with the ids, for who is allowed; and for nobody else."""
    changes, status, code = ERRORS[name]
    given = {"authorization": "Bearer demo", "content-type": "application/json", "body": '{"message": "a"}', **changes}
    body = given.pop("body").encode()
    ours, foreign = (
        school.http.post(path, content=body, headers={**given, "origin": origin}) for origin in (SCHOOL, STRANGER)
    )
    problem(ours, status, code)
    assert ours.headers["access-control-allow-origin"] == SCHOOL
    assert words(ours, "access-control-expose-headers") == EXPOSED
    assert "origin" in words(ours, "vary")
    assert (foreign.status_code, granted(foreign)) == (status, {})


@pytest.mark.parametrize("origin", LOOK_ALIKES)
def test_an_origin_is_named_in_full(school: ServerProcess, origin: str) -> None:
    """Another scheme, port, suffix or letter is another origin."""
    answers = [preflight(school, origin), school.http.get("/healthz", headers={"origin": origin})]
    assert [granted(response) for response in answers] == [{}, {}]


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        SCHOOL,
        f"{SCHOOL},{HOME}",
        f" {SCHOOL} , {HOME} ,",
        "http://127.0.0.1:5173",
        "http://[::1]:3000",
        "https://a-b.example",
    ],
)
def test_origins_that_are_taken(origins: str) -> None:
    """What browsers send in `Origin`, by comma, or all."""
    assert load_settings(cors_allow_origins=origins, _env_file=None).cors_origins


@pytest.mark.parametrize(
    "origin",
    [
        "school.example",
        f"{SCHOOL}/",
        f"{SCHOOL}/app",
        "https://*.school.example",
        "ftp://school.example",
        "null",
        "https://",
        "https://user@school.example",
        "https://school.example?x",
        f"{SCHOOL} {HOME}",
        "https://School.example",
        "https://school.example:443",
        "http://school.example:80",
        "https://school.example:port",
        "https://school.example:99999",
        "https://school.example:",
        "https://:8443",
        "https://[::1",
    ],
)
def test_origins_that_no_browser_sends(origin: str) -> None:
    """They could never match, so they are refused at the start, by name."""
    with pytest.raises(StartError, match="CORS_ALLOW_ORIGINS") as refused:
        load_settings(cors_allow_origins=f"{HOME},{origin}", _env_file=None)
    assert repr(origin) in str(refused.value)
