"""Variables of the environment that are not ours: those that name proxies, and OpenTelemetry's.

The `OTEL_*` ones are read by the OpenTelemetry SDK itself; this file only looks at which signals they switch on. Beside
`settings`, the only file that reads the environment.
"""

import os
import urllib.request
from typing import Literal
from urllib.parse import urlsplit

from app.errors import StartError


def proxy_for(url: str) -> str | None:
    """Return the proxy's URL that the standard variables (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, ...) name for a URL.

    Raises:
        StartError: it is none that can be used.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]  # typeshed lacks it
        return None
    proxies = urllib.request.getproxies_environment()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named:
        return None
    proxy = named if "://" in named else f"http://{named}"  # as curl reads it
    if not _is_address(proxy):
        raise StartError(f"{parts.scheme.upper()}_PROXY or ALL_PROXY: must be the address of an HTTP proxy")
    return proxy


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half a bracket, or a port that is none
        return False


def otel_exports(signal: Literal["traces", "metrics"]) -> bool:
    """Return whether the standard variables ask for OTLP export of a signal."""
    if otel_disabled():
        return False
    chosen = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return chosen != "none" and any(os.environ.get(name) for name in endpoints)


def otel_span_queue() -> int | None:
    """Return the standard bound of the spans that wait for export, when it is set to a number."""
    size = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "")
    return int(size) if size.isdecimal() and int(size) > 0 else None


def otel_disabled() -> bool:
    """Return whether `OTEL_SDK_DISABLED` switches telemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
