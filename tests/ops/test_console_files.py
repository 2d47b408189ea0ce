"""The console's files: what is served of a folder, under which names and tags, and when a browser has it already."""

import gzip
from pathlib import Path

import pytest

from app.ops.console_files import ConsolePage, console_page, digest_of, is_named, read_console

INDEX = b'<script type="module" src="{{static}}/console.js"></script><link href="{{static}}/console.css">'
FILES = {
    "index.html": INDEX,
    "console.js": b"console\n" * 100,
    "console.css": b"",
    "vendor/a.min.js": b"a\n" * 100,
    "vendor/LICENSE.txt": b"MIT\n" * 100,
}


@pytest.fixture
def page() -> ConsolePage:
    return console_page(FILES)


def lay(folder: Path, contents: dict[str, bytes]) -> Path:
    """Write files into a folder, and return it."""
    for name, body in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def test_the_page_says_where_its_files_are(page: ConsolePage) -> None:
    """Every place that stands for that is filled, and none begins with a slash, so that a prefix may stand before."""
    text = page.index.body.decode()
    assert text.count(f'"console/{page.digest}/console.') == 2
    assert "{{" not in text
    assert "index.html" not in page.files


def test_a_folder_is_read_with_what_lies_below(tmp_path: Path, page: ConsolePage) -> None:
    """Names are relative to the folder, with slashes."""
    assert read_console(lay(tmp_path, FILES)) == page


@pytest.mark.parametrize("name", [".console.js.swp", "notes.md", "console.js.map", "a.py", "b.html", "LICENSE", ".js"])
def test_what_is_none_of_the_pages_is_not_served(tmp_path: Path, page: ConsolePage, name: str) -> None:
    """Editors' files, notes, code of ours and further pages neither have an address nor change those of the others."""
    assert read_console(lay(tmp_path, {**FILES, name: b"x"})) == page


def test_links_are_not_followed(tmp_path: Path, page: ConsolePage) -> None:
    """A link to a file, or to a folder, or to nothing, is as if it were not there."""
    folder, elsewhere = lay(tmp_path / "own", FILES), lay(tmp_path / "other", {"secret.txt": b"secret"})
    (folder / "secret.txt").symlink_to(elsewhere / "secret.txt")
    (folder / "other").symlink_to(elsewhere, target_is_directory=True)
    (folder / "gone.js").symlink_to(tmp_path / "gone.js")
    (folder / "folder.js").mkdir()
    assert read_console(folder) == page


def test_a_folder_without_a_page_is_none(tmp_path: Path) -> None:
    """A link in the page's place is none either."""
    elsewhere = lay(tmp_path / "other", FILES)
    folder = lay(tmp_path / "own", {"console.js": b""})
    (folder / "index.html").symlink_to(elsewhere / "index.html")
    with pytest.raises(KeyError):
        read_console(folder)


@pytest.mark.parametrize(
    "other",
    [
        {**FILES, "index.html": INDEX + b" "},
        {**FILES, "console.css": b" "},
        {**FILES, "vendor/b.js": b""},
        {name: body for name, body in FILES.items() if name != "console.css"},
        {("console.mjs" if name == "console.js" else name): body for name, body in FILES.items()},
        {**FILES, "console.js": FILES["vendor/a.min.js"], "vendor/a.min.js": FILES["console.js"]},
    ],
    ids=["the page", "a byte", "one more", "one less", "a name", "two changed places"],
)
def test_every_address_changes_when_anything_does(other: dict[str, bytes]) -> None:
    """The digest is of all names and all bytes."""
    assert digest_of(other) != digest_of(FILES)


def test_the_digest_is_of_what_there_is_and_not_of_how_it_was_found() -> None:
    """Neither the order counts, nor can the end of a name be taken for the beginning of a file."""
    assert digest_of(dict(reversed(FILES.items()))) == digest_of(FILES)
    assert len(digest_of(FILES)) == 16
    assert digest_of({"a.js": b"b"}) != digest_of({"a.jsb": b""}) != digest_of({"a": b".jsb"})


def test_files_are_packed_where_that_saves_something(page: ConsolePage) -> None:
    """Packed is the same, smaller, and the same each time; each of both has a tag of its own."""
    for name, file in page.files.items():
        assert file.body == FILES[name]
        assert (file.packed is None) == (name == "console.css")
        if file.packed is not None:
            assert gzip.decompress(file.packed) == file.body
            assert len(file.packed) < len(file.body)
        assert len({file.tag, file.packed_tag}) == 2
    assert console_page(FILES) == page


def test_files_say_what_they_are(page: ConsolePage) -> None:
    """Scripts must be scripts, or a browser that may not guess runs none."""
    assert page.index.content_type == "text/html; charset=utf-8"
    assert {name: file.content_type.partition(";")[0] for name, file in page.files.items()} == {
        "console.js": "text/javascript",
        "console.css": "text/css",
        "vendor/a.min.js": "text/javascript",
        "vendor/LICENSE.txt": "text/plain",
    }


@pytest.mark.parametrize(
    ("if_none_match", "has_it"),
    [
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x","abc" ,W/"y"', True),
        ('"x", W/"abc"', True),
        ("*", True),
        (" * ", True),
        ("", False),
        ('"abd"', False),
        ('"abc-gzip"', False),
        ("abc", False),
        ('"ABC"', False),
        ('"x*", "*"', False),
        ('"a"abc"b"', False),
        ('"a"b"abc', False),
        ('"x, abc"', False),
        ('"abc', False),
    ],
)
def test_a_browser_names_what_it_has(if_none_match: str, has_it: bool) -> None:
    """`If-None-Match` is a list of tags, weak or not, or `*`; whatever else it is, the file is sent."""
    assert is_named(if_none_match, '"abc"') is has_it
