"""`/console`, its files, and `/ops/console` on a real server: who gets what, how long it is kept, what it says."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from app.ops.console_files import read_console
from app.ops.console_routes import ASK_AGAIN, FOLDER, FOR_EVER, POLICY
from tests.server.process import AT_ONCE, ServerProcess, running
from tests.server.streaming import stream
from tests.server.wire import connected, problem

VIEWERS = {"JAEGER_URL": "http://127.0.0.1:16686/", "GRAFANA_URL": "https://school.example/grafana/"}
SECRET = "a-secret-of-32-bytes-or-more-for-tokens"
OPS = {"authorization": "Bearer the-ops-token"}
PAGE = read_console(FOLDER)
STATIC = f"/console/{PAGE.digest}"
NAME = next(name for name in sorted(PAGE.files) if PAGE.files[name].packed)
CODINGS = {"identity": f'"{PAGE.digest}"', "gzip": f'"{PAGE.digest}-gzip"'}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), **VIEWERS) as process:
        for number in range(14):
            process.answer(f"{number} {AT_ONCE}", user=f"user-{number}")
        stream(process, f"Streamed {AT_ONCE}")
        yield process


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Runs off loopback, without an OPS_TOKEN, for a front end's page at another origin."""
    settings = {"BIND": "0.0.0.0:0", "SUPABASE_JWT_SECRET": SECRET, "CORS_ALLOW_ORIGINS": "https://school.example"}
    with running(tmp_path_factory.mktemp("closed"), **settings) as process:
        process.http.base_url = f"http://127.0.0.1:{process.address[1]}"
        yield process


def got(server: ServerProcess, path: str, coding: str = "identity", **headers: str) -> httpx.Response:
    """Get an address, told which coding is taken."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.http.get(path, headers={"accept-encoding": coding, **given})


def console(server: ServerProcess, **headers: str) -> dict[str, Any]:
    """Return what the console shows."""
    response = server.http.get("/ops/console", headers=headers)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_the_page_is_asked_for_each_time_and_may_do_little(server: ServerProcess) -> None:
    """It is kept and checked; its policy lets it load and ask what this server has, and run no text as code."""
    response = got(server, "/console")
    assert (response.status_code, response.text) == (200, PAGE.index.body.decode())
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == ASK_AGAIN
    assert response.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "*" not in POLICY


@pytest.mark.parametrize("prefix", ["", "/school/chat"])
def test_all_that_the_page_names_is_there(server: ServerProcess, prefix: str) -> None:
    """What it loads is found relative to it, also where a proxy has put a prefix before both."""
    html = got(server, "/console").text
    loaded = re.findall(r'(?:src|href)="([^"#:]+)"', html)
    assert loaded
    for reference in loaded:
        path = urljoin(f"https://school.example{prefix}/console", reference)
        assert path.startswith(f"https://school.example{prefix}{STATIC}/")
        assert got(server, path.removeprefix(f"https://school.example{prefix}")).status_code == 200


@pytest.mark.parametrize("name", sorted(PAGE.files))
def test_a_file_is_kept_for_ever(server: ServerProcess, name: str) -> None:
    """Each is sent as it is and packed, as what it is, for a year and to be shared."""
    plain, packed = (got(server, f"{STATIC}/{name}", coding) for coding in CODINGS)
    assert plain.content == packed.content == PAGE.files[name].body
    assert (packed.headers.get("content-encoding") == "gzip") == (PAGE.files[name].packed is not None)
    for response in (plain, packed):
        assert response.headers["cache-control"] == FOR_EVER
        assert response.headers["content-type"] == PAGE.files[name].content_type
        assert response.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize("path", ["/console", f"{STATIC}/{NAME}"])
@pytest.mark.parametrize("coding", CODINGS)
def test_what_a_browser_has_is_not_sent_again(server: ServerProcess, path: str, coding: str) -> None:
    """304 has the headers that the browser is to keep, the policy among them, and no body; the connection goes on."""
    whole = got(server, path, coding)
    assert whole.headers["etag"] == CODINGS[coding]
    for named in (whole.headers["etag"], f'"other", W/{whole.headers["etag"]}', "*"):
        again = got(server, path, coding, if_none_match=named)
        assert (again.status_code, again.content) == (304, b"")
        assert not {"content-length", "content-type", "content-encoding"} & again.headers.keys()
        for name in ("etag", "cache-control", "vary", "content-security-policy"):
            assert again.headers[name] == whole.headers[name]
    request = f"GET {path} HTTP/1.1\r\nhost: a\r\nif-none-match: *\r\n\r\n".encode()
    with connected(server) as wire:
        for _ in range(2):
            wire.send(request)
            assert wire.response().status_code == 304


def test_one_coding_is_not_the_other(server: ServerProcess) -> None:
    """Who holds it packed and takes it so no more is sent it: tags are of the bytes. Two header lines are one list."""
    for mine, other in (("identity", "gzip"), ("gzip", "identity")):
        assert got(server, f"{STATIC}/{NAME}", mine, if_none_match=CODINGS[other]).status_code == 200
    lines = [("if-none-match", '"other"'), ("if-none-match", CODINGS["gzip"]), ("accept-encoding", "gzip")]
    assert server.http.get(f"{STATIC}/{NAME}", headers=lines).status_code == 304


@pytest.mark.parametrize("path", ["/console", f"{STATIC}/{NAME}"])
@pytest.mark.parametrize("if_none_match", ['"other"', "*"])
def test_head_is_get_without_the_body(server: ServerProcess, path: str, if_none_match: str) -> None:
    """The same status and headers, whether or not it is there already."""
    given = {"accept-encoding": "gzip", "if-none-match": if_none_match}
    get, head = (server.http.request(method, path, headers=given) for method in ("GET", "HEAD"))
    own = ("x-request-id", "x-trace-id", "date")
    assert head.content == b""
    assert head.status_code == get.status_code
    assert [pair for pair in head.headers.items() if pair[0] not in own] == [
        pair for pair in get.headers.items() if pair[0] not in own
    ]


ELSEWHERE = [
    f"/console/0123456789abcdef/{NAME}",
    f"/console/{PAGE.digest.upper()}x/{NAME}",
    f"/console/{NAME}",
    "/console/",
    f"{STATIC}",
    f"{STATIC}/",
    f"{STATIC}/index.html",
    f"{STATIC}/nothing.js",
    f"{STATIC}//{NAME}",
    f"{STATIC}/./{NAME}",
    f"{STATIC}/../console_routes.py",
    f"{STATIC}/../console/{NAME}",
    f"{STATIC}/%2e%2e/console/{NAME}",
    f"{STATIC}/..%2fconsole_routes.py",
    f"{STATIC}/vendor/../{NAME}",
    f"{STATIC}/%2fetc/passwd",
    f"{STATIC}//etc/passwd",
    f"{STATIC}/..%5c{NAME}",
    f"{STATIC}/{NAME}%00",
    f"{STATIC}/{NAME}%00.js",
    f"{STATIC}/{NAME}/",
    "/Console",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_there_is_nothing_else(server: ServerProcess, path: str) -> None:
    """Whatever else an address says, sent as it is written here, is 404, and nobody keeps that."""
    with connected(server) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nif-none-match: *\r\n\r\n".encode())
        response = wire.response()
    problem(response, 404, "not_found")
    assert response.headers["cache-control"] == "no-store"


def test_the_page_is_the_same_whoever_the_server_is_called(server: ServerProcess) -> None:
    """Nothing of it is made of `Host` or of what a proxy says: a cache that keeps it keeps nobody's name."""
    for headers in ({"host": "evil.example"}, {"x_forwarded_host": "evil.example", "x_forwarded_prefix": "/evil"}):
        response = got(server, "/console", **headers)
        assert (response.status_code, response.content) == (200, PAGE.index.body)
        assert "evil" not in str(response.headers)


def test_data_are_what_the_other_addresses_say(server: ServerProcess) -> None:
    """The limiter, the outbox and the instance are those of `/ops/limiter` and `/ops/outbox`, field by field."""
    shown = console(server)
    limiter, outbox = (server.http.get(f"/ops/{name}").json() for name in ("limiter", "outbox"))
    changing = dict.fromkeys(("last_minute", "oldest_wait_seconds", "mean_service_seconds"))
    told = {name: value for name, value in limiter.items() if name not in ("instance", "scope")}
    assert shown["limiter"] | changing == told | changing
    whole = shown["outbox"] | {name: outbox[name] for name in ("instance", "scope", "entries")}
    assert (whole, outbox["waiting"]) == (outbox, 0)
    assert (shown["instance"], shown["scope"]) == (limiter["instance"], "process")
    assert shown["status"] == server.http.get("/readyz").json()["status"] == "ready"
    assert (shown["auth"], shown["model"]) == ("dev", "scripted-tutor")


def test_the_slowest_of_the_last_turns_come_first(server: ServerProcess) -> None:
    """A dozen of those that `/ops/turns` has, as it has them."""
    turns = server.http.get("/ops/turns").json()["turns"]
    shown = console(server)["turns"]
    expected = sorted(turns, key=lambda turn: -turn["performance_metrics"]["total_time"])[:12]
    assert (shown["considered"], shown["slowest"]) == (len(turns), expected)
    assert {"db_fetch", "llm", "db_save"} <= {each["stage"] for each in shown["slowest"][0]["stages"]}


def test_links_lead_below_what_is_set(server: ServerProcess) -> None:
    """Each is a whole address in which the trace is to be put."""
    links = console(server)["links"]
    assert links["jaeger"] == "http://127.0.0.1:16686/trace/{trace_id}"
    assert links["grafana"].startswith("https://school.example/grafana/explore?schemaVersion=1&panes=%7B")
    assert links["grafana"].count("{trace_id}") == 1


def test_what_is_embedded_is_well(server: ServerProcess) -> None:
    """The four are always there, in one order; without tokens nobody needs to be asked for keys."""
    assert console(server)["dependencies"] == [
        {"name": "model", "state": "ok", "note": "embedded"},
        {"name": "database", "state": "ok", "note": "embedded"},
        {"name": "identity", "state": "off", "note": "dev"},
        {"name": "outbox", "state": "ok", "note": None},
    ]


def test_addresses_are_counted_by_their_form(server: ServerProcess) -> None:
    """However many digests and names are asked for, metrics have one label for all of them."""
    for number in range(20):
        got(server, f"/console/{number:016x}/{number}.js")
        got(server, f"{STATIC}/{number}/x.js")
    routes = set(re.findall(r'http_route="([^"]*console[^"]*)"', server.http.get("/metrics").text))
    assert routes == {"/console", "/console/<digest>/<path:name>", "/ops/console"}
    assert not [line for line in server.log if "console" in str(line)]


def test_a_page_may_be_open_whose_data_are_closed(closed: ServerProcess) -> None:
    """Off loopback and without an OPS_TOKEN everybody gets the page, and nobody what it shows."""
    assert got(closed, "/console").status_code == 200
    assert got(closed, f"{STATIC}/{NAME}").status_code == 200
    problem(got(closed, "/ops/console"), 404, "not_found")
    problem(got(closed, "/ops/console", authorization="Bearer any"), 404, "not_found")


def test_no_other_page_may_ask(closed: ServerProcess) -> None:
    """Neither the page nor its data is for scripts of other origins, not even of those that may call the chat."""
    for path in ("/healthz", "/console", f"{STATIC}/{NAME}", "/ops/console"):
        response = got(closed, path, origin="https://school.example")
        allowed = [name for name in response.headers if name.startswith("access-control-")]
        assert bool(allowed) == (path == "/healthz")


def test_switched_off_there_is_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """CONSOLE=false: neither page nor files nor data, for whoever asks; other data stay. The banner names none."""
    settings = {"CONSOLE": "false", "OPS_TOKEN": "the-ops-token"}
    with running(tmp_path_factory.mktemp("off"), **settings) as server:
        for path in ("/console", f"{STATIC}/{NAME}", "/ops/console"):
            for method in ("GET", "HEAD", "OPTIONS"):
                assert server.http.request(method, path, headers=OPS).status_code == 404
        assert server.http.get("/ops/limiter", headers=OPS).status_code == 200
        assert "/console" not in server.wait_for_text("/readyz")


def test_what_is_down_is_said(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model's host that refuses for good is left alone; an outbox that is off is none, and its data are null."""
    settings = {"OUTBOX": "off", "OPS_TOKEN": "the-ops-token", "SUPABASE_JWT_SECRET": SECRET, "AUTH_MODE": "dev"}
    with running(tmp_path_factory.mktemp("down"), **settings) as server:
        assert "/console" in server.wait_for_text("/readyz")
        server.ask("Fail [[fault: http 429 insufficient_quota]]")
        shown = console(server, **OPS)
        problem(server.http.get("/ops/console"), 401, "unauthenticated")
    states = {each["name"]: (each["state"], each["note"]) for each in shown["dependencies"]}
    assert states["model"] == ("down", "embedded")
    assert states["outbox"] == ("off", None)
    assert (shown["outbox"], shown["links"]) == (None, {"jaeger": None, "grafana": None})
