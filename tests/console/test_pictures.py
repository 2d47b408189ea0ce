"""The pictures of the documents can be taken anew, and are of what they should be."""

import struct
from pathlib import Path

from playwright.sync_api import Browser

from tests.console.pictures import take

DOCS = Path(__file__).parents[2] / "docs"
WIDTHS = {"console.png": 1280, "console-dark.png": 1280, "console-phone.png": 390}


def size(path: Path) -> tuple[int, int]:
    """Return a PNG's width and height."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


def test_the_pictures_are_taken(browser: Browser, tmp_path: Path) -> None:
    """One command takes them all; each is as wide as its screen, and none is of an empty page."""
    taken = {path.name: path for path in take(browser, tmp_path, rounds=1)}
    assert taken.keys() == {*WIDTHS, "waterfall.png"}
    assert {name: size(taken[name])[0] for name in WIDTHS} == WIDTHS
    for path in taken.values():
        assert min(size(path)) > 200
        assert path.stat().st_size > 20_000
        assert (DOCS / path.name).exists(), f"make pictures makes {path.name}"
