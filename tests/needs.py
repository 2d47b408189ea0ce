"""Programs that some tests need: without one they skip with a line that says how to get it, or fail (REQUIRE_ALL=1)."""

import os
import shutil
from pathlib import Path

import pytest


def need_program(name: str, how: str, *also_in: str) -> str:
    """Return the path of program `name`, searched on PATH and in the folders `also_in` (globs allowed).

    Skips the calling test when it is missing, with `how` to get it; fails instead when REQUIRE_ALL=1.
    """
    if found := shutil.which(name):
        return found
    for pattern in also_in:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            if (folder / name).exists():
                return str(folder / name)
    return lack(f"{name} is not installed; to run this test: {how}")


def lack(reason: str) -> str:
    """Skip the calling test for `reason`, or fail it under REQUIRE_ALL=1."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
