"""The pure modules of the console's page, run by node: stream, turn, axis, view, words, Markdown and others."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.needs import need_program

UNIT = Path(__file__).parent / "unit"
MODULES = sorted(path.name for path in UNIT.glob("*.test.mjs"))


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    """Every fact that the file states of its module holds, and it states some."""
    node = need_program("node", "apt-get install nodejs")
    command = [node, "--test", "--test-reporter=tap", str(UNIT / name)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = re.search(r"^# pass (\d+)$", ran.stdout, re.MULTILINE)
    assert passed
    assert int(passed[1]) >= 5
