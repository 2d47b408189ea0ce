"""What runs here: our version and those of what we stand on. Reads files, so a server asks for it in a thread."""

import platform
import sqlite3
from functools import cache
from importlib.metadata import PackageNotFoundError, version

VERSION = "0.1.0"
PACKAGES = ("trio", "quart-trio", "quart", "hypercorn", "httpx", "pydantic", "opentelemetry-sdk",
            "opentelemetry-exporter-otlp-proto-http", "opentelemetry-instrumentation-httpx")  # fmt: skip


@cache
def versions() -> dict[str, str]:
    """Return versions by name."""
    return {
        "nursery-chat": VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
        **{name: _installed(name) for name in PACKAGES},
    }


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
