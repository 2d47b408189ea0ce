"""The Containerfile's image, built and run as far as that goes without a container engine: see engine.py."""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.deploy.engine import Container, Stage, build, running_image, sent
from tests.deploy.proxied import free_port
from tests.grafana.composed import ROOT, instructions, last_stage
from tests.server.process import AT_ONCE, WAIT_S, until

PACKAGE_TOOLS = re.compile(r"/(pip[0-9.]*|ensurepip|setuptools|wheel|_distutils_hack)(/|$|-)")
UNCHECKED_HASH = 1
"""The flags of bytecode that is believed without a look at its source: https://peps.python.org/pep-0552/."""
QUESTION = {"message": f"What is a hypothesis? {AT_ONCE}"}
DEMO = {"authorization": "Bearer demo"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("image"), with_pip=False)


@pytest.fixture
def volume(image: Stage, tmp_path: Path) -> Path:
    """A volume as Kubernetes mounts it: root's, writable by the group of `fsGroup`."""
    folder = tmp_path / "volume"
    folder.mkdir()
    os.chown(folder, 0, group_of(image))
    folder.chmod(0o2775)
    return folder


@pytest.fixture
def container(image: Stage, volume: Path, tmp_path: Path) -> Iterator[Container]:
    with running_image(image, volume, free_port(), tmp_path / "log", EMBEDDED_LLM="scripted") as running:
        yield running


def test_it_serves_on_a_read_only_root(container: Container, volume: Path) -> None:
    """As the image's user, with no right left and nothing to write but the volume, a turn is answered and stored there.

    Nobody else on the volume's machine can read what is in it.
    """
    answer = container.http.post("/chat", json=QUESTION, headers=DEMO)
    assert (answer.status_code, answer.json()["saved"]) == (200, "database")
    process = Path(f"/proc/{container.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    rights = [status[name].split()[-1] for name in ("CapEff", "CapBnd", "NoNewPrivs", "NSpid")]
    assert rights == ["0" * 16, "0" * 16, "1", "1"]
    mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    writable = {mount[4] for mount in mounts if mount[5].startswith("rw") and not mount[4].startswith("/dev/")}
    assert writable == {"/data", "/proc"}
    written = list(volume.rglob("*"))
    assert {path.name for path in written} >= {"outbox", "supabase.sqlite3"}
    assert [path for path in written if path.is_file() and path.stat().st_mode & 0o007] == []


def test_its_console_is_whole(container: Container) -> None:
    """The page's files are in the image: the page and each file of it load."""
    page = container.http.get("/console")
    (folder,) = set(re.findall(r"console/[0-9a-f]{16}/", page.text))
    files = [path for path in (ROOT / "app/ops/console").rglob("*") if path.suffix in (".js", ".css")]
    assert files
    for file in files:
        assert container.http.get(f"/{folder}{file.relative_to(ROOT / 'app/ops/console')}").status_code == 200, (
            file.name
        )


def test_process_1_drains(container: Container, image: Stage) -> None:
    """STOPSIGNAL sent to it, first of its namespace and so without the system's own handling: its turn is answered.

    The health check is good before, whatever proxy is set, and not while it drains; the exit is 0.
    """
    (signal,) = image.said["STOPSIGNAL"]
    assert health(image, container) == 0
    with ThreadPoolExecutor(1) as pool:
        slow = {"message": "Finish this [[fault: slow first=2 each=0]]"}
        turn = pool.submit(container.http.post, "/chat", json=slow, headers=DEMO)
        until(lambda: "llm_limiter_borrowed 1" in borrowed(container), "the turn runs")
        os.kill(container.pid, {"SIGTERM": SIGTERM}[signal])
        until(lambda: "server.draining" in container.log.read_text(), "it drains")
        assert health(image, container) != 0
        assert turn.result(WAIT_S).json()["saved"] == "database"
    assert container.wait() == 0


def borrowed(container: Container) -> str:
    """Return the line of the metrics that counts running calls of the model, without its labels."""
    page = container.http.get("/metrics").text
    return re.sub(
        r"\{.*?\}", "", "\n".join(line for line in page.splitlines() if line.startswith("llm_limiter_borrowed"))
    )


def health(image: Stage, container: Container) -> int:
    """Run the image's health check in it, and return its exit code."""
    (said,) = image.said["HEALTHCHECK"]
    command = json.loads(said[said.index("[") :])
    told = {"BIND": f"0.0.0.0:{container.http.base_url.port}", "http_proxy": "http://127.0.0.1:1"}
    inside = image.command(*image.as_user(*command, **told))
    return subprocess.run(inside, capture_output=True, check=False, env={}, timeout=WAIT_S).returncode


def test_what_cannot_start_says_so(image: Stage, volume: Path, tmp_path: Path) -> None:
    """With the image's own BIND, and nothing to tell users by, it ends with 2 and one line that names what is wrong."""
    (entry,), (command,) = image.said["ENTRYPOINT"], image.said["CMD"]
    inside = image.command(*image.as_user(*json.loads(entry), *json.loads(command)), volume=volume)
    done = subprocess.run(inside, capture_output=True, text=True, check=False, env={}, timeout=WAIT_S)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "AUTH_MODE=dev is for loopback only" in done.stderr


def test_it_has_nothing_to_install_with(image: Stage) -> None:
    """Neither pip nor what could bring it back, no compiler's front, nothing of them in any folder of ours."""
    for module in ("pip", "ensurepip", "setuptools", "wheel"):
        for python in ("/venv/bin/python", "/usr/local/bin/python3"):
            command = image.command(python, "-c", f"import {module}")
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={}, timeout=WAIT_S)
            assert "ModuleNotFoundError" in done.stderr, (python, module)
    found = [path for folder in (image.local, image.root / "venv", image.root / "srv") for path in every(folder)]
    assert len(found) > 1000
    assert [path for path in found if PACKAGE_TOOLS.search(path)] == []


def test_it_holds_what_is_ours_and_no_more(image: Stage) -> None:
    """/srv has each file that git has of app and telemetry, and the licence; else bytecode only."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "app", "telemetry", "LICENSE"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    ours = {name for name in listed if (ROOT / name).exists()}
    held = {path.removeprefix("/srv/") for path in every(image.root / "srv", image.root)}
    assert {path for path in held if not path.endswith(".pyc")} == ours
    assert any(path.startswith("app/ops/console/") for path in held)


def test_nothing_is_compiled_at_a_start(image: Stage) -> None:
    """Every module, of Python's own too, has bytecode that is believed by its content and not by a time."""
    for folder in (image.local, image.root / "venv", image.root / "srv"):
        sources = {path for path in every(folder) if path.endswith(".py")}
        compiled = {re.sub(r"__pycache__/(.*)\.cpython-\d+\.pyc$", r"\1.py", path) for path in every(folder)}
        assert sources
        assert sources - compiled == set()
        for path in folder.rglob("*.pyc"):
            assert int.from_bytes(path.read_bytes()[4:8], "little") == UNCHECKED_HASH, path


def test_the_user_has_a_name_and_a_folder(image: Stage) -> None:
    """The image's user is in passwd and group, with no shell, and owns /data alone."""
    (user,) = image.said["USER"]
    assert re.search(rf"(?m)^\w+:x:{user}::/nonexistent:/usr/sbin/nologin$", (image.root / "etc/passwd").read_text())
    assert re.search(rf"(?m)^\w+:x:{group_of(image)}:$", (image.root / "etc/group").read_text())
    status = (image.root / "data").stat()
    assert (f"{status.st_uid}:{status.st_gid}", status.st_mode & 0o777) == (user, 0o700)
    mine = [path for folder in ("venv", "srv", "etc") for path in (image.root / folder).rglob("*")]
    assert [
        path for path in mine if path.lstat().st_uid or (path.lstat().st_mode & 0o022 and not path.is_symlink())
    ] == []


def test_the_labels_say_what_it_is() -> None:
    """Title, version and licence are pyproject's; where it comes from is given at the build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (text,) = [argument for verb, argument in last_stage() if verb == "LABEL"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)=("[^"]*"|\S*)', text))
    assert (labels["title"], labels["version"], labels["licenses"]) == (
        project["name"], project["version"], project["license"],
    )  # fmt: skip
    assert (labels["source"], labels["revision"]) == ("${SOURCE}", "${REVISION}")
    assert {"SOURCE=", "REVISION="} <= {argument for verb, argument in instructions() if verb == "ARG"}


def test_a_secret_beside_the_code_stays_outside(tmp_path: Path) -> None:
    """What is hidden, or bytecode, does not reach a build, even in a folder that does."""
    names = [str(path.relative_to(ROOT)) for path in (*sent(ROOT / "app"), *sent(ROOT / "telemetry"))]
    assert names
    assert [name for name in names if "__pycache__" in name or "/." in name or name.endswith(".pyc")] == []


@pytest.mark.soak
def test_two_builds_are_the_same(tmp_path: Path) -> None:
    """With pip fetching everything, as it is written: two builds have the same files with the same bytes."""
    first, second = (build(tmp_path / name, with_pip=True) for name in ("first", "second"))
    for one, other in ((first.root, second.root), (first.local, second.local)):
        assert contents(one) == contents(other)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, with what is in them."""
    return {name: (folder / name[1:]).read_bytes() for name in every(folder) if not (folder / name[1:]).is_symlink()}


def every(folder: Path, root: Path | None = None) -> list[str]:
    """Return every file under a folder, by its path from `root`."""
    start = root or folder
    return [f"/{path.relative_to(start)}" for path in folder.rglob("*") if path.is_file()]


def group_of(image: Stage) -> int:
    """Return the group of the image's user."""
    return int(image.said["USER"][0].partition(":")[2])
