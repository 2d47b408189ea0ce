"""docs/ARCHITECTURE.md against the house: what it names exists, nothing is left out, and its figures are the measured.

The tables of imports and of broad handlers are held against the source in test_import_rule.py.
"""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.settings import Settings
from telemetry import names
from tests.test_import_rule import FILES, part_of, tree

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs/ARCHITECTURE.md").read_text("utf-8")
DIAGRAM = DOCUMENT.partition("```\n")[2].partition("```")[0]
STORY = ROOT / "app/chat_turn.py"
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", DOCUMENT.replace(DIAGRAM, ""))))
SETTINGS = {name.upper() for name in Settings.model_fields}
FOREIGN = {"-w"}
"""Names that are another program's."""
NOT_OURS = {"var", "node_modules"}
"""Folders that come and go: data, and what npm installs."""

# What the story calls -> the stage that it is, as the diagram has it.
CALLS = {
    "self.door.check": "door",
    "self.fetch": "fetch",
    "self.gate.slot": "gate",
    "self.speaker.speak": "generate",
    "record.save_answer": "save",
}

# A figure of the page -> where it was measured; two groups there mean their ratio. What is measured anew comes out a
# little otherwise: CPU by what else the machine did, waits by hardly anything.
NOISY, QUIET, SAME = 0.3, 0.03, 0.0
RESULTS = "bench/RESULTS.md"
OVER = r"\| ours \| (\d+) (?:.|\n)*\| ours"
FIGURES = [
    (r"([\d.]+) times the turns per CPU-second of", RESULTS, rf"{OVER} on httpcore \| (\d+) ", NOISY),
    (r"([\d.]+) times the turns per CPU-second with", RESULTS, rf"{OVER}, sampled 100 % \| (\d+) ", NOISY),
    (r"([\d.]+) s where two round trips", RESULTS, r"\| ours \| (1\.\d+) \(", QUIET),
    (r"waits for it alone takes ([\d.]+) s", RESULTS, r"\| ours, SAVE_MODE=outbox \| (1\.\d+) \(", QUIET),
    (r"listening after ([\d.]+) s", RESULTS, r"\| start to `server\.listening`, scripted model, s \| ([\d.]+) ", NOISY),
    (r"a process is (\d+) MB", RESULTS, r"\| ours \| \d+ .*\| (\d+) \|", NOISY),
    (r"1,000 open streams are (\d+) MB", RESULTS, r"\| the same: resident memory, MB \| (\d+) ", NOISY),
    (r"off by (\d+) ms at the most", RESULTS, r"s \| -(\d+) ms \(-0\.7 %\)", SAME),
    (r"([\d.]+) % of a lone turn's CPU", RESULTS, r"\| 1 \| .* ([\d.]+) % \|", SAME),
    (r"([\d.]+) % beside fifteen others", RESULTS, r"\| 16 \| .* ([\d.]+) % \|", SAME),
    (r"([\d.]+) s side by side", "bench/ROLLOUT.md", r"\| 100 ms \| [\d.]+ s \| ([\d.]+) s", SAME),
    (r"([\d.]+) s one by one", "bench/ROLLOUT.md", r"\| 100 ms \| ([\d.]+) s", SAME),
    (r"([\d.]+) % of what an oracle gets", "bench/LIMITER.md", r"> 30 \| adaptive \| ([\d.]+)%", SAME),
    (r"with ([\d.]+) % of the answers refused", "bench/LIMITER.md", r"> 30 \| adaptive \| [^|]+\| ([\d.]+)%", SAME),
    (r"Gradient2: ([\d.]+) %", "bench/LIMITER.md", r"> 30 \| Gradient2 \| ([\d.]+)%", SAME),
    (r"Gradient2: [\d.]+ % with ([\d.]+) %", "bench/LIMITER.md", r"> 30 \| Gradient2 \| [^|]+\| ([\d.]+)%", SAME),
    (r"took (\d+) % of a turn", "app/bootstrap/__init__.py", r"CPython's 700 took (\d+) % of a turn", SAME),
    (r"some (\d+) ms, is shared", "app/settings.py", r"some (\d+) ms, shared by all who wait", SAME),
]


@cache
def definitions() -> dict[str, set[str]]:
    """Return every class, function and constant of the house by its name, each with the names inside of it."""
    found: dict[str, set[str]] = {}
    for path in [*FILES, ROOT / "tests/needs.py", ROOT / "tests/standins.py", ROOT / "tests/test_import_rule.py"]:
        for node in tree(path).body:
            for name in _defined(node):
                found.setdefault(name, set()).update(*map(_defined, getattr(node, "body", ())))
    return found


def _defined(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def is_there(named: str) -> bool:
    """Return whether a name of the page leads to something: a path, a setting, a command, a route, a definition."""
    if "/" in named.lstrip("/") or Path(named).suffix in {".md", ".py", ".yaml"}:
        return any(ROOT.glob(named.rstrip("/")))
    if named.startswith("/"):
        return named in json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))["paths"]
    if named.startswith("make "):
        return re.search(rf"^{named.removeprefix('make ')}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    if named.isupper() or "=" in named:
        return named.partition("=")[0] in SETTINGS | set(definitions())
    owner, _, attribute = named.rpartition(".")
    if owner in definitions():
        return attribute in definitions()[owner]
    return named in known() or _is_imported(owner, attribute)


@cache
def known() -> set[str]:
    """Return the names that stand alone: definitions, parts of the house, stages, commands, keys of a reply."""
    parts = {part_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in FILES}
    of_telemetry = {value for value in vars(names).values() if isinstance(value, str)}
    commands = set(re.findall(r'add_parser\(\s*"([\w-]+)"', (ROOT / "app/__main__.py").read_text("utf-8")))
    keys = {"performance_metrics"}
    return {*definitions(), *parts, "app", "clients.ports", *of_telemetry, *commands, *keys, *FOREIGN}


def _is_imported(module: str, attribute: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError):
        return False


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named: str) -> None:
    """A file, folder, class, function, setting, route or command between backticks is there under that name."""
    assert is_there(named)


@pytest.mark.parametrize(
    "named",
    [
        "app/nowhere/",
        "app/turn_.py",
        "NO_SUCH_SETTING",
        "NoSuchClass",
        "Door.knock",
        "trio.NoLimiter",
        "make tea",
        "/tea",
    ],
)
def test_what_does_not_exist_is_told(named: str) -> None:
    """The judge itself: of each kind of name there are some that lead nowhere."""
    assert not is_there(named)


def folders(of: Path) -> Iterator[str]:
    """Yield the folders right below one, but for those that come and go."""
    for path in sorted(of.iterdir()):
        hidden = path.name.startswith(("_", ".")) and path.name != ".ci"
        if path.is_dir() and not hidden and path.name not in NOT_OURS:
            yield f"{path.relative_to(ROOT)}/"


@pytest.mark.parametrize("top", ["", "app"])
def test_every_folder_has_its_line(top: str) -> None:
    """No folder of `app/`, and none at the top, is missing from the table of what is where."""
    table = DOCUMENT.partition("| folder | what is there |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([^`]+/)`", "".join(line.split("|")[1] for line in table.splitlines()[2:])))
    below = {name for name in named if (name.count("/") == 2) == bool(top)}
    assert below == set(folders(ROOT / top)) - ({"app/"} if not top else set())


def test_the_diagram_is_the_story_as_it_is_told() -> None:
    """The line of stages is that of the docstring of app/chat_turn.py."""
    line = DIAGRAM.splitlines()[0]
    assert line in [each.strip() for each in (ast.get_docstring(tree(STORY)) or "").splitlines()]


def test_the_stages_come_in_the_diagrams_order() -> None:
    """Read from the source: what a turn calls first, second and so on is the order of the diagram, but for its ends."""
    (turn,) = [node for node in tree(STORY).body if isinstance(node, ast.ClassDef) and node.name == "ChatTurn"]
    methods = {node.name: node for node in turn.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
    met: list[str] = []

    def follow(node: ast.AST) -> None:
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            met.extend([CALLS[name]] if name in CALLS else [])
            if name.startswith("self._"):
                follow(methods.pop(node.attr, ast.Pass()))
        for child in ast.iter_child_nodes(node):
            follow(child)

    follow(methods.pop("run"))
    order = list(dict.fromkeys(met))
    assert ["receive", *order, "respond"] == DIAGRAM.splitlines()[0].split(" -> ")


@pytest.mark.parametrize(("said", "source", "measured", "near"), FIGURES, ids=[figure[0] for figure in FIGURES])
def test_a_figure_is_what_was_measured(said: str, source: str, measured: str, near: float) -> None:
    """A figure that decided something is still about what the last measurement found."""
    (here,) = set(re.findall(said, DOCUMENT))
    there = re.search(measured, (ROOT / source).read_text("utf-8"))
    assert there is not None, f"{source} no longer has {measured}"
    found = [float(value) for value in there.groups()]
    assert float(here) == pytest.approx(found[0] / found[-1] if found[1:] else found[0], rel=near, abs=0)


@pytest.mark.parametrize("decision", [line for line in DOCUMENT.splitlines() if "(../bench/" in line])
def test_what_was_measured_has_a_figure(decision: str) -> None:
    """Each decision that leads to a measurement has a figure of it, which the test above looks up."""
    assert any(re.search(said, decision) for said, *_where in FIGURES)
