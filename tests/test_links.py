"""Every link of the documents leads somewhere, and the files and commands that they name are there."""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.readme.blocks import blocks_of, without_blocks

ROOT = Path(__file__).parent.parent
NOT_OURS = {".git", "node_modules", "var", ".pytest_cache", ".mypy_cache", ".hypothesis"}
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md"))
    if not {part for part in path.relative_to(ROOT).parts if part in NOT_OURS or part.startswith(".venv")}
)
CODE = re.compile(r"(?<!`)`[^`\n]+`(?!`)")
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:!\[[^\]]*\]\([^)]*\)|[^\]])*)\]\((?P<target>[^)\s]+)\)")
PATH = re.compile(
    r"(?:app|bench|clients|compose|deploy|docs|grafana|supabase|telemetry|tests)/[\w./*@-]*[\w*]|\.ci/run"
)
BESIDE = re.compile(r"`(?P<name>(?:test_)?[\w*]+\.(?:py|md))`")
MADE = {"clients/typescript/schema.d.ts"}
"""What is not there until it is made."""


def cases() -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS]


@cache
def slugs(path: Path) -> frozenset[str]:
    """Return the anchors of a document's headings, as GitHub makes them; the second of one name ends in `-1`."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)? *$", without_blocks(path.read_text("utf-8")), re.MULTILINE):
        slug = slug_of(heading)
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return frozenset(found)


def slug_of(heading: str) -> str:
    """Return a heading's anchor: in small letters, without marks and punctuation, each space a hyphen."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


def links(path: Path) -> list[tuple[bool, str, str]]:
    """Return a document's links outside of code: whether it is a picture, its text, its target."""
    prose = CODE.sub(lambda code: "x" * len(code[0]), without_blocks(path.read_text("utf-8")))
    found = []
    for match in LINK.finditer(prose):
        found.append((match["picture"] == "!", match["text"], match["target"]))
        found += [(True, inner["text"], inner["target"]) for inner in LINK.finditer(match["text"])]
    return found


def fault_of(document: Path, target: str) -> str | None:
    """Return what is wrong with a relative link, or None."""
    name, _, anchor = target.partition("#")
    file = (document.parent / unquote(name)).resolve() if name else document
    if not file.is_relative_to(ROOT) or not file.exists():
        return f"{target}: no such file"
    if anchor and (file.suffix != ".md" or unquote(anchor) not in slugs(file)):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("document", cases())
def test_every_link_leads_somewhere(document: Path) -> None:
    """A relative link's file is in the repository, and its anchor is the slug of one of that file's headings."""
    targets = [target for _, _, target in links(document) if not re.match(r"[a-z]+:", target)]
    assert [fault for target in targets if (fault := fault_of(document, target))] == []


@pytest.mark.parametrize("document", cases())
def test_every_picture_says_what_one_sees(document: Path) -> None:
    """Who cannot see a picture is told what is on it, and it comes from no other host."""
    pictures = [(text, target) for is_picture, text, target in links(document) if is_picture]
    shortest = 1 if document.parent.name == "bench" else 40  # a report's plots stand below their figures
    assert [target for text, target in pictures if len(text) < shortest or re.match(r"[a-z]+:", target)] == []


@pytest.mark.parametrize("document", cases())
def test_every_named_file_exists(document: Path) -> None:
    """`tests/server`, `app/turn.py` and their like, in code within sentences; `*` may stand for some letters.

    SECURITY.md leaves out `tests/`, and says so.
    """
    text = without_blocks(document.read_text("utf-8"))
    tops = (ROOT, ROOT / "tests") if "Paths are under `tests/`" in text else (ROOT,)
    named = {path for code in CODE.findall(text) for path in PATH.findall(code) if code.strip("`").startswith(path)}
    assert [path for path in sorted(named) if path not in MADE and not any(any(top.glob(path)) for top in tops)] == []


@pytest.mark.parametrize("document", cases())
def test_a_file_named_beside_another_is_there(document: Path) -> None:
    """After `tests/server/test_stream.py`, `test_resume.py` is of the same folder, or of another one of the tests."""
    named = set(BESIDE.findall(document.read_text("utf-8")))
    assert [name for name in sorted(named) if not any(ROOT.glob(name)) and not any(ours(name))] == []


def ours(name: str) -> list[Path]:
    """Return the files of that name, wherever we have them."""
    tops = ("app", "bench", "docs", "grafana", "telemetry", "tests")
    return [path for top in tops for path in (ROOT / top).rglob(name) if "node_modules" not in path.parts]


@pytest.mark.parametrize("document", cases())
def test_every_named_command_exists(document: Path) -> None:
    """`make X` is one of make's targets, `python -m app X` one of our commands."""
    text = document.read_text("utf-8")
    scripts = "".join(block.text for block in blocks_of(document.name, text) if block.language == "sh")
    typed = re.findall(r"^(?:[A-Z_]+=\S+ )*make (\S.*)$", scripts, re.MULTILINE)
    typed += re.findall(r"`(?:[A-Z_]+=\S+ )*make ([^`\n]+)`", without_blocks(text))
    targets = {word for line in typed for word in line.partition("#")[0].split() if re.fullmatch(r"[a-z-]+", word)}
    commands = set(re.findall(r"python -m app ([a-z][a-z-]*)", text))
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    main = (ROOT / "app/__main__.py").read_text("utf-8")
    assert commands <= set(re.findall(r"commands\.add_parser\(\s*\"([a-z-]+)\"", main))


def test_the_readmes_symptoms_are_the_guides() -> None:
    """Each row on what may be wrong is in docs/TROUBLESHOOTING.md too, word for word, whose links begin in docs/."""
    text = (ROOT / "README.md").read_text("utf-8")
    section = text.partition("\n## When something is wrong\n")[2].partition("\n## ")[0]
    rows = [line.replace("](docs/", "](") for line in section.splitlines() if line.startswith("|")]
    guide = (ROOT / "docs/TROUBLESHOOTING.md").read_text("utf-8").splitlines()
    assert rows
    assert [row for row in rows if row not in guide] == []


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("What SREs see", "what-sres-see"),
        ("Streaming: `useChat`, resume, stop", "streaming-usechat-resume-stop"),
        ("For front ends that … : what to change", "for-front-ends-that---what-to-change"),
        ("リミッターの大きさを決める（要約）", "リミッターの大きさを決める要約"),
        ("snake_case and a [link](x.md)", "snake_case-and-a-link"),
    ],
)
def test_slugs_are_githubs(heading: str, slug: str) -> None:
    """Letters of every script stay, underscores too; of what stands between words only spaces do, as hyphens."""
    assert slug_of(heading) == slug


def test_the_promise_of_durability_stands_in_the_front_door() -> None:
    """README.md gives the outbox's promise in the very words of docs/DURABILITY.md."""
    (promise,) = re.findall(r"\*\*(An answer that a client received .*?)\*\*", words(ROOT / "docs" / "DURABILITY.md"))
    assert promise.rstrip(".") in words(ROOT / "README.md")


def words(path: Path) -> str:
    return " ".join(path.read_text("utf-8").split())
