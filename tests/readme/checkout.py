"""A reader's desk: a copy of the checkout, servers that run beside it, and a shell in which commands are typed.

Documents write `127.0.0.1:8000`. A command is typed as it is written, but for that address: it becomes the one of a
server of the tests, here in `typed` and nowhere else. Nothing is written into the checkout itself.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.needs import need_program
from tests.readme.documents import ROOT
from tests.server.process import ServerProcess, run_command

WRITTEN = "127.0.0.1:8000"
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "var", "__pycache__", ".*_cache", ".hypothesis", "node_modules", ".env", "*.png"
)
LINKED = (".venv", "clients/typescript/node_modules", "tests/front_end/npm/node_modules")
COMMAND_S = 60.0
SECRET = "a secret of thirty-two bytes or more"


def copied(folder: Path) -> Path:
    """Copy the checkout to `folder`, with what make installed linked into it."""
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
    for name in LINKED:
        if (ROOT / name).exists():
            (folder / name).symlink_to((ROOT / name).resolve())
    for lock in folder.glob("requirements*.lock"):
        os.utime(lock, (0, 0))  # older than what was installed: make has nothing to install
    return folder


@dataclass(slots=True)
class Desk:
    """Where commands are typed. `servers` are by the name that rules have for them."""

    folder: Path
    servers: Mapping[str, ServerProcess]
    exported: dict[str, dict[str, str]] = field(default_factory=dict)
    """What each document had its reader export so far."""

    def typed(self, text: str, server: str) -> str:
        """Return what is typed, where the server has another address than the documents'."""
        return text.replace(WRITTEN, self.servers[server].url.removeprefix("http://"))

    def environment(self, server: str, document: str, **given: str) -> dict[str, str]:
        """Return what a command finds around it: the settings of its server, and what its document exported."""
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "BIND": self.servers[server].url.removeprefix("http://"),
            "EMBEDDED_LLM": "scripted",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return {**own, **given, **self.exported.get(document, {})}

    def run(self, text: str, server: str, document: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Type a command into a shell and return what came of it."""
        shell = [need_program("bash", "install bash"), "-c", self.typed(text, server)]
        need_program("curl", "install curl")
        return subprocess.run(
            shell,
            cwd=self.folder,
            env=self.environment(server, document, **given),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def token(self) -> str:
        """Return a token that the server with a secret takes."""
        minted = run_command(self.folder, "token", "--user", "demo", SUPABASE_JWT_SECRET=SECRET)
        assert minted.returncode == 0, minted.stderr
        return minted.stdout.strip()
