"""schemathesis against the real server over a socket: no 5xx but those that are described, no undescribed answer."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.contract.operations import OPERATIONS
from app.receive.auth.tokens import TokenRules, mint
from tests.server.process import PROJECT_ROOT, running

HERE = Path(__file__).parent
SECRET, OPS = "a-secret-of-the-fuzz-run-of-32-bytes-or-more", "the-ops-token-of-the-fuzz-run"
RULES = TokenRules(audience="authenticated", issuer=None)
CLI = "from schemathesis.cli import schemathesis; schemathesis()"


def fuzz(folder: Path, *options: str, **settings: str) -> str:
    """Run schemathesis against a server of its own; return what it printed, which says that nothing is wrong."""
    settings = {"OPS_TOKEN": OPS, "SUPABASE_JWT_SECRET": SECRET, "AUTH_MODE": "supabase", **settings}
    with running(folder / "data", **settings) as server:
        variables = {
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT),
            "SCHEMATHESIS_HOOKS": "tests.contract.fuzz_hooks",
            "FUZZ_USER_TOKEN": mint("fuzz", SECRET, RULES, now=time.time(), valid_s=7200),
            "FUZZ_OPS_TOKEN": OPS,
        }
        command = [
            *(sys.executable, "-c", CLI, "--config-file", str(HERE / "schemathesis.toml"), "run"),
            *(f"{server.url}/openapi.json", "--checks", "all", "--no-color", "--request-timeout", "20"),
            *("--suppress-health-check", "all", "--continue-on-failure", *options),
        ]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    told = "\n".join(line[:500] for line in (done.stdout + done.stderr).splitlines())  # bodies may be long
    assert done.returncode == 0, told
    return told


def test_a_seeded_slice_of_requests_is_answered_as_described(tmp_path: Path) -> None:
    """The examples, and some made-up requests, good and bad, to every operation."""
    told = fuzz(tmp_path, "--seed", "20261123", "--max-examples", "3", "--phases", "examples,fuzzing")
    assert f"{len(OPERATIONS)} selected / {len(OPERATIONS)} total" in told


@pytest.mark.soak
@pytest.mark.parametrize("limited", ["false", "true"])
def test_whatever_is_requested_is_answered_as_described(tmp_path: Path, limited: str) -> None:
    """Many more of them, and sequences of requests, with and without the limit of a user's turns."""
    options = ("--max-examples", "60", "--phases", "examples,fuzzing,stateful")
    fuzz(tmp_path, *options, ENABLE_CHAT_RATE_LIMIT=limited)


@pytest.mark.soak
def test_values_at_the_bounds_are_answered_as_described(tmp_path: Path) -> None:
    """Each bound of each field, and methods that are not described.

    A header that the contract does not name is no wrong request, which this phase takes it for.
    """
    told = fuzz(tmp_path, "--phases", "coverage", "--exclude-checks", "negative_data_rejection")
    assert f"{len(OPERATIONS)} selected / {len(OPERATIONS)} total" in told
