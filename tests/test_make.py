"""What a newcomer's machine meets first: make, the lock files, the README's commands."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app.welcome import Welcome
from tests.needs import need_program

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-model.lock")


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    """`make install` with a Python below 3.11 ends with one clear sentence and makes nothing."""
    make = need_program("make", "apt-get install make")
    old = tmp_path / "python3.10"
    pretend = "import sys; sys.version_info = (3, 10, 9); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c \'{pretend}\' "$2"\n')
    old.chmod(0o755)
    venv = tmp_path / "venv"
    done = subprocess.run(
        [make, "install", f"PYTHON={old}", f"VENV={venv}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "needs Python 3.11 or later" in done.stderr
    assert "is 3.10" in done.stderr
    assert not venv.exists()


@pytest.mark.parametrize("name", [*LOCKS, "bench/peers.txt", "grafana/trace_demo.txt"])
def test_locks_are_pinned_and_name_no_host(name: str) -> None:
    """Every requirement is one version with its hashes; no line names an address."""
    text = (ROOT / name).read_text()
    requirements = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    assert requirements
    assert all(re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:", line) for line in requirements)
    assert "://" not in text
    assert "index" not in text


def test_the_locks_agree() -> None:
    """A package that is in two locks has one version."""
    versions: dict[str, set[str]] = {}
    for name in LOCKS:
        for package, version in re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE):
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_what_pyproject_asks_for_is_locked() -> None:
    """Every direct dependency is in the lock that should have it, and says why it is there."""
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    wanted = {
        "requirements.lock": project["project"]["dependencies"],
        "requirements-dev.lock": project["dependency-groups"]["dev"],
        "requirements-model.lock": project["dependency-groups"]["model"],
    }
    for lock, requirements in wanted.items():
        locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        for requirement in requirements:
            assert re.split(r"[\[><=]", requirement)[0] in locked
            if lock != "requirements-dev.lock":
                (line,) = [line for line in text.splitlines() if f'"{requirement}"' in line]
                assert "#" in line, f"{requirement} has no reason beside it"


def test_the_readmes_first_question_is_the_one_make_run_prints() -> None:
    """The curl line of the README is the start-up banner's, to the letter."""
    banner = Welcome(url="http://127.0.0.1:8000", model="m", remark="", database="d").text()
    (command,) = re.findall(r"curl -s \S+/chat .*?\}'", banner, re.DOTALL)
    readme = (ROOT / "README.md").read_text("utf-8")
    assert " ".join(command.split()) in " ".join(readme.split())
