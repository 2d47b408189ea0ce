"""The extended server as the first process of a session of its own, so that all of its process group can be signalled.

python -m tests.server.own_session serve
"""

import os
from pathlib import Path

from tests.server import extended


def members(session: int) -> set[int]:
    """Return the processes of a session that live, with the children of children and whoever adopted them."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, _group, its_session = entry.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if int(its_session) == session and state not in "ZX":
            found.add(int(entry.parent.name))
    return found


if __name__ == "__main__":
    os.setsid()
    extended.main()
