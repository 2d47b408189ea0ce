"""CONTRIBUTING.md's worked examples, followed to the letter: each on a copy of the checkout, with its own commands.

Two copies are followed at a time, since part of it goes by in waiting. mypy is the longest of the
commands, and left to `make soak`.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.needs import need_program

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "node_modules", "var", ".pytest_cache", ".ruff_cache", ".hypothesis", ".mypy_cache"
)
BLOCK = re.compile(r"^```(?P<kind>\w+)(?: title=(?P<path>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TYPES = ".venv/bin/mypy"
CACHE = ROOT / ".mypy_cache"
LONGEST_S = 300.0
AT_ONCE = 2
"""Copies; with more, a server that one of them starts may be late on a machine of two cores."""


@dataclass(frozen=True, slots=True)
class Example:
    """What one example has its reader do: apply patches, write files, run commands."""

    patch: str
    files: Mapping[str, str]
    commands: tuple[str, ...]


def read_example(section: str) -> Example:
    """Return the example that a section tells; every block of it is one of the three kinds."""
    patches, files, commands = [], {}, list[str]()
    for block in BLOCK.finditer(section):
        kind, path, text = block["kind"], block["path"], block["text"]
        if kind == "diff":
            patches.append(text)
        elif kind == "python" and path:
            files[path] = text
        else:
            assert kind == "sh", f"a block of {kind} that nobody follows"
            commands += text.splitlines()
    return Example("".join(patches), files, tuple(commands))


SECTIONS = re.split(r"^## Example: ", DOCUMENT, flags=re.MULTILINE)[1:]
EXAMPLES = {section.partition("\n")[0]: read_example(section) for section in SECTIONS}
per_example = pytest.mark.parametrize("name", EXAMPLES)


def copied(name: str, folder: Path) -> Path:
    """Return a copy of the checkout in which an example's patches are applied and its files are written."""
    example, copy = EXAMPLES[name], folder / name.replace(" ", "-")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    for path, text in example.files.items():
        assert not (copy / path).exists(), f"{path} is there already"
        (copy / path).write_text(text, "utf-8")
    applied = subprocess.run(["git", "apply", "-"], cwd=copy, input=example.patch, text=True, capture_output=True)
    assert applied.returncode == 0, applied.stderr
    return copy


def run(command: str, copy: Path) -> str:
    """Run a command as it is written; return what it said when it failed, else nothing."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GIT_"))}
    done = subprocess.run(
        ["sh", "-c", command], cwd=copy, env=own, text=True, capture_output=True, timeout=LONGEST_S, check=False
    )
    return f"$ {command}\n{done.stdout}{done.stderr}" if done.returncode else ""


def follow(name: str, folder: Path) -> tuple[Path, str]:
    """Follow an example but for its types; return the copy, and what the first command that failed had to say."""
    copy = copied(name, folder)
    commands = (command for command in EXAMPLES[name].commands if not command.startswith(TYPES))
    return copy, next(filter(None, (run(command, copy) for command in commands)), "")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[tuple[Path, str]]]]:
    need_program("git", "apt-get install git")
    folder = tmp_path_factory.mktemp("followed")
    with ThreadPoolExecutor(AT_ONCE) as side_by_side:
        yield {name: side_by_side.submit(follow, name, folder) for name in EXAMPLES}
    shutil.rmtree(folder)


def test_there_is_an_example_of_each() -> None:
    """A stage, a provider and a metric; each changes something, brings a test, and says what must pass in the end."""
    assert list(EXAMPLES) == ["add a stage", "add a provider", "add a metric"]
    for example in EXAMPLES.values():
        assert example.patch
        touched = (*example.files, *re.findall(r"^\+\+\+ b/(\S+)", example.patch, re.MULTILINE))
        assert any(path.startswith("tests/") for path in touched)
        tools = {re.split(r"[ /]", command.removeprefix(".venv/bin/"))[0] for command in example.commands}
        assert tools == {"python", "ruff", "mypy"}


@per_example
def test_an_example_works_as_it_is_written(name: str, followed: Mapping[str, Future[tuple[Path, str]]]) -> None:
    """Its patches apply to the code as it is, its files are new, and each command that it names passes after that."""
    _copy, failure = followed[name].result()
    assert not failure, failure


@pytest.mark.soak
@per_example
def test_an_example_has_its_types_right(name: str, followed: Mapping[str, Future[tuple[Path, str]]]) -> None:
    """mypy strict finds nothing in what the example touched."""
    copy, _failure = followed[name].result()
    if CACHE.exists():
        shutil.copytree(CACHE, copy / ".mypy_cache")
    (command,) = [command for command in EXAMPLES[name].commands if command.startswith(TYPES)]
    failure = run(command, copy)
    assert not failure, failure
