"""A PostgreSQL cluster of the tests' own, on a unix socket, that lives as long as its keeper's input pipe is open.

The keeper is a shell that starts the server, waits for the end of its input, stops the server and removes the folder.
So the server ends when its fixture ends, and also when the test process is killed and no fixture runs any more.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.needs import lack, need_program

SUPERUSER = "postgres"
START_TIMEOUT_S = 60  # for a machine that is busy with other things; it takes about one second

# Nothing is lost that a test would miss when its cluster ends, so nothing has to reach the disk.
SERVER_OPTIONS = " ".join(
    f"-c {option}"
    for option in (
        "listen_addresses=''",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "max_connections=60",
        "shared_buffers=32MB",
        "timezone=UTC",
    )
)

MEMORY, MEMORY_NEEDED = Path("/dev/shm"), 4 << 30  # a database is 7 MB in 300 files, and there are some two hundred

KEEPER = """
"$1/pg_ctl" start --wait -D data -l server.log -o "$2" >/dev/null && echo ready || echo failed
cat >/dev/null
"$1/pg_ctl" stop --wait -m immediate -D data >/dev/null
cd / && rm -rf "$3"
"""


@contextmanager
def open_cluster() -> Iterator[Path]:
    """Start an empty cluster, give the folder of its socket, and end it on leaving.

    Skips the calling test where PostgreSQL is not installed (fails under REQUIRE_ALL=1).
    """
    initdb = need_program("initdb", "apt-get install postgresql", "/usr/lib/postgresql/*/bin")
    owner = _owner()
    # Not pytest's folder: the server's user may not enter it, and a socket's path has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_room()))
    try:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        flags = ["-D", "data", "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run([initdb, *flags], check=True, stdout=subprocess.DEVNULL, **_as_owner(owner, folder))
        with _kept_running(Path(initdb).parent, folder, owner):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _kept_running(programs: Path, folder: Path, owner: pwd.struct_passwd) -> Iterator[None]:
    options = f"-k {folder} {SERVER_OPTIONS}"
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", KEEPER, "keeper", programs, options, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the tests alone; the keeper then sees its input end
        **_as_owner(owner, folder),
    )
    with keeper:  # closes the input, waits for the end
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"ready\n":
            raise RuntimeError(f"PostgreSQL did not start: {(folder / 'server.log').read_text()}")
        yield


def _room() -> Path:
    """Return where the cluster goes: into memory where that is large, for removing it from a disk takes 20 s."""
    try:
        if shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED and os.access(MEMORY, os.W_OK):
            return MEMORY
    except OSError:
        pass
    return Path("/tmp")


def _owner() -> pwd.struct_passwd:
    """The account that runs the server: our own, but never root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        lack(
            "root may not run PostgreSQL and there is no user `postgres`; to run this test: apt-get install postgresql"
        )
        raise


def _as_owner(owner: pwd.struct_passwd, folder: Path) -> dict[str, Any]:
    """Arguments of `subprocess`: run as `owner` in `folder`, deaf to the caller's PG* variables and locale."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGCTLTIMEOUT": str(START_TIMEOUT_S)}
    if owner.pw_uid == os.geteuid():
        return {"cwd": folder, "env": environment}
    return {"cwd": folder, "env": environment, "user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
