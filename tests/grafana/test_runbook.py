"""The runbook: a paragraph for each alert, which begins with a command that works, and names what there is."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

import grafana
from app.__main__ import main
from app.settings import Settings
from grafana.reading import panels_of
from tests.needs import need_program
from tests.server.process import ServerProcess, running

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "grafana" / "alerts" / "rules.yaml").read_text())
ALERTS = [rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
RUNBOOK = (ROOT / "grafana" / "RUNBOOK.md").read_text()
PARAGRAPHS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
per_alert = pytest.mark.parametrize("name", ALERTS)


def test_every_alert_has_its_paragraph() -> None:
    """There is one for each alert, in the order of the rules, and no other."""
    assert list(PARAGRAPHS) == ALERTS


@per_alert
def test_a_paragraph_begins_with_what_to_type(name: str) -> None:
    """Right under the heading stands the command, and what it means for pupils, causes and deeds follow it."""
    paragraph = PARAGRAPHS[name]
    assert re.match(r"\n```sh\n[^`]+```\n\n\*\*For pupils:\*\* ", paragraph)
    marks = [paragraph.index(f"**{mark}:**") for mark in ("For pupils", "Which cause", "Do", "Wake somebody")]
    assert marks == sorted(marks)
    assert "```traceql\n" in paragraph


def commands_in(text: str) -> Iterator[str]:
    """Yield each command that a piece of the runbook names."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from filter(None, block.replace("\\\n", " ").splitlines())
    yield from re.findall(r"`(\.venv/bin/python -m app [^`]+)`", text.replace("\n", " "))


def helps(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Return what the command line says of a command; nothing when there is none."""
    monkeypatch.setattr(sys, "argv", ["app", *words, "--help"])
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()), pytest.raises(SystemExit):
        main()
    return said.getvalue()


def test_commands_of_the_runbook_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every subcommand of ours that it names is one, with the options that it is given."""
    named = [
        shlex.split(found) for line in commands_in(RUNBOOK) for found in re.findall(r"python -m app ([^|;]+)", line)
    ]
    assert {words[0] for words in named} >= {"doctor", "limiter", "outbox", "hash-user", "whatif"}
    said = {word: helps(monkeypatch, word) for word in {words[0] for words in named}}
    said["outbox"] += helps(monkeypatch, "outbox", "deliver")
    for words in named:
        assert said[words[0]], words
        assert [word for word in words if word.startswith("--") and word not in said[words[0]]] == [], words


def test_routes_of_the_runbook_exist() -> None:
    """Every address that a command asks is a route of ours, and takes the method."""
    routes = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    asked = set()
    for line in commands_in(RUNBOOK):
        for path in re.findall(r"\$URL(/[\w/]*)", line):
            method = re.search(r"-X (\w+)", line)
            asked.add(((method[1] if method else "GET").lower(), re.sub(r"/\d+(?=/|$)", "/{entry_id}", path)))
    assert len(asked) >= 8
    assert [(method, path) for method, path in asked if method not in routes.get(path, ())] == []


def test_settings_of_the_runbook_exist() -> None:
    """What it says to set can be set."""
    named = set(re.findall(r"\b[A-Z][A-Z]+_[A-Z_]+\b", RUNBOOK))
    known = {name.upper() for name in Settings.model_fields}
    assert {name for name in named - known if not name.startswith("OTEL_")} == set()


def test_panels_of_the_runbook_exist() -> None:
    """What it says to look at is on the dashboard that it says, in the table and in the paragraphs."""
    titles = {f"{board['title']} / {panel['title']}" for board in grafana.documents() for panel in panels_of(board)}
    text = re.sub(r"\s+", " ", RUNBOOK)
    boards = "|".join(board["title"] for board in grafana.documents())
    begun = [text[found.start() :] for found in re.finditer(rf"\b(?:{boards}) / ", text)]
    assert len(begun) >= 30
    assert [rest[:60] for rest in begun if not any(rest.startswith(title) for title in titles)] == []
    for name, paragraph in PARAGRAPHS.items():
        flat = re.sub(r"\s+", " ", paragraph)
        assert any(title in flat for title in titles) or "](#" in flat, name


def test_links_of_the_runbook_lead_somewhere() -> None:
    """A link to another paragraph finds it."""
    anchors = set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK))
    assert anchors <= {name.lower() for name in PARAGRAPHS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), OPS_TOKEN="runbook") as process:
        process.answer("What is a hypothesis? [[fault: slow first=0 each=0]]", user="runbook")
        yield process


@per_alert
def test_what_to_type_works_as_it_stands(server: ServerProcess, name: str) -> None:
    """Pasted into a shell, the first commands of a paragraph ask a real server, which answers; but for `doctor`."""
    (block,) = re.findall(r"\A\n```sh\n(.*?)```", PARAGRAPHS[name], re.DOTALL)
    typed = "\n".join(line for line in block.splitlines() if not line.endswith("app doctor"))
    typed = typed.replace("curl -s ", "curl -sf ")
    given = {"URL": server.url, "OPS_TOKEN": "runbook", "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    shell = [need_program("bash", "install bash"), "-c", typed]
    need_program("curl", "install curl")
    done = subprocess.run(shell, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "", done.stdout
    assert "no answer" not in done.stdout
