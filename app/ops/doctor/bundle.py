"""What a support request needs, as one file that nobody else may read; there is no secret and no message in it."""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.errors import StartError

TURN_LOG_LINES = 200
TAIL_BYTES = 64 << 10
"""Some 300 lines of a turn log."""
TURN_FIELDS = ("turn", "arrived", "wait_s", "service_s", "tokens_in", "tokens_out", "outcome", "reason", "plan")
PRIVATE = 0o600


def check_place(file: Path) -> None:
    """Make sure that a new file can be made there, before anything else is done; nothing that is there is replaced.

    Raises:
        StartError: it cannot.
    """
    try:
        if os.path.lexists(file):
            raise StartError(f"--bundle: {file} is there already: name a new file")
        if not file.absolute().parent.is_dir():
            raise StartError(f"--bundle: {file} must be in a folder that is there")
    except OSError as exc:
        raise StartError(f"--bundle: cannot look at {file}: {exc.strerror or type(exc).__name__}") from None


def write(file: Path, document: Mapping[str, Any]) -> None:
    """Write the document, whole or not at all, for its owner's eyes only.

    Raises:
        StartError: that failed.
    """
    data = json.dumps(document, ensure_ascii=False, indent=1, default=str).encode("utf-8", "replace") + b"\n"
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        _write_new(beside, data)
        os.replace(beside, file)
    except OSError as exc:
        raise StartError(f"--bundle: cannot write {file}: {exc.strerror or type(exc).__name__}") from None
    finally:
        with suppress(OSError):
            beside.unlink()


def _write_new(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)


def turn_log_tail(path: Path | None) -> list[dict[str, Any]]:
    """Return the times of the last turns that TURN_LOG has; only fields that hold no text of anybody's."""
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines()[-TURN_LOG_LINES:]
    except OSError:
        return []
    return [turn for turn in map(_turn, lines) if turn]


def _turn(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):  # half a line, where the file was cut
        return {}
    return {name: fields[name] for name in TURN_FIELDS if name in fields} if isinstance(fields, dict) else {}
