"""The console's page as files: its words, its modules, what is vendored, and that its policy has nothing to forbid."""

import itertools
import re
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "app" / "ops" / "console"
PAGE = (FOLDER / "index.html").read_text()
OURS = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.js"))}
STYLE = (FOLDER / "console.css").read_text()
MARKUP_AND_CODE = PAGE + "".join(text for name, text in OURS.items() if name not in ("english.js", "japanese.js"))
VENDORED = {
    "markdown-it.esm.min.js": "d5432491790141da046b1197353705db03264f40b5727f3b4b591f5aba193e30",
    "LICENSE.txt": "d6388344b0f49171b74dc44710ccb53d26bafe72c9fa8debb4e896b18c15ba3d",
    "NOTICE.txt": "e03de983804d1782506aea09bf6776e4b5cb63d06b59977e065067434630ad39",
}
"""npm's markdown-it 15.0.3, dist/browser/markdown-it.esm.min.mjs, as it was published; and what goes with it."""
HOOKS = (
    *("token", "ops-token", "page-key", "ask", "send", "stop", "continue", "log", "new-chat", "notice"),
    *("waterfall", "total", "first-token", "trace-id", "copy-trace", "link-jaeger", "link-grafana"),
    *("limiter", "limiter-total", "limiter-borrowed", "limiter-waiting", "limiter-wait", "sparkline", "limiter-size"),
    *("limiter-apply", "limiter-adaptive", "limiter-min", "limiter-max"),
    *("recent", "outbox", "dependencies", "connection", "language", "theme"),
)
SINKS = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser"
MADE = ("bar", "bar-fill", "message-user", "message-assistant", "recent-turn", "dependency")


class Markup(HTMLParser):
    """Reads the page: every tag with its attributes, and the words between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Keep a text, and the tag that it follows."""
        if data.strip():
            self.texts.append((self.tags[-1][0], data.strip()))


MARKUP = Markup()


def words(language: str) -> dict[str, str]:
    """Return the sentences of a language, by key."""
    return dict(re.findall(r'^  "?([\w.]+)"?:\s+"(.*)",$', OURS[f"{language}.js"], re.MULTILINE))


def test_words_are_the_same_in_both_languages() -> None:
    """English and Japanese have the same keys, each with a sentence, and Japanese is not English."""
    english, japanese = words("english"), words("japanese")
    assert list(english) == list(japanese)
    assert len(english) > 150
    assert all(english.values())
    assert all(japanese.values())
    same = {key for key in english if english[key] == japanese[key]}
    assert same == {"open_jaeger", "open_grafana", "took_total", "change"}


def test_words_are_used() -> None:
    """Each key is named in the page or in a module, whole or by the beginning that its kind shares."""
    named = set(re.findall(r'["\'`]([\w.]+)["\'`$]', MARKUP_AND_CODE))
    begun = set(re.findall(r'["`](\w+[._])["`$]', "".join(OURS.values())))
    unused = [key for key in words("english") if key not in named and not key.startswith(tuple(begun))]
    assert not unused


def test_words_that_are_asked_for_exist() -> None:
    """Markup and modules ask for no key that there is not."""
    asked = set(re.findall(r'data-word(?:-[a-z-]+)?="(\w+)"', PAGE)) | set(re.findall(r'\bt\("(\w+)"', MARKUP_AND_CODE))
    assert len(asked) > 100
    assert not asked - words("english").keys()


def test_markup_has_no_code_and_no_style() -> None:
    """No inline script, no style, no handler: the policy forbids them, and nothing of the page needs them."""
    assert [attributes for tag, attributes in MARKUP.tags if tag == "script" and not attributes.get("src")] == []
    assert {tag for tag, _ in MARKUP.tags}.isdisjoint({"style", "iframe", "object", "embed", "base", "img"})
    names = {name for _, attributes in MARKUP.tags for name in attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}
    assert [text for tag, text in MARKUP.texts if tag == "script"] == []


def test_every_file_is_named_once() -> None:
    """The page preloads each module, and each file that it names is there; nothing lies about unused."""
    loaded = [
        value.removeprefix("{{static}}/") for _, a in MARKUP.tags for value in a.values() if "{{static}}" in value
    ]
    code = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.js")}
    assert sorted(loaded) == sorted(code | {"console.css"})
    assert {path.name for path in FOLDER.iterdir()} == {*OURS, "index.html", "console.css", "vendor"}


@pytest.mark.parametrize("name", OURS)
def test_modules_import_what_is_there(name: str) -> None:
    """Imports are relative and name files of the folder, and what is imported is exported there and used."""
    for names, source in re.findall(r"^import (.+?) from \"(.+)\";$", OURS[name], re.MULTILINE):
        assert source.startswith("./")
        assert (FOLDER / source).is_file()
        for each in re.findall(r"\w+", names) if "{" in names else []:
            exported = (FOLDER / source).read_text()
            assert re.search(rf"^export (?:const|(?:async )?function|class) {each}\b", exported, re.MULTILINE), each
            assert len(re.findall(rf"\b{each}\b", OURS[name])) > 1, f"{each} is not used"


@pytest.mark.parametrize("name", OURS)
def test_modules_make_no_markup_of_texts(name: str) -> None:
    """Nothing is made code or markup of a text, but an answer's Markdown in the one place that the policy names."""
    sinks = re.findall(SINKS, OURS[name])
    assert sinks == (["innerHTML"] if name == "markdown.js" else [])
    policies = re.findall(r"createPolicy.{0,3}\(([^,]*)", OURS[name])
    assert policies == (['"console"'] if name == "markdown.js" else [])
    assert len(OURS[name].splitlines()) <= 330


def test_no_other_host_is_named() -> None:
    """No address in the page, its style or its modules leads elsewhere; all of the server's are relative."""
    addresses = re.findall(r"[a-z]+://[^\s'\"`)]*", PAGE + STYLE + "".join(OURS.values()))
    assert {address for address in addresses if not address.startswith("http://www.w3.org/2000/svg")} == set()
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    links = [a.get("href") or a.get("src") or "" for tag, a in MARKUP.tags if tag in ("link", "script", "a")]
    assert all(link.startswith(("{{static}}/", "data:image/svg+xml,", "#")) or not link for link in links)


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_files_are_as_published(name: str) -> None:
    """What is vendored is unchanged, and its licence goes with it."""
    assert sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == VENDORED[name]


def test_nothing_else_is_vendored() -> None:
    """The folder holds what is pinned here, and the notice names the version that the file names."""
    assert {path.name for path in (FOLDER / "vendor").iterdir()} == set(VENDORED)
    version = re.match(r"/\*! markdown-it ([\d.]+) ", (FOLDER / "vendor" / "markdown-it.esm.min.js").read_text())
    assert version
    assert f"markdown-it {version[1]}," in (FOLDER / "vendor" / "NOTICE.txt").read_text()


def test_hooks_are_there() -> None:
    """Each part that tests and pictures find by its test id is in the page once, or made by a module."""
    ids = [attributes["data-testid"] for _, attributes in MARKUP.tags if "data-testid" in attributes]
    assert len(ids) == len(set(ids))
    assert not set(HOOKS) - set(ids)
    assert not [hook for hook in MADE if f'"data-testid": "{hook}"' not in MARKUP_AND_CODE]


def test_every_field_has_a_label() -> None:
    """Each field has a label of its own or lies in one; each button that shows a sign says what it does."""
    labels = {attributes.get("for") for tag, attributes in MARKUP.tags if tag == "label"}
    for tag, attributes in MARKUP.tags:
        if tag in ("input", "textarea") and attributes.get("type") != "checkbox":
            assert attributes["id"] in labels
        if tag == "input" and attributes.get("type") == "password":
            assert attributes["autocomplete"] == "off"
    silent = [a for tag, a in MARKUP.tags if tag == "button" and not {"data-word", "data-word-aria-label"} & a.keys()]
    assert [a.get("data-part") or a["data-testid"] for a in silent] == ["retry", "stop", "adaptive"]  # said by modules


def test_headings_are_in_order() -> None:
    """No level is left out between one heading and the next, and there is one first."""
    levels = [int(tag[1]) for tag, _ in MARKUP.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_both_themes_and_still_readers_are_thought_of() -> None:
    """Every colour is light and dark, a chosen theme overrides the system's, and who wants no motion gets none."""
    colours = re.findall(r"^  --(?!mono|names)[\w-]+: (.*);$", STYLE, re.MULTILINE)
    assert len(colours) > 15
    assert all(re.fullmatch(r"light-dark\(#[0-9a-f]{6}, #[0-9a-f]{6}\)", colour) for colour in colours)
    assert 'data-theme="light"] { color-scheme: light' in STYLE
    assert 'data-theme="dark"] { color-scheme: dark' in STYLE
    assert "prefers-reduced-motion" in OURS["waterfall.js"]
    assert "animation" not in STYLE
    assert "transition" not in STYLE
