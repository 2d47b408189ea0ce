"""The tests' own PostgreSQL never outlives them."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.needs import need_program
from tests.supabase.cluster import SUPERUSER
from tests.supabase.migrations import ROOT

OPEN_CLUSTER = """
from tests.supabase.cluster import open_cluster
with open_cluster() as folder:
    print(folder, flush=True)
    input()
"""


def test_the_server_ends_with_a_killed_test_process() -> None:
    """When the process that opened a cluster is killed and cannot tidy up, the server ends all the same."""
    need_program("initdb", "apt-get install postgresql", "/usr/lib/postgresql/*/bin")
    command = [sys.executable, "-c", OPEN_CLUSTER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as opener:
        assert opener.stdout is not None
        folder = Path(opener.stdout.readline().strip())
        with psycopg.connect(f"host={folder} user={SUPERUSER} dbname=postgres") as connection:
            opener.kill()
            with pytest.raises(psycopg.OperationalError):  # the server's end is the end of this query
                connection.execute("select pg_sleep(60)")
