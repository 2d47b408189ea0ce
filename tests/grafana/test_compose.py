"""compose.yaml and the Containerfile, judged without starting anything; test_compose_running.py starts what it can."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from app.settings import Settings, otel_exports
from tests.grafana.composed import (
    COMPOSE_FILE,
    FOLDER,
    PROVISIONING,
    ROOT,
    SERVICES,
    VARIABLE,
    composed,
    copied_from_here,
    environment_of,
    instructions,
    last_stage,
    mounts,
    seconds,
)
from tests.grafana.documented_keys import GRAFANA_SETTINGS, POSTGREST
from tests.needs import lack, need_program

PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?[\w.-]*")
DCLINT = ROOT / "tests/grafana/npm/node_modules/dclint/bin/dclint.cjs"
OF_STYLE = (  # and one that would have `token` and `server` built twice
    "services-alphabetical-order", "service-keys-order", "top-level-properties-order", "no-build-and-image",
)  # fmt: skip


def test_the_file_is_a_compose_file() -> None:
    """The Compose Specification's schema and a linter find nothing but matters of taste.

    Nor does Docker Compose itself, where there is one: no package registry has it.
    """
    node = need_program("node", "apt-get install nodejs")
    if not DCLINT.exists():
        lack("dclint is not installed; to run this test: make traceql")
    command = [node, str(DCLINT), "--max-warnings", "0", "--formatter", "json", str(COMPOSE_FILE)]
    command += [part for rule in OF_STYLE for part in ("--disable-rule", rule)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [(said["line"], said["message"]) for file in json.loads(done.stdout) for said in file["messages"]]
    assert (found, done.returncode) == ([], 0)
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        command = [docker, "compose", "--file", str(COMPOSE_FILE), "--profile", "tools", "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_every_port_is_on_loopback() -> None:
    """Nothing is published but on 127.0.0.1, no container has the machine's network, and no port is taken twice."""
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert [port for port in published if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert len({port.split(":")[1] for port in published}) == len(published)
    assert [name for name, service in SERVICES.items() if "network_mode" in service] == []


def test_every_image_is_pinned() -> None:
    """Each image has a tag with a version; the one that is built here has none to have."""
    images = {service["image"] for service in SERVICES.values()} - {"nursery-chat:demo"}
    images |= {argument.partition("=")[2] for verb, argument in instructions() if argument.startswith("PYTHON=")}
    assert [image for image in images if not PINNED.fullmatch(image)] == []
    assert {argument.split()[0] for verb, argument in instructions() if verb == "FROM"} == {"${PYTHON}", "scratch"}


def test_every_variable_has_a_default() -> None:
    """`docker compose up` wants nothing to be set, and a `$` is never anything but such a variable."""
    assert "$" not in VARIABLE.sub("", re.sub(r"(?m)^\s*#.*$", "", COMPOSE_FILE.read_text("utf-8")))


def test_every_secret_can_be_given() -> None:
    """Each demo value is the default of a variable with a name of its own, so that `.env` of the server gives none."""
    variables = {found["name"]: found["default"] for found in VARIABLE.finditer(COMPOSE_FILE.read_text("utf-8"))}
    demo = {name for name, default in variables.items() if default.startswith("demo-")}
    assert demo == {
        "DEMO_JWT_SECRET", "DEMO_OPS_TOKEN", "DEMO_TELEMETRY_HASH_KEY", "DEMO_POSTGRES_PASSWORD",
        "DEMO_AUTHENTICATOR_PASSWORD", "DEMO_GRAFANA_PASSWORD",
    }  # fmt: skip
    given = composed(**dict.fromkeys(demo, "given"))
    assert "demo-" not in json.dumps(given)
    assert {name for name in variables if not name.startswith("DEMO_")} == {
        "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL",
    }  # fmt: skip


def test_what_is_mounted_exists() -> None:
    """Each file that a container is given is there (Docker would make a folder in its place), and cannot be written."""
    found = list(mounts())
    assert len(found) > 5
    assert [mount for mount in found if not mount.source.exists() or not mount.read_only] == []


def test_volumes_are_the_named_ones() -> None:
    """Every named volume is used, and every used one is named; the server's data lies on one."""
    used = {text.split(":")[0] for service in SERVICES.values() for text in service.get("volumes", ())}
    assert {name for name in used if not name.startswith(".")} == set(composed()["volumes"])
    targets = [text.split(":")[1] for text in SERVICES["server"]["volumes"]]
    assert targets == [environment_of("server")["DATA_DIR"]]


def test_whoever_waits_waits_for_what_can_come() -> None:
    """A service is waited for to be healthy only where a health check says so, to be done only where it ends."""
    image_check = {"server"} if any(verb == "HEALTHCHECK" for verb, _ in last_stage()) else set()
    checked = {name for name, service in SERVICES.items() if "healthcheck" in service} | image_check
    ends = {name for name, service in SERVICES.items() if "restart" not in service}
    may = {"service_started": set(SERVICES), "service_healthy": checked, "service_completed_successfully": ends}
    waits = [
        (name, other, waited["condition"])
        for name, service in SERVICES.items()
        for other, waited in service.get("depends_on", {}).items()
    ]
    assert len(waits) > 5
    assert [wait for wait in waits if wait[1] not in may[wait[2]]] == []


def test_every_address_is_a_service_of_this_file() -> None:
    """Each host that a service or a file of its names is a service here."""
    texts = [COMPOSE_FILE, *FOLDER.iterdir(), *PROVISIONING.rglob("*.yaml")]
    told = "\n".join(re.sub(r"(?m)#.*$", "", path.read_text("utf-8")) for path in texts if path.is_file())
    hosts = set(re.findall(r"(?:https?://|[\s\[\"])([a-z][a-z-]*):\d{4,5}\b", told)) | {
        environment_of("migrate")["PGHOST"]
    }
    assert {"server", "gateway", "postgrest", "tempo", "jaeger", "db"} <= hosts
    assert hosts - set(SERVICES) == set()


@pytest.mark.parametrize("service", ["server", "token"])
def test_the_server_is_told_settings_only(service: str) -> None:
    """Each variable of the server is a setting, or one of OpenTelemetry's."""
    known = {name.upper() for name in Settings.model_fields}
    assert [name for name in environment_of(service) if name not in known and not name.startswith("OTEL_")] == []


def test_spans_are_sent_and_metrics_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends its spans to the collector, and no metrics, which would lose their exemplars there."""
    for name, value in environment_of("server").items():
        monkeypatch.setenv(name, value)
    assert (otel_exports("traces"), otel_exports("metrics")) == (True, False)


def test_the_image_is_told_settings_only() -> None:
    """So is what the Containerfile sets, but for where programs are."""
    told = [pair.split("=")[0] for verb, text in last_stage() if verb == "ENV" for pair in text.split()]
    assert set(told) - {"PATH", "LANG", "PYTHONDONTWRITEBYTECODE"} <= {name.upper() for name in Settings.model_fields}


def test_the_server_has_time_to_end() -> None:
    """Docker waits longer than the server's drain, and the drain is longer than a turn."""
    graceful = float(environment_of("server")["GRACEFUL_TIMEOUT"])
    assert seconds(SERVICES["server"]["stop_grace_period"]) >= graceful + 10
    assert graceful > Settings.model_fields["turn_timeout"].default


def test_no_pool_is_asked_for_more_than_it_has() -> None:
    """The server holds as many connections as PostgREST's pool has, which the database has room for."""
    pool = environment_of("postgrest")["PGRST_DB_POOL"]
    assert environment_of("server")["SUPABASE_MAX_CONNECTIONS"] == pool
    assert f"keepalive {pool};" in (FOLDER / "gateway.conf").read_text("utf-8")
    assert int(pool) < 97  # PostgreSQL's max_connections without those for superusers


@pytest.mark.parametrize(("service", "keys"), [("postgrest", POSTGREST), ("grafana", GRAFANA_SETTINGS)])
def test_other_services_are_told_what_they_document(service: str, keys: frozenset[str]) -> None:
    """Each variable of PostgREST and of Grafana is a documented one."""
    assert set(environment_of(service)) - keys == set()


def test_the_image_is_copied_together() -> None:
    """The last stage runs nothing, so it installs nothing, and what it copies from has been made before.

    What is in it, and whose it is, tests/deploy/test_image.py looks at.
    """
    stage = last_stage()
    assert [argument for verb, argument in stage if verb in ("RUN", "ADD")] == []
    stages = {argument.partition(" AS ")[2] for verb, argument in instructions() if verb == "FROM"}
    sources = [re.match(r"--from=(\w+) ", argument) for verb, argument in stage if verb == "COPY"]
    assert {source[1] for source in sources if source} == stages - {""} == {"base", "build"}
    assert all(sources)


def test_the_build_sees_only_what_it_copies() -> None:
    """Of this folder nothing but what is copied reaches a build: no `.env`, no data, no history."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {source for source, _ in copied_from_here()}


def test_compose_builds_the_containerfile() -> None:
    """The server's image is built from the Containerfile, and `token` runs the same one."""
    assert SERVICES["server"]["build"] == {"context": ".", "dockerfile": "Containerfile"}
    assert SERVICES["token"]["image"] == SERVICES["server"]["image"]
    assert SERVICES["token"]["environment"] == SERVICES["server"]["environment"]


def test_yaml_has_no_key_twice() -> None:
    """No file has a key twice, of which a YAML reader would silently take the last."""

    class Strict(yaml.SafeLoader):
        """Refuses what has a key twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            assert len(keys) == len(set(map(str, keys))), f"twice in {node.start_mark}"
            return super().construct_mapping(node, deep)

    for path in (COMPOSE_FILE, *FOLDER.glob("*.yaml"), *PROVISIONING.rglob("*.yaml")):
        yaml.load(path.read_text("utf-8"), Strict)
