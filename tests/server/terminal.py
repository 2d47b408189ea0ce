"""`python -m app ...` on a terminal of its own, as somebody at a keyboard has it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.server.process import WAIT_S, environment


class Terminal:
    """A running command; `shown` is all that it has written so far."""

    def __init__(self, folder: Path, *arguments: str, rows: int = 24, columns: int = 80, **settings: str) -> None:
        self.shown = ""
        self._keyboard, self._screen = pty.openpty()
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.modes_before = self.modes()
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=folder,
            env={**environment(folder / "data"), "TERM": "xterm-256color", **settings},
            stdin=self._screen,
            stdout=self._screen,
            stderr=self._screen,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def modes(self) -> list[Any]:
        """Return what the terminal is set to: echo, line editing and so on."""
        return termios.tcgetattr(self._screen)

    def wait_for(self, text: str, after: int = 0) -> int:
        """Wait until `text` stands in what was written from `after` on; return where it ends."""
        with self._changed:
            found = self._changed.wait_for(lambda: text in self.shown[after:], WAIT_S)
            assert found, f"not seen: {text!r} in {self.shown[after:][-3000:]}"
            return self.shown.index(text, after) + len(text)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        """End it by all means."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._screen)
        self._reader.join(WAIT_S)
        os.close(self._keyboard)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._keyboard, 65536)
            except OSError:  # the last who had the screen open is gone
                return
            with self._changed:
                self.shown += data.decode("utf-8", "replace")
                self._changed.notify_all()


@contextmanager
def on_terminal(folder: Path, *arguments: str, **options: Any) -> Iterator[Terminal]:
    """Run a command on a terminal until the block ends."""
    terminal = Terminal(folder, *arguments, **options)
    try:
        yield terminal
    finally:
        terminal.close()
