"""The library that the page brings along is the published one, byte for byte."""

import json
from pathlib import Path

from tests.needs import lack

PAGE = Path(__file__).parents[2] / "app" / "ops" / "console"
NPM = Path(__file__).parent / "npm"


def test_the_vendored_library_is_the_published_one() -> None:
    """What is in `vendor/` is the file of the npm package whose version the notice and the lock name."""
    package = NPM / "node_modules" / "markdown-it"
    if not package.is_dir():
        lack("npm's packages are not installed; to run this test: make console-page")
    version = json.loads((package / "package.json").read_text())["version"]
    vendor = PAGE / "vendor"
    published = package / "dist" / "browser" / "markdown-it.esm.min.mjs"
    assert (vendor / "markdown-it.esm.min.js").read_bytes() == published.read_bytes()
    assert f"markdown-it {version}" in (vendor / "NOTICE.txt").read_text()
    assert (package / "LICENSE").read_text().strip() in (vendor / "LICENSE.txt").read_text()
