"""The README quotes the proxies' files, and they are short enough to be quoted."""

import re

import pytest

from tests.server.process import PROJECT_ROOT

QUOTED = ("nginx.conf", "Caddyfile")
LINES_MAX = 44
READMES = ("README.md", "README.ja.md")


@pytest.mark.parametrize("readme", READMES)
@pytest.mark.parametrize("name", QUOTED)
def test_the_readme_has_the_file_as_it_is(name: str, readme: str) -> None:
    """A fenced block of each README is the file, to the letter."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```$", (PROJECT_ROOT / readme).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert (PROJECT_ROOT / "deploy" / name).read_text("utf-8") in blocks


@pytest.mark.parametrize("name", QUOTED)
def test_the_file_is_short(name: str) -> None:
    """It can be read at one glance, without scrolling sideways."""
    lines = (PROJECT_ROOT / "deploy" / name).read_text("utf-8").splitlines()
    assert len(lines) <= LINES_MAX
    assert max(map(len, lines)) <= 130
